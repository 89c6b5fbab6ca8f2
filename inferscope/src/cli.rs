//! The command line.
//!
//! Owns the flags, their help and their environment variables; decides nothing (`plan` does).
//! Parsed by `main`.

mod load;
mod notes;
mod observe;
mod output;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use load::{ApiArg, ArrivalArg, LoadArgs};
use notes::{EXAMPLES, EXEC_NOTES, NOTES};
pub use observe::{ObserveArgs, TargetArgs, TrackerArg};
pub use output::{ColorArg, OutputArgs, RedactArg};
pub use usage::{EarlyExit, manual, parse};

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
