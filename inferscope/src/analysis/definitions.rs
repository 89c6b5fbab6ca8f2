//! What each figure of `timing` means, in words, with the name that other tools give it, and each of energy.
//!
//! Owns the wording; the arithmetic is in `timing`, `joules` and `phase_energy`. Called by `timing` and `analysis`.

use std::collections::BTreeMap;

use crate::report::model::TokenSource;

const TIMING: &[(&str, &str)] = &[
    (
        "ttft_ns",
        "from the scheduled time (open loop) or the request's first byte handed to the kernel (closed loop) to the first \
         chunk with generated text, reasoning included; role-only and empty chunks don't count. A connection's set-up \
         (connect_ns) is in it in an open loop and not in a closed one; a request that was sent twice counts from its \
         first sending. aiperf, vllm bench serve and guidellm: TTFT",
    ),
    ("ttfo_ns", "as ttft_ns, to the first chunk that is not reasoning. aiperf: TTFO"),
    (
        "inter_chunk_ns",
        "every gap between two successive chunks with text of one choice of a request (n asks for several), pooled. aiperf: \
         inter chunk latency; vllm bench serve: ITL",
    ),
    (
        "inter_token_ns",
        "the gap before a chunk divided by the chunk's k tokens, counted k times, pooled; only for answers \
         whose tokens a chunk are known. Not what aiperf and guidellm call ITL: that is tpot_ns",
    ),
    (
        "inter_burst_ns",
        "the gaps of inter_chunk_ns from 100 us on: between bursts of chunks that came together; only where many do \
         (bursty_stream)",
    ),
    (
        "tpot_ns",
        "one value a choice, nearly always a request: (last token - first token) / the tokens that arrived after the \
         first chunk and those that came within 100 us of each other with it. Where the server tells no tokens a chunk, the first chunk's are total x its part of the text's \
         bytes if that part is at most 5%, one where total and chunks are within 5%; else there is no value, nor one \
         for several choices. The peers take the first chunk for one token. \
         guidellm and aiperf: inter token latency (aiperf to the end of the request); vllm bench serve: TPOT",
    ),
    (
        "e2e_ns",
        "from the same moment as ttft_ns to the last byte of the answer ([DONE], or where it is left out the last read). aiperf and guidellm: request latency; vllm bench serve: E2EL",
    ),
    (
        "total_tokens_per_s",
        "output tokens that arrived in the window, and the prompt tokens, by usage, of the successful requests whose \
         first token did, / window_ns",
    ),
    (
        "goodput_per_s",
        "successful requests that ended in the window and kept every level of --slo / window_ns; itl holds for each gap between chunks with \
         text, tpot for their mean a token. vllm bench serve: request goodput",
    ),
    (
        "output_tokens_per_s",
        "output tokens that arrived in the window / window_ns: by the times of their chunks, whoever asked for them (a \
         ramp's requests that run into the window, and requests that failed, were work as well)",
    ),
    ("requests_per_s", "successful requests that ended in the window / window_ns"),
    (
        "decode_tokens_per_s",
        "sum of the tokens after the first chunk / sum of (last token - first token) over the choices that have a \
         tpot_ns: the speed of one stream after its first token",
    ),
    ("window_ns", "the length of window, summed over repetitions"),
    (
        "window",
        "what rates, CPU, energy and requests in flight are of. It begins with the measured part: after warm-up, and \
         where a ramp has reached its full height. Where --duration ended the load it ends with it, and what was still \
         under way is the tail; else it ends with the last byte. An interruption ends it",
    ),
    (
        "steady",
        "the part of the measured part in which the load was full: up to the send of the last request, or the end of \
         --duration",
    ),
    (
        "connect_ns",
        "DNS, TCP and TLS of a connection that was opened for a request (load.connect_ns: the successful measured ones); a \
         request on an open connection has none",
    ),
    (
        "Dist",
        "nanoseconds; failed and warm-up requests are in none; stddev is of the population; percentiles to \
         three significant digits, the rest exact",
    ),
];

