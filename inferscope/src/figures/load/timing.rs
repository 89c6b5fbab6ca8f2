//! Latencies and rates of the load.
//!
//! Owns what each figure means, in arithmetic here and in words in the report's definitions. Failed and warm-up
//! requests enter no distribution and no token sum. Never tells tokens from chunks (the aggregate's `tokens` does).
//! Called by `figures::load`.

use crate::aggregate::load::distribution::Recorded;
use crate::aggregate::load::latencies::{InBursts, Latencies, LatencyKind};
use crate::aggregate::load::lateness::LeftOut;
use crate::aggregate::load::phase_totals::{StepTotals, rate};
use crate::aggregate::load::tokens::TokenSource;
use crate::aggregate::load::totals::Totals;
use crate::plan::{LoadPlan, Slo};
use crate::reason::{Known, LoadReason};

use super::latency::Latency;
use super::repeat::{self, Repeat};
use super::window::LoadWindow;

/// The figures of a step, or of a load that is no sweep.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timing {
    /// Without those that there are only where chunks come in bursts, where they don't.
    pub(crate) latencies: Vec<(LatencyKind, Latency)>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) output_tokens_per_s: Option<f64>,
    pub(crate) total_tokens_per_s: Option<f64>,
    pub(crate) requests_per_s: Option<f64>,
    pub(crate) decode_tokens_per_s: Known<f64>,
    pub(crate) good_requests: Option<u64>,
    /// `None`: the window has no length.
    pub(crate) goodput_per_s: Known<Option<f64>>,
    /// What rates and costs are of.
    pub(crate) window: Option<LoadWindow>,
    /// While the load was full.
    pub(crate) steady: Known<LoadWindow>,
    /// After a load that ended by the clock.
    pub(crate) tail: Option<LoadWindow>,
    pub(crate) left_out: Option<LeftOut>,
    pub(crate) token_source: Option<TokenSource>,
    pub(crate) token_chunks: u64,
    pub(crate) repeat: Option<Repeat>,
}

impl Timing {
    pub(crate) fn of_step(step: &StepTotals, plan: &LoadPlan) -> Self {
        let repeat = repeat::repeat(&step.repetitions, plan.repeat);
        Self::of(&step.totals, &step.latencies, plan.slo.as_ref(), repeat)
    }

    /// Of a load of which no phase ended.
    pub(crate) fn of_nothing() -> Self {
        Self::of(&Totals::default(), &Latencies::new().recorded(), None, None)
    }

    fn of(totals: &Totals, all: &Latencies<Recorded>, slo: Option<&Slo>, repeat: Option<Repeat>) -> Self {
        let none_ok = totals.ok == 0;
        let stalled = totals.left_out.any();
        let why = |otherwise: LoadReason| match (none_ok, stalled) {
            (true, _) => LoadReason::NoneSucceeded,
            // Where it left out all, no other reason is known to hold.
            (false, true) => LoadReason::Stalled(Box::new(otherwise)),
            (false, false) => otherwise,
        };
        let bursty = totals.bursts.is_bursty();
        let latency = |kind: LatencyKind| {
            let none = kind.why_empty(totals, all);
            let of = |none: LoadReason| Latency::of(all.values(kind), none);
            match kind.bursts() {
                InBursts::Only => bursty.then(|| of(none)),
                InBursts::WithoutPercentiles if bursty => Some(of(why(none)).withheld(LoadReason::InBursts)),
                InBursts::WithoutPercentiles | InBursts::Nothing => Some(of(why(none))),
            }
        };
        let work = &totals.work;
        let a_chunk = totals.tokens_a_chunk();
        let window = LoadWindow::of(&work.main, a_chunk);
        // What arrived of requests that failed is no rate of a load in which all did.
        let rates = window.as_ref().filter(|_| !none_ok);
        let never_full = if window.is_some() { LoadReason::NeverFull } else { LoadReason::NoneSent };
        Self {
            latencies: LatencyKind::ALL.iter().filter_map(|kind| Some((*kind, latency(*kind)?))).collect(),
            output_tokens: totals.output.total(),
            prompt_tokens: totals.prompt.total(),
            output_tokens_per_s: rates.and_then(|w| w.output_tokens_per_s),
            total_tokens_per_s: rates.and_then(|w| w.total_tokens_per_s),
            requests_per_s: rates.and_then(|w| w.requests_per_s),
            decode_tokens_per_s: rate(all.decode_tokens, all.decode_time)
                .ok_or_else(|| why(all.why_no_pace()).into()),
            good_requests: slo.map(|_| totals.good),
            goodput_per_s: match (slo, &window) {
                (None, _) => Err(LoadReason::NoServiceLevel.into()),
                (Some(_), None) => Err(LoadReason::NoneSent.into()),
                (Some(_), Some(window)) => Ok(rate(work.main.delivered.good, window.length)),
            },
            steady: LoadWindow::of(&work.steady, a_chunk).ok_or_else(|| why(never_full).into()),
            tail: LoadWindow::of(&work.after, a_chunk),
            window,
            left_out: totals.left_out.any().then_some(totals.left_out),
            token_source: totals.source(),
            token_chunks: totals.token_chunks,
            repeat,
        }
    }
}

#[cfg(test)]
mod tests;
