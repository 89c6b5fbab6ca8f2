//! The JSON document, as types: `../shared/CONTRACT.md`'s schema_version 1.
//!
//! Owns the shape of the report and nothing else: no arithmetic, no formatting. `analysis` fills
//! it, the other files of `report` turn it into bytes, `inferscope schema` prints its JSON Schema.
//!
//! Times are nanoseconds on the run's timeline (CLOCK_MONOTONIC minus `run.origin_monotonic_ns`)
//! where the name ends in `_ns` and it is a point, lengths where it is a duration. `null` means
//! unknown, never zero; a sibling `…_reason` says why.

mod gpus;
mod processes;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use gpus::{Gpu, GpuLimits, GpuSample};
pub use processes::{
    Command, Exit, LostCounts, LostRecords, Process, ProcessCounts, ProcessEvent, ProcessEventKind,
    Processes, ProcessesCpu, Resources, Role, Sample, Stat, Tracker,
};

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
    pub timing: Option<Timing>,
    pub processes: Processes,
    pub resources: Resources,
    pub gpus: Vec<Gpu>,
    /// Why `gpus` is empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpus_reason: Option<String>,
    pub efficiency: Efficiency,
    /// `null` until this version can explain a slow token.
    pub stalls: Option<Vec<Stall>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stalls_reason: Option<String>,
    pub insights: Vec<Insight>,
    #[serde(rename = "self")]
    pub own: Own,
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
    /// CPUs online.
    pub cpus: Option<u32>,
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub id: String,
    /// The subcommand.
    pub command: String,
    /// As typed, without secrets.
    pub argv: Vec<String>,
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// `closed`: the next request waits for a free slot. `open`: it goes out on schedule.
    pub shape: String,
    pub concurrency: Option<u32>,
    pub rate_per_s: Option<f64>,
    /// `chat` or `completions`.
    pub api: String,
    pub endpoint: String,
    pub model: Option<String>,
    /// Warm-up requests sent; in no other figure.
    pub warmup: u64,
    pub requests_sent: u64,
    pub requests_ok: u64,
    pub requests_failed: u64,
    /// Send time minus scheduled time; empty in a closed loop.
    pub schedule_lag_ns: Dist,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    pub id: u64,
    pub warmup: bool,
    pub scheduled_ns: Option<u64>,
    pub sent_ns: u64,
    pub headers_ns: Option<u64>,
    /// First chunk with any generated token, reasoning included.
    pub first_token_ns: Option<u64>,
    pub last_token_ns: Option<u64>,
    pub done_ns: u64,
    pub ok: bool,
    pub error_kind: Option<ErrorKind>,
    pub error: Option<String>,
    pub http_status: Option<u16>,
    pub prompt_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub token_source: Option<TokenSource>,
    pub finish_reason: Option<String>,
    pub chunks: Vec<Chunk>,
}

/// What ended a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    Connect,
    Timeout,
    /// An HTTP status other than 2xx.
    Status,
    /// An `error` object inside the stream.
    ServerError,
    /// Bytes that are no completion stream.
    Malformed,
    Disconnect,
    /// No generated token in the answer.
    Empty,
    /// Ctrl-C.
    Interrupted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The server's own `usage`.
    Usage,
    /// One token a chunk is assumed, because the server sent no usage.
    Chunks,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chunk {
    pub t_ns: u64,
    /// Tokens in it; `null` where the server's total doesn't tell how they were cut into chunks, an
    /// assumed 1 where the request's `token_source` is `chunks`.
    pub tokens: Option<u32>,
    /// Bytes of generated text.
    pub bytes: u32,
    pub kind: ChunkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChunkKind {
    Content,
    Reasoning,
    Tool,
    Other,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Time to first token, reasoning included.
    pub ttft_ns: Dist,
    /// Time to first output token that is not reasoning.
    pub ttfo_ns: Dist,
    /// Every gap between two token-bearing chunks of a request, pooled.
    pub inter_chunk_ns: Dist,
    /// The gap before a chunk of k tokens divided by k, counted k times, where k is known.
    pub inter_token_ns: Dist,
    /// (last token − first token) / (output tokens − 1), one value a request.
    pub tpot_ns: Dist,
    pub e2e_ns: Dist,
    pub output_tokens: Option<u64>,
    pub output_tokens_per_s: Option<f64>,
    pub requests_per_s: Option<f64>,
    pub decode_tokens_per_s: Option<f64>,
    pub goodput_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub goodput_per_s_reason: Option<String>,
    /// First send to last byte of the measured requests: what the rates divide by.
    pub window_ns: Option<u64>,
    pub token_source: Option<TokenSource>,
    /// Of the successful requests: chunks that held a token. Beside `output_tokens` it tells how
    /// many tokens a chunk carried.
    pub token_chunks: u64,
    /// What each figure means, by name.
    pub definitions: BTreeMap<String, String>,
}

/// A distribution. `min`, `max`, `mean` and `stddev` are exact; the percentiles come from the
/// histogram (three significant digits).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dist {
    pub count: u64,
    pub min: Option<u64>,
    pub mean: Option<f64>,
    pub stddev: Option<f64>,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p95: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
    /// HdrHistogram V2, compressed, base64.
    pub histogram: Option<String>,
    /// Why it is empty, or why a percentile is `null`: it lies beyond the histogram's hour.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Efficiency {
    /// CPU of the whole set over the load's window, a token put out.
    pub cpu_ns_per_token: Option<f64>,
    pub cpu_ns_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_reason: Option<String>,
    pub joules_per_token: Option<f64>,
    pub joules_per_token_error: Option<f64>,
    pub tokens_per_joule: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub joules_reason: Option<String>,
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

/// What this program itself cost.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Own {
    pub cpu_ns: Option<u64>,
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
}
