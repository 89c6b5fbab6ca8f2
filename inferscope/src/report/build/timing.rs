//! Latencies and rates as the report shows them.
//!
//! Owns the names of the figures that repetitions are compared by. Called by `sweep` and `report::build`.

use crate::clock::{Origin, Window};
use crate::figures::load::repeat::{Interval, Repeat, RepeatedFigure};
use crate::figures::load::timing::Timing;
use crate::figures::load::window::LoadWindow;
use crate::reason::Apart as _;
use crate::report::{catalogue, model};

use super::distribution::latency;
use super::requests::token_source;

pub(crate) fn timing(origin: Origin, t: &Timing) -> model::Timing {
    let source = t.token_source.map(token_source);
    let (decode_tokens_per_s, decode_tokens_per_s_reason) = t.decode_tokens_per_s.clone().apart();
    let (goodput_per_s, goodput_per_s_reason) = t.goodput_per_s.clone().apart();
    let (steady, steady_reason) = t.steady.as_ref().map(|w| load_window(origin, w)).apart();
    let mut timing = model::Timing {
        output_tokens: t.output_tokens,
        prompt_tokens: t.prompt_tokens,
        output_tokens_per_s: t.output_tokens_per_s,
        total_tokens_per_s: t.total_tokens_per_s,
        requests_per_s: t.requests_per_s,
        decode_tokens_per_s,
        decode_tokens_per_s_reason,
        good_requests: t.good_requests,
        goodput_per_s: goodput_per_s.flatten(),
        goodput_per_s_reason,
        window_ns: t.window.as_ref().map(|w| w.length.0),
        window: t.window.as_ref().map(|w| load_window(origin, w)),
        steady,
        steady_reason,
        tail: t.tail.as_ref().map(|w| load_window(origin, w)),
        left_out: t.left_out.map(|out| model::LeftOut {
            gaps: out.gaps,
            first_tokens: out.first_tokens,
            ends: out.ends,
            longest_stall_ns: out.longest.0,
        }),
        token_source: source,
        token_chunks: t.token_chunks,
        repeat: t.repeat.as_ref().map(repeat),
        definitions: catalogue::timing_definitions(source),
        // The latencies follow. A test holds that no other field is left to this.
        ..model::Timing::default()
    };
    for (kind, values) in &t.latencies {
        if let Some(set) = catalogue::latency_setter(kind.name()) {
            set(&mut timing, latency(values));
        }
    }
    timing
}

fn load_window(origin: Origin, w: &LoadWindow) -> model::LoadWindow {
    model::LoadWindow {
        spans: w.windows.iter().map(|window| span(origin, *window)).collect(),
        length_ns: w.length.0,
        output_tokens: w.output_tokens,
        failed_output_tokens: w.failed_output_tokens,
        token_chunks: w.token_chunks,
        prompt_tokens: w.prompt_tokens,
        requests: w.requests,
        output_tokens_per_s: w.output_tokens_per_s,
        total_tokens_per_s: w.total_tokens_per_s,
        requests_per_s: w.requests_per_s,
    }
}

const fn span(origin: Origin, window: Window) -> model::Span {
    model::Span { from_ns: origin.at(window.from).0, to_ns: origin.at(window.to).0 }
}

fn repeat(repeat: &Repeat) -> model::Repeat {
    model::Repeat {
        runs: u32::try_from(repeat.runs).unwrap_or(u32::MAX),
        confidence: repeat.confidence,
        figures: repeat.figures.iter().map(|(figure, of)| (name(*figure).to_owned(), interval(of))).collect(),
    }
}

const fn name(figure: RepeatedFigure) -> &'static str {
    match figure {
        RepeatedFigure::TtftMean => "ttft_ns.mean",
        RepeatedFigure::TtftP50 => "ttft_ns.p50",
        RepeatedFigure::TtftP99 => "ttft_ns.p99",
        RepeatedFigure::InterChunkP50 => "inter_chunk_ns.p50",
        RepeatedFigure::InterChunkP99 => "inter_chunk_ns.p99",
        RepeatedFigure::E2eMean => "e2e_ns.mean",
        RepeatedFigure::E2eP99 => "e2e_ns.p99",
        RepeatedFigure::OutputTokensPerS => "output_tokens_per_s",
        RepeatedFigure::RequestsPerS => "requests_per_s",
    }
}

fn interval(of: &Interval) -> model::Interval {
    model::Interval { mean: of.mean, low: of.low, high: of.high, values: of.values.clone() }
}

#[cfg(test)]
mod tests;
