//! A load, taken in while it runs.
//!
//! Owns what is kept of each request and of each phase, and the bounds on it: every request is in the sums and
//! distributions, `request_list` holds as many as there is room for. Never judges (`figures` and `verdict` do). Driven by
//! the hub's collector, or by whoever holds the events.

pub(crate) mod bursts;
pub(crate) mod delivered;
pub(crate) mod distribution;
pub(crate) mod failures;
pub(crate) mod latencies;
pub(crate) mod lateness;
pub(crate) mod live;
pub(crate) mod phase_totals;
pub(crate) mod request_figures;
pub(crate) mod request_list;
pub(crate) mod streams;
pub(crate) mod token_series;
pub(crate) mod token_sum;
pub(crate) mod tokens;
pub(crate) mod totals;
pub(crate) mod usage;

use crate::clock::{Mono, Window};
use crate::event::{Calibration, Choice, ClientLog, LoadEvent, Loaded, PhaseLog, RequestLog};
use crate::plan::{LoadPlan, Shape, Slo};
use crate::units::Nanos;

use super::Aggregate;
use super::slow_gaps::{SlowGap, SlowGaps};
use super::timeline::Timeline;

pub use live::{Live, PhaseProgress};
pub use phase_totals::{PhaseSummary, StepOutline};

use distribution::{Distribution, Recorded};
use failures::FailureGroup;
use latencies::LatencyKind;
use live::Progress;
use phase_totals::{PhaseTotals, Repetition, StepTotals};
use request_figures::RequestFigures;
use request_list::{PhaseIndex, RequestList};
use token_series::Arrived;
use totals::{Terms, Totals};

/// The load as far as its events were applied.
#[derive(Debug, Clone)]
pub struct LoadPart {
    pub live: Live,
    /// The steps that ended.
    pub steps: Vec<StepOutline>,
    /// After the last event only.
    pub totals: Option<Box<LoadTotals>>,
}

/// Everything that one load gave.
#[derive(Debug, Clone)]
pub struct LoadTotals {
    pub(crate) requests: RequestList,
    pub(crate) steps: Vec<StepTotals>,
    /// Of all steps.
    pub(crate) all: Totals,
    pub(crate) connect: Option<Recorded>,
    pub(crate) client: ClientLog,
    /// Requests that were sent a second time.
    pub(crate) resent: u64,
    pub(crate) calibration: Option<Calibration>,
    pub(crate) is_sweep: bool,
    slo: Option<Slo>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the cause of a slow token is looked for in the next version")
    )]
    pub(crate) slow_gaps: Vec<SlowGap>,
    #[cfg_attr(not(test), expect(dead_code, reason = "no view shows a timeline yet"))]
    pub(crate) tokens: Timeline<Arrived>,
}

impl LoadTotals {
    /// Whether any measured request succeeded.
    #[must_use]
    pub const fn any_ok(&self) -> bool {
        self.all.ok > 0
    }

    /// Measured requests that failed.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.all.failed()
    }

    /// Whether a service level was given and a measured request missed it or failed.
    #[must_use]
    pub const fn misses_slo(&self) -> bool {
        self.slo.is_some() && self.all.good < self.all.sent - self.all.cut_off
    }

    /// Failed requests by cause, the earliest first.
    pub(crate) fn failures(&self) -> Vec<FailureGroup> {
        self.all.failures.groups()
    }

    /// Whether any text arrived in the measured part, also of requests that failed.
    #[must_use]
    pub const fn any_text(&self) -> bool {
        self.all.work.main.delivered.chunks > 0
    }

    pub(crate) fn phases(&self) -> impl Iterator<Item = &PhaseLog> + Clone {
        self.steps.iter().flat_map(|step| &step.phases)
    }
}

/// A load under way.
#[derive(Debug, Clone)]
pub struct LoadAggregate {
    steps: Vec<Shape>,
    is_sweep: bool,
    repeat: u32,
    slo: Option<Slo>,
    asked_model: Option<String>,
    requests: RequestList,
    /// The phase under way.
    phase: PhaseTotals,
    /// The current step's phases; of a load that is no sweep, the whole of it.
    step: PhaseTotals,
    repetitions: Vec<Repetition>,
    /// The current step's phases as the driver saw them.
    phases: Vec<PhaseLog>,
    done: Vec<StepTotals>,
    outlines: Vec<StepOutline>,
    all: Totals,
    connect: Distribution,
    client: ClientLog,
    resent: u64,
    calibration: Option<Calibration>,
    progress: Progress,
    slow_gaps: SlowGaps,
    tokens: Timeline<Arrived>,
}

impl LoadAggregate {
    /// Nothing yet.
    #[must_use]
    pub fn new(plan: &LoadPlan) -> Self {
        Self {
            steps: plan.steps.clone(),
            is_sweep: plan.sweep.is_some(),
            repeat: plan.repeat,
            slo: plan.slo,
            asked_model: plan.model.clone(),
            requests: RequestList::default(),
            phase: PhaseTotals::new(),
            step: PhaseTotals::new(),
            repetitions: Vec::new(),
            phases: Vec::new(),
            done: Vec::new(),
            outlines: Vec::new(),
            all: Totals::default(),
            connect: Distribution::new(),
            client: ClientLog::default(),
            resent: 0,
            calibration: None,
            progress: Progress::default(),
            slow_gaps: SlowGaps::default(),
            tokens: Timeline::default(),
        }
    }

