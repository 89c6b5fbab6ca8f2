//! Where a load stands while it runs.
//!
//! Owns the counts and rates that a view shows during the run. They are rough by nature: a rate is of the answers that
//! ended lately. What they count is counted as in the report. Fed by the load's aggregate.

use std::collections::VecDeque;

use crate::clock::Mono;
use crate::units::Nanos;

use super::phase_totals::PhaseSummary;
use super::request_figures::RequestFigures;

/// The rate is over this long, or over twice the time of an answer where that is longer: a request's tokens are known when
/// it has ended.
const LATELY: Nanos = Nanos::from_millis(2_000);
const LONGEST: Nanos = Nanos::from_millis(30_000);
/// Answers that end within this are counted together.
const TOGETHER: Nanos = Nanos::from_millis(100);

/// The load at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Live {
    /// Of the whole load: measured requests that ended, those of them that succeeded, and warm-up requests that ended.
    pub ended: u64,
    pub ok: u64,
    pub warmed: u64,
    /// Requests that failed, warm-up included.
    pub failed: u64,
    /// Phases that ended: the index of the one under way.
    pub phases: usize,
    pub phase: PhaseProgress,
    pub in_flight: u64,
    /// Of the answers that ended lately.
    pub tokens_per_s: Option<f64>,
    /// Of the step under way; `None` until one of its requests had a first token.
    pub ttft_p50: Option<Nanos>,
    pub ttft_p99: Option<Nanos>,
    /// Of the phase that ended last.
    pub last_phase: PhaseSummary,
}

/// The phase under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseProgress {
    pub began: Option<Mono>,
    /// The first measured request was sent.
    pub measured_from: Option<Mono>,
    /// Warm-up requests that ended.
    pub warmed: u64,
    /// Measured requests that ended.
    pub ended: u64,
}

/// What [`Live`] is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    live: Live,
    /// When answers ended and how many tokens they brought.
    lately: VecDeque<(Mono, u64)>,
    /// The usual time of an answer, about.
    usual: Nanos,
}

impl Progress {
    pub(crate) const fn began(&mut self, t: Mono) {
        self.live.phase.began = Some(t);
    }

    pub(crate) fn sent(&mut self, t: Mono, warmup: bool) {
        self.live.in_flight += 1;
        if !warmup && self.live.phase.measured_from.is_none() {
            self.live.phase.measured_from = Some(t);
        }
    }

    pub(crate) fn ended(&mut self, answer: &RequestFigures<'_>) {
        let (request, live) = (answer.request, &mut self.live);
        live.in_flight = live.in_flight.saturating_sub(1);
        if request.warmup {
            live.warmed += 1;
            live.phase.warmed += 1;
        } else {
            live.ended += 1;
            live.phase.ended += 1;
        }
        if request.failure.is_some() {
            live.failed += 1;
            return;
        }
        live.ok += u64::from(!request.warmup);
        let took = request.done.since(request.sent);
        self.usual = if self.usual == Nanos::ZERO { took } else { Nanos(self.usual.0 / 8 * 7 + took.0 / 8) };
        let tokens = answer.tokens.total.unwrap_or(0);
        match self.lately.back_mut() {
            Some((t, sum)) if request.done.since(*t) < TOGETHER => *sum = sum.saturating_add(tokens),
            _ => self.lately.push_back((request.done, tokens)),
        }
        let from = request.done.0.saturating_sub(self.window().0);
        while self.lately.front().is_some_and(|(t, _)| t.0 < from) {
            self.lately.pop_front();
        }
    }

    /// A phase has ended; `step`: and its step.
    pub(crate) fn phase_ended(&mut self, t: Mono, summary: PhaseSummary, step: bool) {
        self.live.phases += 1;
        self.live.phase = PhaseProgress { began: Some(t), ..PhaseProgress::default() };
        self.live.in_flight = 0;
        self.live.last_phase = summary;
        self.lately.clear();
        if step {
            self.usual = Nanos::ZERO;
        }
    }

    /// As of `now`, without the latencies.
    pub(crate) fn live(&self, now: Mono) -> Live {
        Live { tokens_per_s: self.tokens_per_s(now), ..self.live.clone() }
    }

    fn window(&self) -> Nanos {
        Nanos(self.usual.0.saturating_mul(2)).clamp(LATELY, LONGEST)
    }

    fn tokens_per_s(&self, now: Mono) -> Option<f64> {
        let from = Mono(now.0.saturating_sub(self.window().0)).max(self.live.phase.began.unwrap_or(Mono(0)));
        let time = now.since(from).as_secs_f64();
        let ended = self.lately.iter().filter(|(t, _)| *t >= from);
        (time > 0.0 && !self.lately.is_empty()).then(|| ended.map(|(_, n)| *n).sum::<u64>() as f64 / time)
    }
}
