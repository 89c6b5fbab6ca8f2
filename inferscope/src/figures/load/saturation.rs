//! Whether a server has more to give.
//!
//! Owns the judgement over a step of load: of an open loop by itself (does the backlog grow?), of a closed one
//! against the steps below it (does more concurrency give more tokens?); the knee of a sweep, and when a sweep has shown what
//! it was to show. Called by `figures::load`, and between two steps by whoever drives the load.

use crate::aggregate::load::StepOutline;
use crate::aggregate::load::phase_totals::Backlog;
use crate::plan::{LoadPlan, Shape};
use crate::reason::{LoadReason, Saturation};

/// Of what was asked for in more slots, at least this share has to come as throughput.
const LEAST_GAIN: f64 = 0.1;
/// A backlog of fewer requests is chance.
const LEAST_BACKLOG: f64 = 8.0;
/// The backlog of the last quarter against that of the first half: 3.5 where it grows in a straight line, 1 for a
/// queue that is steady.
const GROWTH: f64 = 1.6;
/// Share of the arrivals that were answered while they came.
const KEPT_UP: f64 = 0.9;

/// Why the server is saturated in each of the steps; `None`: it is not.
pub(crate) fn of_steps(steps: &[StepOutline]) -> Vec<Option<Saturation>> {
    (0..steps.len()).map(|n| of_step(&steps[n], &steps[..n])).collect()
}

/// `before`: the steps below it.
fn of_step(step: &StepOutline, before: &[StepOutline]) -> Option<Saturation> {
    match step.shape {
        Shape::Open { .. } | Shape::Trace => step.backlog.iter().find_map(grown),
        Shape::Closed { .. } => {
            let last = before.last()?;
            // A step in which all failed gives nothing to compare.
            let (gave, gives) = (last.gave?, step.gave.unwrap_or(0.0));
            let (concurrency, throughput) = (step.offered / last.offered - 1.0, gives / gave - 1.0);
            (throughput < LEAST_GAIN * concurrency).then_some(Saturation::NoGain { concurrency, throughput })
        }
    }
}

/// The requests under way grew for as long as more were sent.
fn grown(backlog: &Backlog) -> Option<Saturation> {
    let Backlog { first_half, last_quarter, answered } = *backlog;
    let grows = last_quarter >= LEAST_BACKLOG && last_quarter > GROWTH * first_half && answered < KEPT_UP;
    grows.then_some(Saturation::Backlog { first_half, last_quarter })
}

/// The last step below saturation, where a later one is saturated.
pub(crate) fn knee(steps: &[Option<Saturation>]) -> Result<usize, LoadReason> {
    let first = steps.iter().position(Option::is_some).ok_or(LoadReason::NeverSaturated)?;
    first.checked_sub(1).ok_or(LoadReason::SaturatedAtFirst)
}

/// The server is saturated in the last step that ended, and the sweep's further ones would show nothing.
pub(crate) fn ends_sweep(plan: &LoadPlan, steps: &[StepOutline]) -> Option<Saturation> {
    let (last, before) = steps.split_last()?;
    let goes_on = plan.sweep.is_none_or(|sweep| sweep.all) || steps.len() >= plan.steps.len();
    of_step(last, before).filter(|_| !goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{InFlight, PhaseLog};
    use crate::fixture::{self, ms};

    fn phase(sent: u64, in_flight: &[u32]) -> Option<Saturation> {
        let series = in_flight.iter().enumerate();
        let at = |(n, v): (usize, &u32)| InFlight { t: ms(n as u64 * 100), mean: f64::from(*v), max: *v };
        let phase = PhaseLog {
            sent_all: ms(in_flight.len() as u64 * 100 - 1),
            in_flight: series.map(at).collect(),
            ..fixture::phase(sent, ms(0), ms(10_000))
        };
        grown(&Backlog::of(&phase)?)
    }

    #[test]
    fn a_backlog_that_grows_is_saturation_and_a_steady_one_is_not() {
        let why = phase(100, &[5, 10, 15, 20, 25, 30, 35, 40]).unwrap().to_string();
        assert!(
            why.contains("12 were under way in the first half") && why.contains("35 in the last quarter"),
            "{why}"
        );
        assert_eq!(phase(100, &[20, 22, 19, 21, 20, 26, 18, 23]), None);
        // Few, and nearly all answered.
        assert_eq!(phase(100, &[0, 1, 2, 3, 4, 5, 6, 7]), None);
        assert_eq!(phase(1000, &[5, 10, 15, 20, 25, 30, 35, 40]), None);
    }

    #[test]
    fn the_knee_is_the_last_step_before_saturation() {
        let full = Some(Saturation::NoGain { concurrency: 1.0, throughput: 0.0 });
        assert_eq!(knee(&[None, None, full]), Ok(1));
        assert_eq!(knee(&[None, None]), Err(LoadReason::NeverSaturated));
        // Saturated from the first: the knee lies below what was asked.
        assert_eq!(knee(&[full]), Err(LoadReason::SaturatedAtFirst));
    }
}
