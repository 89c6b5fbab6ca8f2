//! Latencies and rates of the load.
//!
//! Owns what each figure means, in arithmetic here and in words in `definitions`. Failed and warm-up
//! requests enter no distribution and no token sum. Never tells tokens from chunks (`tokens` does).
//! Called by `analysis`.

use crate::clock::Mono;
use crate::event::ChunkKind;
use crate::report::model::{self, TokenSource};
use crate::units::Nanos;

use super::definitions::definitions;
use super::dist::Distribution;
use super::requests::{Answer, Window};

const NONE_OK: &str = "no measured request succeeded";

pub(super) fn timing(answers: &[Answer<'_>], window: Option<Window>) -> model::Timing {
    let ok: Vec<&Answer<'_>> = answers.iter().filter(|a| a.counts()).collect();
    let mut all = Distributions::new();
    for answer in &ok {
        all.record(answer);
    }
    let why = |otherwise: &str| if ok.is_empty() { NONE_OK.to_owned() } else { otherwise.to_owned() };
    let token_source = source(&ok);
    let output_tokens = total_tokens(&ok);
    let window_ns = window.map(Window::length);
    let per_second = |n: u64| window_ns.and_then(|w| rate(n, w));
    model::Timing {
        ttft_ns: all.ttft.report(&why("no answer held a token")),
        ttfo_ns: all.ttfo.report(&why("no answer held a token that is not reasoning")),
        inter_chunk_ns: all.inter_chunk.report(&why("no answer had two chunks with text")),
        inter_token_ns: all.inter_token.report(&why(no_inter_token(&ok))),
        tpot_ns: all.tpot.report(&why("no answer had two tokens")),
        e2e_ns: all.e2e.report(NONE_OK),
        output_tokens,
        output_tokens_per_s: output_tokens.and_then(per_second),
        requests_per_s: (!ok.is_empty()).then(|| per_second(ok.len() as u64)).flatten(),
        decode_tokens_per_s: rate(all.decode_tokens, all.decode_time),
        goodput_per_s: None,
        goodput_per_s_reason: Some("no service level was given".to_owned()),
        window_ns: window_ns.map(|w| w.0),
        token_source,
        token_chunks: ok.iter().fold(0u64, |sum, a| sum.saturating_add(a.tokens.chunks)),
        definitions: definitions(token_source),
    }
}

struct Distributions {
    ttft: Distribution,
    ttfo: Distribution,
    inter_chunk: Distribution,
    inter_token: Distribution,
    tpot: Distribution,
    e2e: Distribution,
    /// Σ (n − 1) and Σ (last − first) over the answers of two tokens and more.
    decode_tokens: u64,
    decode_time: Nanos,
}

impl Distributions {
    fn new() -> Self {
        Self {
            ttft: Distribution::new(),
            ttfo: Distribution::new(),
            inter_chunk: Distribution::new(),
            inter_token: Distribution::new(),
            tpot: Distribution::new(),
            e2e: Distribution::new(),
            decode_tokens: 0,
            decode_time: Nanos::ZERO,
        }
    }

    fn record(&mut self, answer: &Answer<'_>) {
        let r = answer.request;
        self.e2e.record(r.done.since(r.sent));
        // In an open loop the user waits from the moment that the schedule meant.
        let asked = r.scheduled.unwrap_or(r.sent);
        let (Some(first), Some(last)) = (answer.first_token(), answer.last_token()) else { return };
        self.ttft.record(first.since(asked));
        if let Some(output) = answer.text_chunks().find(|c| c.kind != ChunkKind::Reasoning) {
            self.ttfo.record(output.t.since(asked));
        }
        let stamps: Vec<Mono> = answer.text_chunks().map(|c| c.t).collect();
        for pair in stamps.windows(2) {
            self.inter_chunk.record(pair[1].since(pair[0]));
        }
        self.record_inter_token(answer);
        // One chunk has no time in it to divide, however many tokens it holds.
        if let Some(n) = answer.tokens.delivered.filter(|n| *n >= 2 && stamps.len() >= 2) {
            let decode = last.since(first);
            self.tpot.record(Nanos(decode.0 / (n - 1)));
            self.decode_tokens = self.decode_tokens.saturating_add(n - 1);
            self.decode_time += decode;
        }
    }

    /// A gap before a chunk of k tokens counts k times as a k-th of it, so that the distribution is
    /// over tokens. Tokens that came without text (withheld by the server's detokeniser) belong to
    /// the next chunk with text, and so does the time before text that held no token of its own.
    fn record_inter_token(&mut self, answer: &Answer<'_>) {
        let mut from: Option<Mono> = None;
        let mut withheld = 0u64;
        for chunk in &answer.request.chunks {
            let Some(tokens) = answer.tokens.in_chunk(chunk) else { return };
            let k = withheld.saturating_add(tokens.into());
            if !chunk.kind.has_tokens() {
                withheld = k;
                continue;
            }
            match from {
                Some(earlier) if k > 0 => {
                    self.inter_token.record_split(chunk.t.since(earlier), k);
                    from = Some(chunk.t);
                }
                Some(_) => {}
                None => from = Some(chunk.t),
            }
            withheld = 0;
        }
    }
}

fn rate(n: u64, over: Nanos) -> Option<f64> {
    (over > Nanos::ZERO).then(|| n as f64 / over.as_secs_f64())
}

fn total_tokens(ok: &[&Answer<'_>]) -> Option<u64> {
    let known: Vec<u64> = ok.iter().filter_map(|a| a.tokens.total).collect();
    // A sum that leaves some answers out would be no total.
    (!ok.is_empty() && known.len() == ok.len()).then(|| known.iter().fold(0u64, |a, b| a.saturating_add(*b)))
}

/// The weaker source names the sum.
fn source(ok: &[&Answer<'_>]) -> Option<TokenSource> {
    let has = |s| ok.iter().any(|a| a.tokens.source == Some(s));
    if has(TokenSource::Chunks) {
        Some(TokenSource::Chunks)
    } else {
        has(TokenSource::Usage).then_some(TokenSource::Usage)
    }
}

fn no_inter_token(ok: &[&Answer<'_>]) -> &'static str {
    if ok.iter().any(|a| a.tokens.differs_from_chunks()) {
        "the server's total differs from the chunks with text, so the tokens of each chunk are unknown: see inter_chunk_ns"
    } else {
        "no answer had two chunks with text"
    }
}

#[cfg(test)]
mod tests;
