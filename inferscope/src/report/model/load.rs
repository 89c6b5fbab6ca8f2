//! The load and what came of it, as the report shows them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Dist, StepDevice, StepEnergy, Timing};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    pub shape: LoadShape,
    /// `null` in an open loop and in a sweep.
    pub concurrency: Option<u32>,
    /// Asked for.
    pub rate_per_s: Option<f64>,
    /// Measured requests of an open loop over the time in which they went out; `null` in a sweep.
    #[serde(default)]
    pub offered_rate_per_s: Option<f64>,
    /// Of arrival times and made prompts; --load-seed repeats them.
    #[serde(default)]
    pub seed: u64,
    /// In an open loop.
    pub arrival: Option<ArrivalProcess>,
    pub prompts: PromptSource,
    /// Asked for with `--input-tokens`, and what the server counted, the mean of a request.
    pub input_tokens_asked: Option<u32>,
    pub input_tokens_mean: Option<f64>,
    pub api: EndpointApi,
    pub endpoint: String,
    pub model: Option<String>,
    /// Warm-up requests sent; in no other figure.
    pub warmup: u64,
    pub requests_sent: u64,
    pub requests_ok: u64,
    pub requests_failed: u64,
    /// By cause, warm-up included, the earliest first.
    pub failures: Vec<FailureGroup>,
    /// Sent once more, on a fresh connection, because the server ended a kept-alive one without a byte of an answer. Their
    /// latencies count from the first sending.
    pub requests_resent: u64,
    pub connections_opened: u64,
    /// DNS, TCP and TLS, of the successful measured requests that opened a connection.
    #[serde(default)]
    pub connect_ns: Dist,
    /// Measured requests under way.
    pub in_flight: InFlight,
    /// Send time minus scheduled time; empty in a closed loop.
    pub schedule_lag_ns: Dist,
    /// `--slo`, by the level's name; `null` without.
    #[serde(default)]
    pub slo_ns: Option<BTreeMap<String, u64>>,
}

/// Declares an enum whose names in the document are those that a text shows.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

named! {
    /// When requests are sent.
    LoadShape {
        /// The next request waits for a free slot.
        Closed => "closed",
        /// It goes out on schedule.
        Open => "open",
        /// The schedule is the data set's.
        Trace => "trace",
    }
}

named! {
    /// How an open loop's requests are spread over time.
    ArrivalProcess {
        Poisson => "poisson",
        Constant => "constant",
    }
}

named! {
    /// Where the prompts come from.
    PromptSource {
        BuiltIn => "built_in",
        Text => "text",
        Lines => "lines",
        Dataset => "dataset",
        Synthetic => "synthetic",
    }
}

named! {
    EndpointApi {
        Chat => "chat",
        Completions => "completions",
    }
}

named! {
    /// What a sweep's steps differ in.
    SweepVariable {
        Concurrency => "concurrency",
        Rate => "rate",
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailureGroup {
    /// `null`: causes that found no room.
    pub kind: Option<ErrorKind>,
    /// Where it is the failure.
    pub http_status: Option<u16>,
    pub count: u64,
    /// Warm-up requests among them.
    pub warmup: u64,
    /// When the first of them failed.
    #[serde(default)]
    pub first_ns: Option<u64>,
    /// The first of them in the server's words.
    pub example: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InFlight {
    /// Over the time of `timing.window`, a ramp's included that are still under way.
    pub mean: Option<f64>,
    pub max: Option<u32>,
    pub samples: Vec<InFlightSample>,
}

/// A stretch of time that ends where the next begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InFlightSample {
    pub t_ns: u64,
    pub mean: f64,
    pub max: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    pub over: SweepVariable,
    pub steps: Vec<Step>,
    /// The last step before the server is saturated; `null` where no step was, or the first.
    pub knee: Option<Knee>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub knee_reason: Option<String>,
    /// Steps that were not run because the server was saturated.
    pub steps_left_out: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Knee {
    /// Index into `steps`.
    pub step: u64,
    /// Its concurrency or rate, as asked for.
    pub value: f64,
    /// The rate that was sent.
    #[serde(default)]
    pub offered_rate_per_s: Option<f64>,
}

/// One step of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub concurrency: Option<u32>,
    /// Asked for.
    pub rate_per_s: Option<f64>,
    /// As `load.offered_rate_per_s`.
    #[serde(default)]
    pub offered_rate_per_s: Option<f64>,
    pub requests_sent: u64,
    pub requests_ok: u64,
    pub requests_failed: u64,
    pub in_flight: InFlight,
    pub schedule_lag_ns: Dist,
    pub timing: Timing,
    pub cpu_ns_per_token: Option<f64>,
    /// The truth is within it.
    #[serde(default)]
    pub cpu_ns_per_token_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_reason: Option<String>,
    #[serde(default)]
    pub energy: StepEnergy,
    /// What limits this step, on each device that the target uses.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub devices: Vec<StepDevice>,
    /// Why the server has no more to give; `null` where it has.
    pub saturated: Option<String>,
}

/// How far repeated runs agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Repeat {
    pub runs: u32,
    /// 0.95: of the intervals of the mean, Student's t over the runs on a logarithmic scale.
    pub confidence: f64,
    /// By the figure's name in `timing`.
    pub figures: BTreeMap<String, Interval>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    pub mean: f64,
    /// `null` with one run.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// One a run.
    pub values: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    pub id: u64,
    /// Of a sweep, by its place in `sweep.steps`; 0 without.
    #[serde(default)]
    pub step: u32,
    /// Of `--repeat`, counted from zero.
    #[serde(default)]
    pub repetition: u32,
    pub warmup: bool,
    pub scheduled_ns: Option<u64>,
    /// When its turn came: before a connection was looked for.
    pub sent_ns: u64,
    /// When its first byte was handed to the kernel (behind a proxy: when the connection was there): what the latencies
    /// of a closed loop count from. Of a request that was sent twice, that of the first sending.
    #[serde(default)]
    pub written_ns: Option<u64>,
    /// DNS, TCP and TLS of the connection that was opened for it; `null` where one was used again, or none came about.
    #[serde(default)]
    pub connect_ns: Option<u64>,
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
    /// The client stalled around its sending: times from there are in no figure.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sent_client_late: bool,
    /// The longest stall of the client that made one of its times too late: by no more than that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_stall_ns: Option<u64>,
    /// As a chunk's `client_late`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub done_client_late: bool,
    /// The server told a count that can't be true; it is not used.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub usage_impossible: bool,
    pub finish_reason: Option<String>,
    /// Choices that came, where more than one came or was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub choices: Option<u32>,
    pub chunks: Vec<Chunk>,
    /// There was no room for them; they are in every figure.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub chunks_omitted: bool,
}

/// What ended a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    Connect,
    /// The server's certificate was refused.
    Certificate,
    /// A limit of the client's own kept it from opening a connection: the server was not asked.
    ClientLimit,
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
    /// The server went on far beyond `max_tokens`, and was cut off.
    Overrun,
    /// Given up to keep inferscope within `--max-memory`.
    Memory,
    /// Ctrl-C.
    Interrupted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The server's own `usage`.
    Usage,
    /// One token a chunk is assumed, because the server sent no usage, or one that can't be true.
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
    /// Read together with others after a stall of the client: `t_ns` is too late by an unknown part of it, and what is
    /// measured from or to it is in no figure.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub client_late: bool,
    /// Index of its choice, where the request has `choices`; `null` for what is of none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub choice: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChunkKind {
    Content,
    Reasoning,
    Tool,
    Other,
}
