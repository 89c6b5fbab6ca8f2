//! Latencies and rates of the load.
//!
//! Owns what each figure means, in arithmetic here and in words in the catalogue. Failed and warm-up
//! requests enter no distribution and no token sum. Never tells tokens from chunks (`tokens` does).
//! Fed by `load_totals`, asked by `analysis`.

use crate::clock::{Mono, Origin};
use crate::event::ChunkKind;
use crate::plan::Slo;
use crate::report::{catalogue, model};
use crate::units::Nanos;

use super::bursts::TOGETHER;
use super::histogram::Distribution;
use super::load_totals::{Fold, Sums};
use super::requests::RequestFigures;
use super::streams::Stream;
use super::window::Stretch;

const IN_BURSTS: &str =
    "chunks arrive in bursts, within which a gap is no pace of the server's: see inter_burst_ns and validity";
const NONE_OK: &str = "no measured request succeeded";
const STALLED: &str = "a stall of this client's made the times unknown (client_stalled)";

/// The figures of one fold: a phase, a step, or the whole load.
pub(super) fn timing(
    origin: Origin,
    fold: &Fold,
    slo: Option<&Slo>,
    repeat: Option<model::Repeat>,
) -> model::Timing {
    let (sums, all) = (&fold.sums, &fold.distributions);
    let none_ok = sums.ok == 0;
    let stalled = sums.left_out.any();
    let why = |otherwise: &str| match (none_ok, stalled) {
        (true, _) => NONE_OK.to_owned(),
        // Where it left out all, no other reason is known to hold.
        (false, true) => format!("{STALLED}; else: {otherwise}"),
        (false, false) => otherwise.to_owned(),
    };
    let work = &sums.work;
    let of = |stretch: &Stretch| load_window(origin, stretch, sums.tokens_a_chunk());
    let window = of(&work.main);
    // What arrived of requests that failed is no rate of a load in which all did.
    let rates = window.as_ref().filter(|_| !none_ok);
    let bursty = sums.bursts.is_bursty();
    let gaps = |gaps: &Distribution, none: &str| {
        if bursty { gaps.report_without_percentiles(none, IN_BURSTS) } else { gaps.report(none) }
    };
    let decode = rate(all.decode_tokens, all.decode_time);
    model::Timing {
        ttft_ns: all.ttft.report(&why("no answer held a token")),
        ttfo_ns: all.ttfo.report(&why("no answer held a token that is not reasoning")),
        inter_chunk_ns: gaps(&all.inter_chunk, &why("no answer had two chunks with text")),
        inter_token_ns: gaps(&all.inter_token, &why(no_inter_token(sums))),
        inter_burst_ns: bursty.then(|| all.inter_chunk.from(TOGETHER).report("no answer had two bursts")),
        tpot_ns: all.tpot.report(&why(all.no_pace())),
        e2e_ns: all.e2e.report(&why(NONE_OK)),
        output_tokens: sums.output.total(),
        prompt_tokens: sums.prompt.total(),
        output_tokens_per_s: rates.and_then(|w| w.output_tokens_per_s),
        total_tokens_per_s: rates.and_then(|w| w.total_tokens_per_s),
        requests_per_s: rates.and_then(|w| w.requests_per_s),
        decode_tokens_per_s: decode,
        decode_tokens_per_s_reason: decode.is_none().then(|| why(all.no_pace())),
        good_requests: slo.map(|_| sums.good),
        goodput_per_s: slo.and_then(|_| rate(work.main.delivered.good, work.main.length()?)),
        goodput_per_s_reason: match slo {
            None => Some("no service level was given".to_owned()),
            Some(_) if work.main.windows.is_empty() => Some("no measured request was sent".to_owned()),
            Some(_) => None,
        },
        window_ns: window.as_ref().map(|w| w.length_ns),
        window,
        steady_reason: work.steady.windows.is_empty().then(|| {
            why(if work.main.windows.is_empty() {
                "no measured request was sent"
            } else {
                "no request ended while the load was full"
            })
        }),
        steady: of(&work.steady),
        tail: of(&work.after),
        left_out: sums.left_out.any().then_some(model::LeftOut {
            gaps: sums.left_out.gaps,
            first_tokens: sums.left_out.first_tokens,
            ends: sums.left_out.ends,
            longest_stall_ns: sums.left_out.longest.0,
        }),
        token_source: sums.source(),
        token_chunks: sums.token_chunks,
        repeat,
        definitions: catalogue::timing_definitions(sums.source()),
    }
}

