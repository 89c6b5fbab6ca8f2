//! The JSON document, as types: schema_version 1 of docs/contract.md.
//!
//! Owns the shape of the report and nothing else: no arithmetic, no formatting. `build` fills
//! it, the other files of `report` turn it into bytes, `inferscope schema` prints its JSON Schema.
//!
//! Times are nanoseconds on the run's timeline (CLOCK_MONOTONIC minus `run.origin_monotonic_ns`)
//! where the name ends in `_ns` and it is a point, lengths where it is a duration. `null` means
//! unknown, never zero; a sibling `…_reason` says why.

mod energy;
mod gpus;
mod load;
mod processes;
mod resources;
mod timing;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use energy::{PrefillDecode, StepEnergy};
pub use gpus::{
    CounterSample, Counters, DriverSamples, FailedQuery, Gauges, Gpu, GpuLimits, GpuPoll, GpuProcess,
    GpuSample, GpuSummary, Interruption, LimitedBy, MigInstance, StepDevice,
};
pub use load::{
    ArrivalProcess, Chunk, ChunkKind, EndpointApi, ErrorKind, FailureGroup, InFlight, InFlightSample,
    Interval, Knee, Load, LoadShape, PromptSource, Repeat, Request, Step, Sweep, SweepVariable, TokenSource,
};
pub use processes::{
    Command, Exit, LostCounts, LostRecords, MissedRuns, Process, ProcessCounts, ProcessEvent,
    ProcessEventKind, Processes, ProcessesCpu, Role, Tracker,
};
pub use resources::{PeakKind, Resources, Sample, SizeBy, Stat};
pub use timing::{Dist, LeftOut, LoadWindow, Span, Timing};

