//! A phase or a step: its counts and its distributions.
//!
//! Owns what is kept while requests end, and what of it stays when a phase or a step is over. Never judges. Fed by the
//! load's aggregate.

use crate::clock::Mono;
use crate::event::{InFlight, Loaded, PhaseLog};
use crate::plan::Shape;
use crate::units::Nanos;

use super::distribution::{Distribution, Recorded};
use super::latencies::{Latencies, LatencyKind};
use super::request_figures::RequestFigures;
use super::totals::{Terms, Totals};

/// While requests end: some 2 MB, however many there are.
#[derive(Debug, Clone)]
pub(crate) struct PhaseTotals {
    pub(crate) totals: Totals,
    pub(crate) latencies: Latencies,
    /// Send time minus scheduled time, of an open loop.
    pub(crate) lag: Distribution,
    /// The set-up of the connections that were opened for successful measured requests.
    pub(crate) connect: Distribution,
}

impl PhaseTotals {
    pub(crate) fn new() -> Self {
        Self {
            totals: Totals::default(),
            latencies: Latencies::new(),
            lag: Distribution::new(),
            connect: Distribution::new(),
        }
    }

    pub(crate) fn add(&mut self, answer: &RequestFigures<'_>, terms: &Terms<'_>, loaded: Loaded) {
        self.totals.add(answer, terms, loaded);
        if answer.request.warmup {
            return;
        }
        // Also of one that failed: it was sent late all the same.
        if let Some(wanted) = answer.request.scheduled {
            self.lag.record(answer.request.sent.since(wanted));
        }
        if answer.counts() {
            self.latencies.record(answer);
            if let Some(took) = answer.request.connect {
                self.connect.record(took);
            }
        }
    }

    /// The windows of both stay apart: the time between them is no load's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
        self.latencies.merge(&other.latencies);
        self.lag += &other.lag;
        self.connect += &other.connect;
    }
}

/// `n` a second; `None` in no time.
pub(crate) fn rate(n: u64, over: Nanos) -> Option<f64> {
    (over > Nanos::ZERO).then(|| n as f64 / over.as_secs_f64())
}

/// A step that is over, or the one phase of a load that is no sweep.
#[derive(Debug, Clone)]
pub(crate) struct StepTotals {
    /// As it was sent: a data set without timestamps is a closed loop of one.
    pub(crate) shape: Shape,
    pub(crate) totals: Totals,
    pub(crate) latencies: Latencies<Recorded>,
    pub(crate) lag: Option<Recorded>,
    /// One a repetition.
    pub(crate) repetitions: Vec<Repetition>,
    /// As the driver saw them.
    pub(crate) phases: Vec<PhaseLog>,
}

impl StepTotals {
    /// Requests a second that an open loop sent.
    pub(crate) fn offered(&self) -> Option<f64> {
        let of = |p: &PhaseLog| Some((p.measured_sent, p.offered_over?.as_secs_f64()));
        let all = self.phases.iter().filter_map(of);
        let (sent, seconds) = all.fold((0, 0.0), |sum, phase| (sum.0 + phase.0, sum.1 + phase.1));
        (seconds > 0.0).then(|| sent as f64 / seconds)
    }

    /// Without its distributions.
    pub(crate) fn outline(&self) -> StepOutline {
        let delivered = &self.totals.work.main.delivered;
        let length = self.totals.window_length();
        let per_second = |n: Option<u64>| n.zip(length).and_then(|(n, length)| rate(n, length));
        let requests = (self.totals.ok > 0).then_some(delivered.requests);
        StepOutline {
            shape: self.shape,
            offered: self.offered().unwrap_or_else(|| self.shape.height()),
            gave: per_second(self.totals.tokens_in_windows()).or_else(|| per_second(requests)),
            backlog: self.phases.iter().filter_map(Backlog::of).collect(),
        }
    }
}

/// What tells whether a step saturated the server.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutline {
    pub(crate) shape: Shape,
    /// Slots that were asked for, or requests a second that were sent.
    pub(crate) offered: f64,
    /// Output tokens a second, or requests where tokens are unknown.
    pub(crate) gave: Option<f64>,
    /// One a phase, where that is known.
    pub(crate) backlog: Vec<Backlog>,
}

