//! A load, taken in while it runs.
//!
//! Owns what is kept of each request and of each phase, and the bounds on it: every request is in the sums and
//! distributions, the report lists as many as there is room for. Decides when a sweep has shown what it was to
//! show (`saturation`). Fed by `run` with what the driver hands over; read once at the end, by `analysis`.

use std::ops::ControlFlow;

use crate::clock::Origin;
use crate::event::{Calibration, ClientLog, Loaded, PhaseLog, RequestLog};
use crate::plan::{LoadPlan, Shape, Slo};
use crate::report::model;
use crate::units::Nanos;

use super::confidence::{self, Run};
use super::histogram::Distribution;
use super::load_totals::{Fold, Sums, Terms};
use super::requests::{PhaseIndex, RequestFigures, listed};
use super::saturation::{self, Height};
use super::summary::Summary;

/// Chunks listed over all requests; some 5 MB here, three times that as JSON.
const MOST_CHUNKS: usize = 200_000;
/// Requests listed.
const MOST_REQUESTS: usize = 100_000;

/// Everything that one load gave.
#[derive(Debug, Clone)]
pub struct Measured {
    origin: Origin,
    steps: Vec<Shape>,
    is_sweep: bool,
    goes_on: bool,
    repeat: u32,
    slo: Option<Slo>,
    asked_model: Option<String>,
    pub(super) requests: Vec<model::Request>,
    chunks_listed: usize,
    pub(super) unlisted: u64,
    pub(super) without_chunks: u64,
    /// The phase under way.
    phase: Fold,
    /// The current step's phases; of a load that is no sweep, the whole of it.
    step: Fold,
    runs: Vec<Run>,
    /// Of the last phase that ended.
    summary: Summary,
    /// The current step's phases as the driver saw them.
    phases: Vec<PhaseLog>,
    pub(super) done: Vec<StepDone>,
    pub(super) sums: Sums,
    /// Of all steps.
    pub(super) connect: Distribution,
    pub(super) client: ClientLog,
    pub(super) resent: u64,
    pub(super) calibration: Option<Calibration>,
    ended_early: bool,
}

/// A step that is over.
#[derive(Debug, Clone)]
pub(super) struct StepDone {
    pub(super) shape: Shape,
    pub(super) sums: Sums,
    pub(super) timing: model::Timing,
    pub(super) lag: model::Dist,
    pub(super) phases: Vec<PhaseLog>,
    pub(super) saturated: Option<String>,
}

impl StepDone {
    /// Requests a second that an open loop sent.
    pub(super) fn offered(&self) -> Option<f64> {
        let of = |p: &PhaseLog| Some((p.measured_sent, p.offered_over?.as_secs_f64()));
        let all = self.phases.iter().filter_map(of);
        let (sent, seconds) = all.fold((0, 0.0), |sum, phase| (sum.0 + phase.0, sum.1 + phase.1));
        (seconds > 0.0).then(|| sent as f64 / seconds)
    }
}

impl Measured {
    /// Nothing yet. `model`: the one that is asked for.
    #[must_use]
    pub fn new(plan: &LoadPlan, origin: Origin, model: Option<&str>) -> Self {
        Self {
            origin,
            steps: plan.steps.clone(),
            is_sweep: plan.sweep.is_some(),
            goes_on: plan.sweep.is_some_and(|sweep| sweep.all),
            repeat: plan.repeat,
            slo: plan.slo,
            asked_model: model.map(str::to_owned),
            requests: Vec::new(),
            chunks_listed: 0,
            unlisted: 0,
            without_chunks: 0,
            phase: Fold::new(),
            step: Fold::new(),
            runs: Vec::new(),
            summary: Summary::default(),
            phases: Vec::new(),
            done: Vec::new(),
            sums: Sums::default(),
            connect: Distribution::new(),
            client: ClientLog::default(),
            resent: 0,
            calibration: None,
            ended_early: false,
        }
    }

    /// Prompts are made to a length that the server counted.
    pub const fn calibrated(&mut self, by: Calibration) {
        self.calibration = Some(by);
    }

    /// A request has ended; `loaded` as far as it is known then.
    pub fn request(&mut self, log: &RequestLog, loaded: Loaded) {
        let answer = RequestFigures::of(log);
        let terms = Terms { slo: self.slo.as_ref(), model: self.asked_model.as_deref() };
        self.phase.add(&answer, &terms, loaded);
        if self.requests.len() >= MOST_REQUESTS {
            self.unlisted += 1;
            return;
        }
        let room = self.chunks_listed + log.chunks.len() <= MOST_CHUNKS;
        if room {
            self.chunks_listed += log.chunks.len();
        } else {
            self.without_chunks += 1;
        }
        let place = PhaseIndex { step: self.done.len(), repetition: self.phases.len() };
        self.requests.push(listed(self.origin, place, &answer, room));
    }

