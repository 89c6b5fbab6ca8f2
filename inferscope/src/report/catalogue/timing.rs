//! Latencies and rates: what the client saw.
//!
//! A new latency figure is one entry here: the text report's table, `timing.definitions` and docs/figures.md follow, and
//! `report::build` fills its field by the entry.

use super::{Figure, Unit, Value};
use crate::report::model::{Dist, Timing};

type Entry = Figure<Timing>;

/// A latency's entry. Its key, what reads it and what sets it are made from the field's name: none can be another's.
macro_rules! latency {
    ($field:ident, $label:literal, $definition:literal $(,)?) => {
        Entry::new(concat!("timing.", stringify!($field)), $label, Unit::Nanoseconds, $definition, |t| {
            Value::from(&t.$field)
        })
        .set_by(|t, values| t.$field = values.into())
    };
}

/// What puts a latency into the field of this name.
pub(crate) fn latency_setter(name: &str) -> Option<fn(&mut Timing, Dist)> {
    LATENCIES.iter().find(|figure| figure.about.name() == name)?.set
}

/// In the order of the text report.
pub const LATENCIES: &[Entry] = &[
    latency!(
        ttft_ns,
        "time to first token",
        "from the scheduled time (open loop) or the request's first byte handed to the kernel (closed loop) to the first \
         chunk with generated text, reasoning included; role-only and empty chunks don't count. A connection's set-up \
         (connect_ns) is in it in an open loop and not in a closed one; a request that was sent twice counts from its \
         first sending. aiperf, vllm bench serve and guidellm: TTFT",
    )
    .short("TTFT"),
    latency!(
        ttfo_ns,
        "… that is no reasoning",
        "as ttft_ns, to the first chunk that is not reasoning. aiperf: TTFO",
    )
    .short("TTFO")
    .same_as("timing.ttft_ns"),
    latency!(
        inter_token_ns,
        "inter-token",
        "the gap before a chunk divided by the chunk's k tokens, counted k times, pooled; only for answers \
         whose tokens a chunk are known. Not what aiperf and guidellm call ITL: that is tpot_ns",
    )
    .label_of_both("inter-token and -chunk")
    .label_assumed("inter-token (assumed)"),
    latency!(
        inter_chunk_ns,
        "inter-chunk",
        "every gap between two successive chunks with text of one choice of a request (n asks for several), pooled. aiperf: \
         inter chunk latency; vllm bench serve: ITL",
    )
    .same_as("timing.inter_token_ns"),
    latency!(
        inter_burst_ns,
        "between bursts",
        "the gaps of inter_chunk_ns from 100 us on: between bursts of chunks that came together; only where many do \
         (bursty_stream)",
    ),
    latency!(
        tpot_ns,
        "TPOT (a request's mean)",
        "one value a choice, nearly always a request: (last token - first token) / the tokens that arrived after the \
         first chunk and those that came within 100 us of each other with it. Where the server tells no tokens a chunk, the first chunk's are total x its part of the text's \
         bytes if that part is at most 5%, one where total and chunks are within 5%; else there is no value, nor one \
         for several choices. The peers take the first chunk for one token. \
         guidellm and aiperf: inter token latency (aiperf to the end of the request); vllm bench serve: TPOT",
    )
    .short("TPOT"),
    latency!(
        e2e_ns,
        "end to end",
        "from the same moment as ttft_ns to the last byte of the answer ([DONE], or where it is left out the last read). aiperf and guidellm: request latency; vllm bench serve: E2EL",
    ),
];

pub const RATES: &[Entry] = &[
    Entry::new(
        "timing.output_tokens_per_s",
        "output tokens/s",
        Unit::PerSecond("tokens"),
        "output tokens that arrived in the window / window_ns: by the times of their chunks, whoever asked for them (a \
         ramp's requests that run into the window, and requests that failed, were work as well)",
        |t| Value::number(t.output_tokens_per_s, t.e2e_ns.reason.as_ref()),
    ),
    Entry::new(
        "timing.decode_tokens_per_s",
        "decoding",
        Unit::PerSecond("tokens"),
        "sum of the tokens after the first chunk / sum of (last token - first token) over the choices that have a \
         tpot_ns: the speed of one stream after its first token",
        |t| Value::number(t.decode_tokens_per_s, t.decode_tokens_per_s_reason.as_ref()),
    ),
    Entry::new(
        "timing.total_tokens_per_s",
        "total tokens/s",
        Unit::PerSecond("tokens"),
        "output tokens that arrived in the window, and the prompt tokens, by usage, of the successful requests whose \
         first token did, / window_ns",
        |t| Value::number(t.total_tokens_per_s, t.e2e_ns.reason.as_ref()),
    ),
    Entry::new(
        "timing.requests_per_s",
        "requests/s",
        Unit::PerSecond("requests"),
        "successful requests that ended in the window / window_ns",
        |t| Value::number(t.requests_per_s, t.e2e_ns.reason.as_ref()),
    ),
    Entry::new(
        "timing.goodput_per_s",
        "goodput",
        Unit::PerSecond("requests"),
        "successful requests that ended in the window and kept every level of --slo / window_ns; itl holds for each gap between chunks with \
         text, tpot for their mean a token. vllm bench serve: request goodput",
        |t| Value::number(t.goodput_per_s, t.goodput_per_s_reason.as_ref()),
    ),
    Entry::new(
        "timing.window_ns",
        "window",
        Unit::Nanoseconds,
        "the length of window, summed over repetitions",
        |t| Value::count(t.window_ns, None),
    ),
];

/// What the rates are made from. `timing.definitions` has `output_tokens` in the words of its source.
pub const COUNTS: &[Entry] = &[
    Entry::new(
        "timing.output_tokens",
        "output tokens",
        Unit::Count("tokens"),
        "of the successful requests: the server's usage.completion_tokens; where an answer came without, one token a chunk \
         is ASSUMED for it, and `token_source` is `chunks`",
        |t| Value::count(t.output_tokens, t.e2e_ns.reason.as_ref()),
    ),
    Entry::new(
        "timing.prompt_tokens",
        "prompt tokens",
        Unit::Count("tokens"),
        "of the successful requests, by the server's usage; unknown where one of them came without",
        |t| Value::count(t.prompt_tokens, t.e2e_ns.reason.as_ref()),
    ),
    Entry::new(
        "timing.token_chunks",
        "chunks",
        Unit::Count("chunks"),
        "chunks with generated text of the successful requests; beside output_tokens it tells how many tokens a chunk held",
        |t| Value::Count(t.token_chunks),
    ),
    Entry::new(
        "timing.good_requests",
        "good requests",
        Unit::Count("requests"),
        "successful requests that kept every level of --slo",
        |t| Value::count(t.good_requests, t.goodput_per_s_reason.as_ref()),
    ),
];