pub(super) fn definitions(source: Option<TokenSource>) -> BTreeMap<String, String> {
    let tokens = match source {
        Some(TokenSource::Usage) => {
            "the server's usage.completion_tokens: includes reasoning, and where the server counts it the \
             end-of-sequence token that is never sent (n in tpot_ns leaves that one out)"
        }
        Some(TokenSource::Chunks) => {
            "chunks with text: at least one answer came without usage, and one token a chunk is ASSUMED for \
             it here, in tpot_ns and in inter_token_ns"
        }
        None => "unknown: no answer told",
    };
    let fixed = TIMING.iter().map(|(name, words)| ((*name).to_owned(), (*words).to_owned()));
    let further = [("output_tokens", tokens), ("repeat", REPEAT), ("percentiles", PERCENTILES)];
    fixed.chain(further.map(|(name, words)| (name.to_owned(), words.to_owned()))).collect()
}

const REPEAT: &str = "--repeat: the mean over the runs and its 95% interval, mean / f to mean x f with f = exp(t x s / (mean x sqrt n)): \
     Student's t on a logarithmic scale, as no figure is below 0; s is the runs' sample deviation";
const PERCENTILES: &str = "the text leaves out a p99 of fewer than 100 values and a p99.9 of fewer than 1,000: of so few they are the \
     maximum, or next to it";

const ENERGY: [(&str, &str); 6] = [
    (
        "joules_per_token",
        "energy of the devices that the target uses over timing.window / the output tokens that arrived in it, whoever asked: \
         prefill, the waits between requests and what failed requests took are in it, warm-up is not",
    ),
    ("joules_per_request", "joules_per_token x the output tokens of a successful request, on average"),
    (
        "joules_per_token_above_idle",
        "the same energy without the power at rest before the load x the window / the same tokens",
    ),
    (
        "error",
        "by an energy counter a bound: the truth is within it as far as the driver's figures are true. By readings of power \
         a 95% interval: readings are samples of a power that nobody sees whole (their deviation, or what so few can have \
         missed up to the power limit; no more of them than the device refreshes), and 5%, NVML's own accuracy. Beyond 25% \
         of the figure it is withheld",
    ),
    (
        "joules_per_prompt_token",
        "energy from each successful request's send to its first token / their prompt tokens by usage, cached ones \
         included: the way to the server, its queue and the making of the first token are in it. Only where no other \
         request of this client was in flight",
    ),
    (
        "joules_per_decode_token",
        "energy from each successful request's first token to its last / their output tokens without the first of \
         each. Only where no other request of this client was in flight",
    ),
];

const CPU: [(&str, &str); 3] = [
    (
        "cpu_ns_per_token",
        "CPU time of every process of the set, ended ones included, over timing.window / the output tokens that arrived in \
         it: prefill, waits that spin and what the set does without a load are in it, warm-up, start and end of the run are \
         not. Read at the window's ends; between readings it is taken to grow evenly, and what else can have been is in its \
         error. Withheld beyond an error of 25%",
    ),
    ("cpu_ns_per_request", "cpu_ns_per_token x the output tokens of a successful request, on average"),
    (
        "cpu_idle_ns_per_token",
        "CPU time a second of the set in the rest of 0.2 to 0.5 s before the load x the window / the same tokens: the part of \
         cpu_ns_per_token that other work of the set takes, as far as it goes on under load",
    ),
];

/// What each figure of CPU and energy means.
pub(super) fn costs() -> BTreeMap<String, String> {
    CPU.iter().chain(&ENERGY).map(|(name, words)| ((*name).to_owned(), (*words).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assumed_token_count_is_said_in_the_definitions() {
        let assumed = definitions(Some(TokenSource::Chunks));
        assert!(assumed["output_tokens"].contains("ASSUMED"));
        assert!(!definitions(Some(TokenSource::Usage))["output_tokens"].contains("ASSUMED"));
    }

    #[test]
    fn every_latency_and_rate_of_the_report_is_defined() {
        let defined = definitions(None);
        for name in ["ttft_ns", "ttfo_ns", "inter_chunk_ns", "inter_token_ns", "tpot_ns", "e2e_ns"] {
            assert!(defined.contains_key(name), "{name}");
        }
        for name in
            ["output_tokens", "output_tokens_per_s", "requests_per_s", "decode_tokens_per_s", "window_ns"]
        {
            assert!(defined.contains_key(name), "{name}");
        }
    }
}
