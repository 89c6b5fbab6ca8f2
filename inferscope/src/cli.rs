//! The command line.
//!
//! Owns the flags, their help and their environment variables; decides nothing (`plan` does).
//! Parsed by `main`.

mod load;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{plan, secrets};

pub use load::{ApiArg, ArrivalArg, LoadArgs};
pub use usage::{EarlyExit, manual, parse};

const NOTES: &str = "\
`inferscope --help` has every flag, and examples.";

const EXAMPLES: &str = "\
Each flag is an environment variable, too: --max-tokens is INFERSCOPE_MAX_TOKENS. The flag wins.

Examples:
  See it work, on a built-in server
    inferscope demo
  One request; the process that listens there is found, and observed with all below it
    inferscope --endpoint http://127.0.0.1:8000
  Closed loop: 8 requests under way at any time, 200 in all, 8 before them as warm-up
    inferscope --endpoint http://127.0.0.1:8000 --concurrency 8 --requests 200 --warmup 8 -o run.json
  Open loop: 5 requests a second for a minute, whether or not the server keeps up
    inferscope --endpoint http://127.0.0.1:8000 --rate 5 --duration 60s
  Sweep: up to where more concurrency gives no more tokens; prompts of 512 tokens, none beginning alike
    inferscope --endpoint http://127.0.0.1:8000 --sweep concurrency=1,2,4,8,16 --duration 30s --input-tokens 512
  Data set: each of its prompts once, 4 at a time
    inferscope --endpoint http://127.0.0.1:8000 --dataset sharegpt.jsonl --concurrency 4
  Service level: exit 4 where a request misses it
    inferscope --endpoint http://127.0.0.1:8000 --rate 5 --duration 60s --slo ttft=200ms,itl=30ms --fail-on-slo
  How far runs agree: five of them, with 95% intervals
    inferscope --endpoint http://127.0.0.1:8000 --concurrency 8 --requests 100 --repeat 5

Exit codes:
  0 ok · 1 internal failure · 2 usage · 3 nothing measured · 4 service level missed (--fail-on-slo)
  5 a privilege asked for by name is missing · 130 interrupted (SIGINT, SIGTERM, SIGHUP, SIGQUIT), the report of what
  was measured still written; where nothing was, an older report in its place is left as it was";

const EXEC_NOTES: &str = "\
Without --endpoint the command is observed until it ends, or for --duration. With it, the load begins when the
endpoint answers and the command is ended after it: SIGTERM, --grace, SIGKILL, for all that it started.

The command runs in a cgroup of its own where one can be made, which is removed afterwards. What it leaves
running when it ends by itself is left running. Signals sent to inferscope reach it; SIGINT, SIGTERM, SIGHUP and
SIGQUIT end the run too, with all that the command left, and a second one kills it. Where inferscope itself is
killed, the command is ended.

Standard output is the report's alone: the command's goes to standard error, or where --command-output says.

Exit codes: 0 when the run was measured, however the command ended (see target.exit in the report, and stderr);
2 when it can't be run; 3 when it ended, or the time was up, before the endpoint answered; 4 where --fail-on-slo was
missed; 130 after a signal, the report still written.

Examples:
  inferscope exec -- make -j8
  inferscope exec --endpoint http://127.0.0.1:8000 --requests 20 --warmup 2 -o run.json -- vllm serve MODEL";

/// Profile an LLM inference server: every token, the whole process tree and the GPUs on one clock.
#[derive(Debug, Parser)]
#[command(
    name = "inferscope",
    version,
    about,
    after_help = NOTES,
    after_long_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub profile: ProfileArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Drive an OpenAI-compatible server and observe it (the default command)
    #[command(after_help = NOTES, after_long_help = EXAMPLES)]
    Profile(Box<ProfileArgs>),
    /// Observe only, send nothing, until Ctrl-C, --duration or the target's end
    Observe(Box<ObserveCommandArgs>),
    /// Start a command and observe it from its first instruction; with --endpoint, drive it
    #[command(after_help = EXEC_NOTES)]
    Exec(Box<ExecArgs>),
    /// The whole thing on a built-in fork-heavy server; nothing else needed
    Demo(Box<DemoArgs>),
    /// Tell what works here and what would help: privileges, BTF, cgroups, NVML, clock
    Doctor(DoctorArgs),
    /// Print the report's JSON Schema
    Schema,
    /// Print a shell's completion script
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    Man,
    /// The demo's server: what `demo` starts behind its wrapper
    #[command(hide = true, name = "demo-server")]
    DemoServer(DemoServerArgs),
    /// The short-lived process that the demo's workers run for each request
    #[command(hide = true, name = "demo-helper")]
    DemoHelper,
}

