//! Latencies, rates and their windows, as the report shows them.
//!
//! Owns the shape of `timing`; no arithmetic. A part of `model`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Repeat, TokenSource};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Time to first token, reasoning included.
    pub ttft_ns: Dist,
    /// Time to first output token that is not reasoning.
    pub ttfo_ns: Dist,
    /// Every gap between two token-bearing chunks of one choice, pooled.
    pub inter_chunk_ns: Dist,
    /// The gap before a chunk of k tokens divided by k, counted k times, where k is known.
    pub inter_token_ns: Dist,
    /// The gaps of `inter_chunk_ns` from 100 µs on, to three digits: what lies between bursts. Only where chunks come in
    /// bursts (`bursty_stream`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inter_burst_ns: Option<Dist>,
    /// (last token − first token) / (tokens after the first chunk), one value a choice.
    pub tpot_ns: Dist,
    pub e2e_ns: Dist,
    pub output_tokens: Option<u64>,
    pub prompt_tokens: Option<u64>,
    pub output_tokens_per_s: Option<f64>,
    /// Prompt and output together.
    pub total_tokens_per_s: Option<f64>,
    pub requests_per_s: Option<f64>,
    pub decode_tokens_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decode_tokens_per_s_reason: Option<String>,
    /// Successful requests within `--slo`.
    pub good_requests: Option<u64>,
    pub goodput_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub goodput_per_s_reason: Option<String>,
    /// The length of `window`: what the rates divide by.
    pub window_ns: Option<u64>,
    /// What the rates, and all costs a token, are of: while the load was full where it ended by `--duration`, else from the
    /// measured part's beginning to its last byte.
    #[serde(default)]
    pub window: Option<LoadWindow>,
    /// While the load was full: up to the last send, or the end of `--duration`.
    #[serde(default)]
    pub steady: Option<LoadWindow>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub steady_reason: Option<String>,
    /// What `--duration` left under way, up to its last byte; in no rate.
    #[serde(default)]
    pub tail: Option<LoadWindow>,
    /// What a stall of the client left no figure of; `null` where it left out nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left_out: Option<LeftOut>,
    pub token_source: Option<TokenSource>,
    /// Of the successful requests: chunks that held a token. Beside `output_tokens` it tells how
    /// many tokens a chunk carried.
    pub token_chunks: u64,
    /// `--repeat`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repeat: Option<Repeat>,
    /// What each figure means, by name.
    pub definitions: BTreeMap<String, String>,
}

/// A stretch of load and what was delivered in it, whoever asked for it: warm-up requests that a ramp left under way, and
/// failed requests, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadWindow {
    /// One a repetition, both ends included.
    pub spans: Vec<Span>,
    /// Of all together.
    pub length_ns: u64,
    /// That arrived in it, by their chunks' times. Where the tokens of each chunk are unknown they are shared out by the
    /// chunks' bytes; what the server counted beyond the text arrives with its last chunk.
    pub output_tokens: u64,
    /// Of them, of requests that failed. A chunk that the server did not count is taken for as many tokens as those of
    /// successful answers held on average.
    pub failed_output_tokens: u64,
    /// Chunks with text that arrived in it.
    pub token_chunks: u64,
    /// Of the successful requests whose first token arrived in it.
    pub prompt_tokens: Option<u64>,
    /// Successful requests that ended in it.
    pub requests: u64,
    pub output_tokens_per_s: Option<f64>,
    pub total_tokens_per_s: Option<f64>,
    pub requests_per_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    pub from_ns: u64,
    pub to_ns: u64,
}

/// Times that the client's own stalls made unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    pub gaps: u64,
    /// Requests without a time to first token for it.
    pub first_tokens: u64,
    pub ends: u64,
    pub longest_stall_ns: u64,
}

/// A distribution. `min`, `max`, `mean` and `stddev` are exact; the percentiles come from the
/// histogram (three significant digits).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Why it is empty, or why a percentile is `null`: it lies beyond the histogram's hour, or would mean nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}