pub const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub schema_version: u32,
    pub tool: Tool,
    pub host: Host,
    pub run: Run,
    /// What makes which figure doubtful, said by the tool itself. Empty or all `ok`: nothing does.
    pub validity: Vec<Validity>,
    pub target: Target,
    /// `null` when nothing was sent.
    pub load: Option<Load>,
    pub requests: Vec<Request>,
    /// Requests that were sent and found no room in `requests`. They are in every figure.
    pub requests_omitted: u64,
    /// `null` when nothing was sent, and for a sweep, whose steps have one each.
    pub timing: Option<Timing>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timing_reason: Option<String>,
    /// `--sweep`: one row a step.
    pub sweep: Option<Sweep>,
    pub processes: Processes,
    pub resources: Resources,
    pub gpus: Vec<Gpu>,
    /// Why `gpus` is empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpus_reason: Option<String>,
    /// The devices that the target uses, together; `null` where there are none.
    #[serde(default)]
    pub gpu_summary: Option<GpuSummary>,
    pub efficiency: Efficiency,
    /// `null` until this version can explain a slow token.
    pub stalls: Option<Vec<Stall>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stalls_reason: Option<String>,
    pub insights: Vec<Insight>,
    #[serde(rename = "self")]
    pub own: SelfCost,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    pub name: String,
    pub version: String,
    pub commit: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    pub hostname: Option<String>,
    pub kernel: Option<String>,
    pub boot_id: Option<String>,
    /// CPUs online, whoever may use them.
    pub cpus: Option<u32>,
    /// CPUs that inferscope itself may use, by its affinity mask.
    #[serde(default)]
    pub cpus_allowed: Option<u32>,
    /// CPUs' worth of time that the cgroups of inferscope leave it; `null`: no limit can be seen.
    #[serde(default)]
    pub cpu_quota: Option<f64>,
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub id: String,
    /// The subcommand.
    pub command: String,
    /// As typed, without secrets and prompts; empty where `redact` is `full`.
    pub argv: Vec<String>,
    /// What command lines hold, here and in `processes.list`: `names` of flags and what is known to be harmless, with `***`
    /// for the rest; nothing (`full`); everything (`off`).
    #[serde(default)]
    pub redact: Option<String>,
    pub mode: Mode,
    pub origin_monotonic_ns: u64,
    pub origin_unix_ns: u64,
    pub duration_ns: u64,
    pub interrupted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Load and observation.
    Profile,
    Observe,
    Exec,
    /// The built-in server: the tokens are synthetic.
    Demo,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validity {
    pub level: Level,
    /// Stable, for scripts.
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    Warn,
    Invalid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    pub kind: TargetKind,
    /// The root; the first where there are several.
    pub pid: Option<u32>,
    /// All roots.
    pub pids: Vec<u32>,
    pub cgroup: Option<String>,
    /// In words: the flag, or the socket that led to it.
    pub how_found: String,
    /// False with `--no-descendants`.
    pub descendants: bool,
    /// How the command of `exec` ended; `null` for other targets and where it still runs.
    pub exit: Option<Exit>,
    /// Why the end of a command of `exec` is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_reason: Option<String>,
    /// When the endpoint of a command of `exec` first answered; `null` where none was waited for.
    pub ready_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    Tree,
    Cgroup,
    Exec,
    None,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Efficiency {
    /// CPU of the whole set over the load's window, a token put out.
    pub cpu_ns_per_token: Option<f64>,
    /// The truth is within it.
    #[serde(default)]
    pub cpu_ns_per_token_error: Option<f64>,
    pub cpu_ns_per_request: Option<f64>,
    #[serde(default)]
    pub cpu_ns_per_request_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_reason: Option<String>,
    /// The part of `cpu_ns_per_token` that the set uses without a load, by the rest before it.
    #[serde(default)]
    pub cpu_idle_ns_per_token: Option<f64>,
    #[serde(default)]
    pub cpu_idle_ns_per_token_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_idle_reason: Option<String>,
    /// The rest before the load that `cpu_idle_ns_per_token` is by.
    #[serde(default)]
    pub cpu_rest: Option<Span>,
    /// Of the devices that the target uses, over the load's window; the truth is within the error.
    pub joules_per_token: Option<f64>,
    pub joules_per_token_error: Option<f64>,
    #[serde(default)]
    pub joules_per_request: Option<f64>,
    #[serde(default)]
    pub joules_per_request_error: Option<f64>,
    /// Without what the devices use at rest.
    #[serde(default)]
    pub joules_per_token_above_idle: Option<f64>,
    #[serde(default)]
    pub joules_per_token_above_idle_error: Option<f64>,
    pub tokens_per_joule: Option<f64>,
    #[serde(default)]
    pub tokens_per_joule_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub joules_reason: Option<String>,
    /// The energy before and after the first token, where only one request was in flight at a time.
    #[serde(default)]
    pub prefill_decode: Option<PrefillDecode>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prefill_decode_reason: Option<String>,
    /// All CPU packages of the machine (RAPL), over the load's window.
    #[serde(default)]
    pub cpu_package_joules: Option<f64>,
    #[serde(default)]
    pub cpu_package_joules_error: Option<f64>,
    #[serde(default)]
    pub cpu_joules_per_token: Option<f64>,
    #[serde(default)]
    pub cpu_joules_per_token_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_joules_reason: Option<String>,
    /// At the prices of `--price-per-hour`, in their currency, and at the measured output tokens/s.
    #[serde(default)]
    pub cost_per_million_tokens: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost_reason: Option<String>,
    /// What each figure of CPU and energy means, by name.
    #[serde(default)]
    pub definitions: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stall {
    pub request_id: u64,
    pub token_index: u64,
    pub gap_ns: u64,
    pub on_cpu_ns: Option<u64>,
    pub runnable_ns: Option<u64>,
    pub blocked_ns: Option<u64>,
    pub events: Vec<ProcessEvent>,
    pub gpu_busy_percent: Option<f64>,
    pub explanation: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Insight {
    /// Stable, for scripts.
    pub code: String,
    pub severity: Severity,
    pub headline: String,
    /// The figures behind it, by the report's own names.
    pub evidence: BTreeMap<String, serde_json::Value>,
    pub advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warn,
}

/// What the program's threads could do once they worked, as the kernel told it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Privileges {
    /// Started with more than its caller has (setcap or setuid).
    pub elevated: bool,
    /// `main` opens what needs a privilege and writes the report; `load` sends and parses what a server answers; `observer`
    /// watches the processes; `gpu` asks the driver's library; `collector` adds
    /// up what the others measure; `janitor`, a process, ends the command of `exec`.
    pub threads: BTreeMap<String, ThreadPrivileges>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ThreadPrivileges {
    /// Names of capabilities; `null`: not read.
    pub effective: Option<Vec<String>>,
    pub permitted: Option<Vec<String>>,
    pub no_new_privs: Option<bool>,
    /// A seccomp filter is in force that inferscope has set.
    pub seccomp: bool,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seccomp_reason: Option<String>,
    /// The thread opens files as this user does, and its sockets are this user's, where that is not the process's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files_as_uid: Option<u32>,
    /// Why it does not, where it would.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files_as_uid_reason: Option<String>,
}

/// What this program itself cost.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SelfCost {
    /// CPU time of all its threads from its first instructions on, without what its launcher used under the same pid.
    pub cpu_ns: Option<u64>,
    /// The most threads that it had where it looked: when the load began, and when the measuring ended, before any was
    /// joined.
    pub threads: Option<u64>,
    /// CPU time of the thread that sends and reads, while it had a load, and its share of that time.
    pub load_cpu_ns: Option<u64>,
    pub load_cpu_percent: Option<f64>,
    /// From the kernel's receipt of bytes to their reading; the stamps of `requests` are the kernel's.
    pub read_lag_ns: Option<Dist>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub read_lag_reason: Option<String>,
    /// Reads of the load that the kernel gave no time for: what they held is stamped when it was read.
    pub unstamped_reads: Option<u64>,
    /// How late that thread's timer was; it looks every 20 ms.
    pub timer_lag_ns: Option<Dist>,
    /// The peak of its resident memory since it was executed (VmHWM).
    pub max_rss_bytes: Option<u64>,
    pub bpf_run_ns: Option<u64>,
    pub bpf_run_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bpf_reason: Option<String>,
    pub ring_lost: Option<u64>,
    pub sample_overruns: Option<u64>,
    /// The sampler's interval at the end; longer than `sample_interval_asked_ns` where a look at all
    /// processes took too long. `null` where nothing was sampled.
    pub sample_interval_ns: Option<u64>,
    pub sample_interval_asked_ns: Option<u64>,
    pub privileges: Option<Privileges>,
}