/// A stretch of load as the report shows it.
fn load_window(origin: Origin, stretch: &Stretch, a_chunk: f64) -> Option<model::LoadWindow> {
    let length = stretch.length()?;
    let of = &stretch.delivered;
    let tokens = of.tokens(a_chunk);
    let prompts = of.prompt.total();
    Some(model::LoadWindow {
        spans: stretch
            .windows
            .iter()
            .map(|w| model::Span { from_ns: origin.at(w.from).0, to_ns: origin.at(w.to).0 })
            .collect(),
        length_ns: length.0,
        output_tokens: tokens,
        failed_output_tokens: of.tokens_of_failed(a_chunk),
        token_chunks: of.chunks,
        prompt_tokens: prompts,
        requests: of.requests,
        output_tokens_per_s: rate(tokens, length),
        total_tokens_per_s: prompts.and_then(|prompts| rate(tokens.saturating_add(prompts), length)),
        requests_per_s: rate(of.requests, length),
    })
}

/// The values of the measured requests that worked. Some 1.6 MB, however many there are.
#[derive(Debug, Clone)]
pub(super) struct Distributions {
    pub(super) ttft: Distribution,
    ttfo: Distribution,
    pub(super) inter_chunk: Distribution,
    inter_token: Distribution,
    tpot: Distribution,
    pub(super) e2e: Distribution,
    /// Σ of the tokens after the first chunk and Σ (last − first) over the choices where they are known.
    decode_tokens: u64,
    decode_time: Nanos,
    /// Choices of two chunks with text and more of which they are not.
    paceless: u64,
}

impl Distributions {
    pub(super) fn new() -> Self {
        Self {
            ttft: Distribution::new(),
            ttfo: Distribution::new(),
            inter_chunk: Distribution::new(),
            inter_token: Distribution::new(),
            tpot: Distribution::new(),
            e2e: Distribution::new(),
            decode_tokens: 0,
            decode_time: Nanos::ZERO,
            paceless: 0,
        }
    }

    /// A measured request that worked.
    pub(super) fn record(&mut self, answer: &RequestFigures<'_>) {
        let r = answer.request;
        let asked = r.waited_from();
        let known = |t: Mono| !answer.late.sent && !answer.late.is_late(t);
        if known(r.done) {
            self.e2e.record(r.done.since(asked));
        }
        let Some(first) = answer.first_token() else { return };
        if known(first) {
            self.ttft.record(first.since(asked));
        }
        if let Some(output) = answer.text_chunks().find(|c| c.kind != ChunkKind::Reasoning)
            && known(output.t)
        {
            self.ttfo.record(output.t.since(asked));
        }
        for gap in answer.gaps() {
            self.inter_chunk.record(gap);
        }
        for stream in &answer.streams {
            self.record_inter_token(answer, stream);
        }
        self.paceless += answer.streams.iter().filter(|stream| stream.span().is_some()).count() as u64;
        for pace in answer.paces() {
            self.tpot.record(pace.tpot);
            self.decode_tokens = self.decode_tokens.saturating_add(pace.tokens);
            self.decode_time += pace.time;
            self.paceless -= 1;
        }
    }

    fn no_pace(&self) -> &'static str {
        if self.paceless > 0 {
            "how many tokens the first chunk of an answer held is unknown, or all came with it"
        } else {
            "no answer had two chunks with text"
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.ttft += &other.ttft;
        self.ttfo += &other.ttfo;
        self.inter_chunk += &other.inter_chunk;
        self.inter_token += &other.inter_token;
        self.tpot += &other.tpot;
        self.e2e += &other.e2e;
        self.decode_tokens = self.decode_tokens.saturating_add(other.decode_tokens);
        self.decode_time += other.decode_time;
        self.paceless += other.paceless;
    }

    /// A gap before a chunk of k tokens counts k times as a k-th of it, so that the distribution is
    /// over tokens. Tokens that came without text (withheld by the server's detokeniser) belong to
    /// the next chunk with text, and so does the time before text that held no token of its own.
    fn record_inter_token(&mut self, answer: &RequestFigures<'_>, stream: &Stream<'_>) {
        let mut from: Option<Mono> = None;
        let mut withheld = 0u64;
        for chunk in stream.chunks() {
            let Some(tokens) = answer.tokens.in_chunk(chunk) else { return };
            let k = withheld.saturating_add(tokens.into());
            if !chunk.kind.has_tokens() {
                withheld = k;
                continue;
            }
            match from {
                Some(earlier) if k > 0 && (answer.late.is_late(earlier) || answer.late.is_late(chunk.t)) => {
                    from = Some(chunk.t);
                }
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

pub(super) fn rate(n: u64, over: Nanos) -> Option<f64> {
    (over > Nanos::ZERO).then(|| n as f64 / over.as_secs_f64())
}

fn no_inter_token(sums: &Sums) -> &'static str {
    if sums.differing.answers > 0 {
        "the server's total differs from the chunks with text, so the tokens of each chunk are unknown: see inter_chunk_ns"
    } else {
        "no answer had two chunks with text"
    }
}

#[cfg(test)]
mod tests;