/// Requests under way while more were sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backlog {
    /// On average, in the first half of that time.
    pub(crate) first_half: f64,
    pub(crate) last_quarter: f64,
    /// The share of the requests that had been answered when the last was sent, about.
    pub(crate) answered: f64,
}

impl Backlog {
    pub(crate) fn of(phase: &PhaseLog) -> Option<Self> {
        let from = phase.measured_from?;
        let span = phase.sent_all.since(from);
        let part = |quarters: u64| Mono(from.0 + span.0 / 4 * quarters);
        let last_quarter = mean(&phase.in_flight, part(3), phase.sent_all)?;
        let sent = phase.measured_sent as f64;
        Some(Self {
            first_half: mean(&phase.in_flight, from, part(2))?,
            last_quarter,
            answered: (sent > 0.0).then(|| (sent - last_quarter) / sent)?,
        })
    }
}

/// Of the stretches that begin within; the one that `from` lies in counts whole.
fn mean(series: &[InFlight], from: Mono, to: Mono) -> Option<f64> {
    let first = series.partition_point(|s| s.t <= from).saturating_sub(1);
    let within = series.get(first..series.partition_point(|s| s.t <= to))?;
    (!within.is_empty()).then(|| within.iter().map(|s| s.mean).sum::<f64>() / within.len() as f64)
}

/// One repetition's figures, of which the report tells how far they agree. Times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Repetition {
    pub(crate) ttft_mean: Option<f64>,
    pub(crate) ttft_p50: Option<f64>,
    pub(crate) ttft_p99: Option<f64>,
    pub(crate) inter_chunk_p50: Option<f64>,
    pub(crate) inter_chunk_p99: Option<f64>,
    pub(crate) e2e_mean: Option<f64>,
    pub(crate) e2e_p99: Option<f64>,
    pub(crate) output_tokens_per_s: Option<f64>,
    pub(crate) requests_per_s: Option<f64>,
}

impl Repetition {
    pub(crate) fn of(phase: &PhaseTotals) -> Self {
        let (totals, all) = (&phase.totals, &phase.latencies);
        let window = totals.window_length();
        let per_second = |n: Option<u64>| n.zip(window).and_then(|(n, window)| rate(n, window));
        let mean = |of| all.get(of).and_then(Distribution::mean);
        let quantile = |of, q| all.get(of)?.quantile(q).map(|v| v as f64);
        // Within a burst they mean nothing.
        let even = !totals.bursts.is_bursty();
        Self {
            ttft_mean: mean(LatencyKind::Ttft),
            ttft_p50: quantile(LatencyKind::Ttft, 0.5),
            ttft_p99: quantile(LatencyKind::Ttft, 0.99),
            inter_chunk_p50: quantile(LatencyKind::InterChunk, 0.5).filter(|_| even),
            inter_chunk_p99: quantile(LatencyKind::InterChunk, 0.99).filter(|_| even),
            e2e_mean: mean(LatencyKind::E2e),
            e2e_p99: quantile(LatencyKind::E2e, 0.99),
            output_tokens_per_s: per_second(totals.tokens_in_windows()),
            requests_per_s: per_second((totals.ok > 0).then_some(totals.work.main.delivered.requests)),
        }
    }
}

/// A phase in a line, for who watches the run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PhaseSummary {
    pub ok: u64,
    /// Without those that Ctrl-C ended.
    pub failed: u64,
    pub output_tokens_per_s: Option<f64>,
    pub ttft_p50: Option<Nanos>,
    pub ttft_p99: Option<Nanos>,
}

impl PhaseSummary {
    pub(crate) fn of(phase: &PhaseTotals) -> Self {
        let totals = &phase.totals;
        let ttft = |q| phase.latencies.get(LatencyKind::Ttft)?.quantile(q).map(Nanos);
        let window = totals.window_length();
        Self {
            ok: totals.ok,
            failed: totals.failed().saturating_sub(totals.cut_off),
            output_tokens_per_s: totals
                .tokens_in_windows()
                .zip(window)
                .and_then(|(n, window)| rate(n, window)),
            ttft_p50: ttft(0.5),
            ttft_p99: ttft(0.99),
        }
    }
}