    fn request(&mut self, log: &RequestLog, loaded: Loaded) {
        let answer = RequestFigures::of(log);
        let terms = Terms { slo: self.slo.as_ref(), model: self.asked_model.as_deref() };
        self.phase.add(&answer, &terms, loaded);
        self.progress.ended(&answer);
        token_series::record(&mut self.tokens, &answer);
        if answer.counts() {
            self.offer_gaps(&answer);
        }
        self.requests.add(PhaseIndex { step: self.done.len(), repetition: self.phases.len() }, &answer);
    }

    fn offer_gaps(&mut self, answer: &RequestFigures<'_>) {
        for stream in &answer.streams {
            let choice = stream.choice().map_or(0, Choice::index);
            for (chunk, (from, to)) in (1..).zip(stream.gaps()) {
                if !answer.late.is_late(from) && !answer.late.is_late(to) {
                    let (window, request) = (Window { from, to }, answer.request.id);
                    self.slow_gaps.offer(SlowGap { window, request, choice, chunk });
                }
            }
        }
    }

    fn phase_ended(&mut self, log: &PhaseLog) {
        let mut phase = std::mem::replace(&mut self.phase, PhaseTotals::new());
        phase.totals.close(log);
        self.all.merge(&phase.totals);
        self.connect += &phase.connect;
        self.repetitions.push(Repetition::of(&phase));
        self.step.merge(&phase);
        self.phases.push(log.clone());
        let last = log.repetition + 1 >= self.repeat;
        self.progress.phase_ended(log.ended, PhaseSummary::of(&phase), last);
        if last {
            self.end_step(log.step);
        }
    }

    fn end_step(&mut self, index: usize) {
        let Some(shape) = self.steps.get(index).copied() else { return };
        let step = std::mem::replace(&mut self.step, PhaseTotals::new());
        // A data set without timestamps is sent one after another.
        let shape = match shape {
            Shape::Trace if step.lag.mean().is_none() => Shape::Closed { concurrency: 1 },
            shape => shape,
        };
        let done = StepTotals {
            shape,
            latencies: step.latencies.recorded(),
            lag: step.lag.recorded(),
            totals: step.totals,
            repetitions: std::mem::take(&mut self.repetitions),
            phases: std::mem::take(&mut self.phases),
        };
        self.outlines.push(done.outline());
        self.done.push(done);
    }

    /// Nothing more comes. What Ctrl-C left of a step is its end.
    fn ended(&mut self) {
        if let Some(step) = self.phases.last().map(|phase| phase.step) {
            self.end_step(step);
        }
        self.requests.sort();
    }

    fn ttft(&self, q: f64) -> Option<Nanos> {
        let quantile = |all: &Distribution| all.quantile(q).map(Nanos);
        let before = self.step.latencies.get(LatencyKind::Ttft)?;
        let since = self.phase.latencies.get(LatencyKind::Ttft)?;
        if before.mean().is_none() {
            return quantile(since);
        }
        let mut both = before.clone();
        both += since;
        quantile(&both)
    }
}

impl Aggregate for LoadAggregate {
    type Event = LoadEvent;
    type Part = LoadPart;
    type Finals = ();

    fn apply(&mut self, event: LoadEvent) {
        match event {
            LoadEvent::Began { t, model } => {
                self.progress.began(t);
                self.asked_model = model;
            }
            LoadEvent::Calibrated(by) => self.calibration = Some(by),
            LoadEvent::Sent { t, warmup } => self.progress.sent(t, warmup),
            LoadEvent::Request { log, loaded } => self.request(&log, loaded),
            LoadEvent::Phase(log) => self.phase_ended(&log),
            LoadEvent::Ended { client, resent } => {
                self.client = *client;
                self.resent = resent;
            }
        }
    }

    fn snapshot(&self, now: Mono) -> LoadPart {
        let live = Live { ttft_p50: self.ttft(0.5), ttft_p99: self.ttft(0.99), ..self.progress.live(now) };
        LoadPart { live, steps: self.outlines.clone(), totals: None }
    }

    fn finish(mut self, (): &()) -> LoadPart {
        self.ended();
        let part = self.snapshot(Mono(0));
        let totals = LoadTotals {
            requests: self.requests,
            steps: self.done,
            all: self.all,
            connect: self.connect.recorded(),
            client: self.client,
            resent: self.resent,
            calibration: self.calibration,
            is_sweep: self.is_sweep,
            slo: self.slo,
            slow_gaps: self.slow_gaps.longest_first(),
            tokens: self.tokens,
        };
        LoadPart { totals: Some(Box::new(totals)), ..part }
    }
}

#[cfg(test)]
mod tests;