impl Command {
    /// Whether a report comes of it, which a signal must not cost.
    #[must_use]
    pub const fn measures(&self) -> bool {
        matches!(self, Self::Profile(_) | Self::Observe(_) | Self::Exec(_) | Self::Demo(_))
    }
}

#[derive(Debug, Clone, Args)]
pub struct ProfileArgs {
    /// Base URL of the server, with or without /v1 [env also: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL", env = "INFERSCOPE_ENDPOINT", help_heading = "Server")]
    pub endpoint: Option<String>,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub observe: ObserveArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ObserveCommandArgs {
    /// The target is what listens here, where no other is named; nothing is sent to it
    #[arg(long, value_name = "URL", env = "INFERSCOPE_ENDPOINT", help_heading = "Target")]
    pub endpoint: Option<String>,
    /// End after this long [default: at Ctrl-C, or when the target ends]
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, env = "INFERSCOPE_DURATION", help_heading = "Target")]
    pub duration: Option<Duration>,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub observe: ObserveArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ExecArgs {
    /// Drive the server that the command starts, once it answers here
    #[arg(long, value_name = "URL", env = "INFERSCOPE_ENDPOINT", help_heading = "Server")]
    pub endpoint: Option<String>,
    /// Longest wait for the endpoint's first answer
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "120s", env = "INFERSCOPE_READY_TIMEOUT", help_heading = "Server")]
    pub ready_timeout: Duration,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Time between SIGTERM and SIGKILL where the command has to be ended
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "10s", env = "INFERSCOPE_GRACE", help_heading = "Target")]
    pub grace: Duration,
    /// Where both output streams of the command go: stderr, null, or a file
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "stderr",
        env = "INFERSCOPE_COMMAND_OUTPUT",
        help_heading = "Output"
    )]
    pub command_output: PathBuf,
    #[command(flatten)]
    pub observe: ObserveArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// The command to run and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// Watch the process tree rooted at N [default: what listens at --endpoint]
    #[arg(long, value_name = "N", env = "INFERSCOPE_PID", help_heading = "Target")]
    pub pid: Option<u32>,
    /// Watch every process in this cgroup and below
    ///
    /// A path, absolute or relative to the cgroup mount.
    #[arg(
        long,
        value_name = "PATH",
        env = "INFERSCOPE_CGROUP",
        conflicts_with_all = ["pid", "cgroup_of"],
        help_heading = "Target"
    )]
    pub cgroup: Option<PathBuf>,
    /// Watch the cgroup that process PID is in
    #[arg(
        long,
        value_name = "PID",
        env = "INFERSCOPE_CGROUP_OF",
        conflicts_with = "pid",
        help_heading = "Target"
    )]
    pub cgroup_of: Option<u32>,
    /// Leave processes that are moved out of the cgroup, with all that they fork from then on
    #[arg(long, env = "INFERSCOPE_STRICT_CGROUP", hide_short_help = true, help_heading = "Target")]
    pub strict_cgroup: bool,
    /// Accepted for users of the older flag: the whole tree is the default
    #[arg(long, conflicts_with = "no_descendants", hide_short_help = true, help_heading = "Target")]
    pub include_descendants: bool,
    /// Watch --pid alone
    #[arg(long, env = "INFERSCOPE_NO_DESCENDANTS", hide_short_help = true, help_heading = "Target")]
    pub no_descendants: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ObserveArgs {
    /// How to follow the processes
    #[arg(long, value_enum, default_value = "auto", env = "INFERSCOPE_TRACKER", help_heading = "Target")]
    pub tracker: TrackerArg,
    /// Time between two looks at /proc and NVML
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "50ms", env = "INFERSCOPE_SAMPLE_INTERVAL", hide_short_help = true, help_heading = "Target")]
    pub sample_interval: Duration,
    /// Size of the kernel's event ring; raise it when the report says that records were lost
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "2M",
        env = "INFERSCOPE_RING_SIZE",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub ring_size: String,
    /// Processes to list one by one; more are counted and summed
    #[arg(
        long,
        value_name = "N",
        default_value_t = 200_000,
        env = "INFERSCOPE_MAX_PROCESSES",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub max_processes: usize,
    /// Most memory of inferscope itself; what a server sends beyond fails its request
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "512M",
        env = "INFERSCOPE_MAX_MEMORY",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub max_memory: String,
    /// GPUs: auto, off, all, indices (0,2) or UUIDs
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "auto",
        env = "INFERSCOPE_GPU",
        help_heading = "Target"
    )]
    pub gpu: String,
    /// Load NVML from this file
    #[arg(
        long,
        value_name = "FILE",
        env = "INFERSCOPE_NVML_LIB",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub nvml_lib: Option<PathBuf>,
    /// Where there are GPUs, wait so long before the load: what they use at rest
    ///
    /// With `exec` and no load: before the command is let run.
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "1s", env = "INFERSCOPE_GPU_BASELINE", hide_short_help = true, help_heading = "Target")]
    pub gpu_baseline: Duration,
    /// What a GPU costs an hour: 2.5, or by a part of its name H100=2.5,L4=0.8 (repeatable)
    #[arg(
        long,
        value_name = "[NAME=]PRICE",
        value_delimiter = ',',
        env = "INFERSCOPE_PRICE_PER_HOUR",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub price_per_hour: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print the JSON report instead of the text
    #[arg(long, env = "INFERSCOPE_JSON", help_heading = "Output")]
    pub json: bool,
    /// Write the JSON report to FILE as well, the text where it ends in .txt
    ///
    /// Can be given several times.
    /// A file is replaced by a whole new one when the report is complete: until then, and where the disk is full, an
    /// older report stays. A symbolic link is kept, and what it leads to is replaced. - is standard output, for the
    /// JSON. A FIFO needs its reader first.
    #[arg(short, long, value_name = "FILE", env = "INFERSCOPE_OUTPUT", help_heading = "Output")]
    pub output: Vec<PathBuf>,
    /// Who may read and write the files of -o, as chmod(1) takes it in octal
    ///
    /// A report names processes, paths and arguments.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "0600",
        value_parser = plan::parse_mode,
        env = "INFERSCOPE_REPORT_MODE",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub report_mode: u32,
    /// Print no progress and no hints
    #[arg(long, env = "INFERSCOPE_QUIET", help_heading = "Output")]
    pub quiet: bool,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        env = "INFERSCOPE_COLOR",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub color: ColorArg,
    /// What the report holds of command lines and prompts; a known API key it never does
    #[arg(
        long,
        value_enum,
        default_value = "names",
        env = "INFERSCOPE_REDACT",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub redact: RedactArg,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Requests to measure
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub requests: u64,
    /// Worker processes that the server pre-forks
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub workers: u32,
    #[arg(long, value_enum, default_value = "auto")]
    pub tracker: TrackerArg,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Print JSON instead of the text
    #[arg(long, env = "INFERSCOPE_JSON")]
    pub json: bool,
    /// Load NVML from this file
    #[arg(long, value_name = "FILE", env = "INFERSCOPE_NVML_LIB")]
    pub nvml_lib: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct DemoServerArgs {
    /// Where to listen on 127.0.0.1 [default: where there is room]
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    #[arg(long, default_value_t = 2)]
    pub workers: u32,
    /// A worker is replaced after this many requests
    #[arg(long, default_value_t = 4)]
    pub max_requests: u32,
    /// Time from a request to its first token
    #[arg(long, value_parser = humantime::parse_duration, default_value = "40ms")]
    pub first_token: Duration,
    /// Time between two tokens
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10ms")]
    pub token_interval: Duration,
    /// The server ends itself after this long
    #[arg(long, value_parser = humantime::parse_duration, default_value = "300s")]
    pub lifetime: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TrackerArg {
    /// eBPF where it can be loaded, else /proc
    Auto,
    /// eBPF, or exit 5
    Ebpf,
    /// /proc polling: misses what lives between two ticks
    Proc,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ColorArg {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RedactArg {
    /// The names of flags, and values that are known to be harmless
    Names,
    /// Neither
    Full,
    /// Command lines as they are
    Off,
}

impl From<RedactArg> for secrets::Redact {
    fn from(a: RedactArg) -> Self {
        match a {
            RedactArg::Names => Self::Names,
            RedactArg::Full => Self::Full,
            RedactArg::Off => Self::Off,
        }
    }
}

impl From<TrackerArg> for plan::TrackerChoice {
    fn from(a: TrackerArg) -> Self {
        match a {
            TrackerArg::Auto => Self::Auto,
            TrackerArg::Ebpf => Self::Ebpf,
            TrackerArg::Proc => Self::Proc,
        }
    }
}

impl From<ColorArg> for plan::ColorChoice {
    fn from(a: ColorArg) -> Self {
        match a {
            ColorArg::Auto => Self::Auto,
            ColorArg::Always => Self::Always,
            ColorArg::Never => Self::Never,
        }
    }
}