    /// A phase has ended. `Break`: the server is saturated, and the sweep's further steps would show nothing.
    pub fn phase(&mut self, log: PhaseLog) -> ControlFlow<()> {
        let mut phase = std::mem::replace(&mut self.phase, Fold::new());
        phase.close(&log);
        self.sums.merge(&phase.sums);
        self.connect += &phase.connect;
        self.runs.push(Run::of(&phase));
        self.summary = Summary::of(&phase);
        self.step.merge(&phase);
        let (step, last) = (log.step, log.repetition + 1 >= self.repeat);
        self.phases.push(log);
        if last { self.end_step(step) } else { ControlFlow::Continue(()) }
    }

    fn end_step(&mut self, index: usize) -> ControlFlow<()> {
        let Some(shape) = self.steps.get(index).copied() else { return ControlFlow::Break(()) };
        let fold = std::mem::replace(&mut self.step, Fold::new());
        // A data set without timestamps is sent one after another.
        let shape = match shape {
            Shape::Trace if fold.lag.mean().is_none() => Shape::Closed { concurrency: 1 },
            shape => shape,
        };
        let repeat = confidence::repeat(&std::mem::take(&mut self.runs), self.repeat);
        let timing = super::timing::timing(self.origin, &fold, self.slo.as_ref(), repeat);
        let phases = std::mem::take(&mut self.phases);
        let heights: Vec<Height> = self.done.iter().map(Height::of).collect();
        let lag_reason = match shape {
            Shape::Closed { .. } => "a closed loop has no schedule",
            Shape::Open { .. } | Shape::Trace => "no measured request was sent",
        };
        let mut done = StepDone {
            shape,
            lag: fold.lag.report(lag_reason),
            sums: fold.sums,
            timing,
            phases,
            saturated: None,
        };
        done.saturated = saturation::of_step(&done, &heights);
        let over = done.saturated.is_some() && self.is_sweep && !self.goes_on && index + 1 < self.steps.len();
        self.ended_early |= over;
        self.done.push(done);
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The load is over: nothing more comes. What Ctrl-C left of a step is its end.
    pub fn end(&mut self, client: ClientLog, resent: u64) {
        if !self.phases.is_empty() {
            let step = self.phases.last().map_or(0, |p| p.step);
            let _ = self.end_step(step);
        }
        self.client = client;
        self.resent = resent;
        self.requests.sort_by_key(|r| r.id);
    }

    /// Whether any measured request succeeded.
    #[must_use]
    pub const fn any_ok(&self) -> bool {
        self.sums.ok > 0
    }

    /// Measured requests that failed.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.sums.failed()
    }

    /// Whether a service level was given and a measured request missed it or failed.
    #[must_use]
    pub const fn misses_slo(&self) -> bool {
        self.slo.is_some() && self.sums.good < self.sums.sent - self.sums.cut_off
    }

    /// What failed requests said, the earliest cause first.
    #[must_use]
    pub fn failures(&self) -> Vec<model::FailureGroup> {
        self.sums.failures.report(self.origin)
    }

    /// Whether any text arrived in the measured part, also of requests that failed.
    #[must_use]
    pub const fn any_text(&self) -> bool {
        self.sums.work.main.delivered.chunks > 0
    }

    /// Of the last phase that ended.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Why the server had no more to give in the last step that ended.
    #[must_use]
    pub fn saturated(&self) -> Option<&str> {
        self.done.last()?.saturated.as_deref()
    }

    pub(super) const fn is_sweep(&self) -> bool {
        self.is_sweep
    }

    pub(super) const fn ended_early(&self) -> bool {
        self.ended_early
    }

    /// The one step of a load that is no sweep.
    pub(super) fn only(&self) -> Option<&StepDone> {
        if self.is_sweep { None } else { self.done.first() }
    }

    /// CPU time of the thread that sends and reads, and the time it had, over all phases.
    pub(super) fn thread_cpu(&self) -> (Nanos, Nanos) {
        let phases = || self.done.iter().flat_map(|d| &d.phases);
        (phases().map(|p| p.thread_cpu).sum(), phases().map(|p| p.ended.since(p.started)).sum())
    }
}
