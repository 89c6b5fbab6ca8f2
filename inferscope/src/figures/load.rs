//! The figures of a load.
//!
//! Owns which figures a load and each of its steps has. Computes nothing itself. Called with the aggregate's totals, once a
//! report.

pub(crate) mod in_flight;
pub(crate) mod latency;
pub(crate) mod repeat;
pub(crate) mod saturation;
pub(crate) mod timing;
pub(crate) mod window;

use crate::aggregate::load::LoadTotals;
use crate::aggregate::load::phase_totals::StepTotals;
use crate::plan::{LoadPlan, Shape};
use crate::reason::{Known, LoadReason, Saturation};

use in_flight::InFlightFigures;
use latency::Latency;
use timing::Timing;

/// Of the whole load.
#[derive(Debug)]
pub(crate) struct LoadFigures<'a> {
    pub(crate) totals: &'a LoadTotals,
    pub(crate) steps: Vec<StepFigures<'a>>,
    pub(crate) in_flight: InFlightFigures,
    pub(crate) connect: Latency,
    /// Of a load that is no sweep.
    pub(crate) schedule_lag: Latency,
    pub(crate) timing: Known<Timing>,
    /// The last step below saturation, where a later one is saturated.
    pub(crate) knee: Known<usize>,
    /// Steps of a sweep that were not run because the server was saturated.
    pub(crate) steps_left_out: usize,
}

/// Of one step.
#[derive(Debug)]
pub(crate) struct StepFigures<'a> {
    pub(crate) totals: &'a StepTotals,
    pub(crate) timing: Timing,
    pub(crate) schedule_lag: Latency,
    pub(crate) in_flight: InFlightFigures,
    /// Requests a second that an open loop sent.
    pub(crate) offered: Option<f64>,
    /// Slots that were asked for, or requests a second that were sent.
    pub(crate) load: f64,
    /// Output tokens a second, or requests where tokens are unknown.
    pub(crate) gave: Option<f64>,
    /// `None`: the server has more to give.
    pub(crate) saturated: Option<Saturation>,
}

impl<'a> LoadFigures<'a> {
    pub(crate) fn of(plan: &LoadPlan, totals: &'a LoadTotals) -> Self {
        let outlines: Vec<_> = totals.steps.iter().map(StepTotals::outline).collect();
        let saturated = saturation::of_steps(&outlines);
        let steps: Vec<_> = totals
            .steps
            .iter()
            .zip(&outlines)
            .zip(&saturated)
            .map(|((step, outline), saturated)| StepFigures {
                totals: step,
                timing: Timing::of_step(step, plan),
                schedule_lag: Latency::of(step.lag.clone(), no_schedule(step.shape)),
                in_flight: InFlightFigures::of(step.phases.iter()),
                offered: step.offered(),
                load: outline.offered,
                gave: outline.gave,
                saturated: *saturated,
            })
            .collect();
        let knee = saturation::knee(&saturated).map_err(|why| match totals.any_ok() {
            true => why,
            false => LoadReason::NoneSucceeded,
        });
        let over = saturation::ends_sweep(plan, &outlines).is_some();
        Self {
            in_flight: InFlightFigures::of(totals.phases()),
            connect: Latency::of(
                totals.connect.clone(),
                if totals.any_ok() { LoadReason::ConnectionsReused } else { LoadReason::NoneSucceeded },
            ),
            schedule_lag: match steps.first() {
                Some(step) if !totals.is_sweep => step.schedule_lag.clone(),
                _ if totals.is_sweep => Latency::unknown(LoadReason::SeeSteps),
                _ => Latency::unknown(LoadReason::NoneSent),
            },
            timing: match steps.first() {
                _ if totals.is_sweep => Err(LoadReason::TimingOfSteps.into()),
                Some(step) => Ok(step.timing.clone()),
                None => Ok(Timing::of_nothing()),
            },
            knee: knee.map_err(Into::into),
            steps_left_out: if over { plan.steps.len().saturating_sub(totals.steps.len()) } else { 0 },
            totals,
            steps,
        }
    }
}

const fn no_schedule(shape: Shape) -> LoadReason {
    match shape {
        Shape::Closed { .. } => LoadReason::ClosedLoop,
        Shape::Open { .. } | Shape::Trace => LoadReason::NoneSent,
    }
}
