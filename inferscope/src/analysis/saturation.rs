//! Whether a server has more to give.
//!
//! Owns the judgement over a step of load: of an open loop by itself (does the backlog grow?), of a closed one
//! against the steps below it (does more concurrency give more tokens?); and the knee of a sweep. Called by
//! `measured` and `sweep`.

use crate::clock::Mono;
use crate::event::{InFlight, PhaseLog};
use crate::plan::Shape;

use super::measured::StepDone;

/// Of what was asked for in more slots, at least this share has to come as throughput.
const LEAST_GAIN: f64 = 0.1;
/// A backlog of fewer requests is chance.
const LEAST_BACKLOG: f64 = 8.0;
/// The backlog at the end against that at half time: a steady queue has the same.
const GROWTH: f64 = 1.4;
/// Share of the arrivals that were answered while they came.
const KEPT_UP: f64 = 0.9;

/// What a step was and gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Height {
    pub(super) asked: f64,
    /// Output tokens a second, or requests where tokens are unknown.
    pub(super) gave: Option<f64>,
    saturated: bool,
}

impl Height {
    pub(super) fn of(step: &StepDone) -> Self {
        let gave = step.timing.output_tokens_per_s.or(step.timing.requests_per_s);
        Self { asked: step.shape.height(), gave, saturated: step.saturated.is_some() }
    }
}

/// Why the server is saturated in this step; `before`: the steps below it.
pub(super) fn of_step(step: &StepDone, before: &[Height]) -> Option<String> {
    match step.shape {
        Shape::Open { .. } | Shape::Trace => step.phases.iter().find_map(backlog),
        Shape::Closed { .. } => {
            let (last, now) = (before.last()?, Height::of(step));
            // A step in which all failed gives nothing to compare.
            let (gave, gives) = (last.gave?, now.gave.unwrap_or(0.0));
            let (asked_more, given_more) = (now.asked / last.asked - 1.0, gives / gave - 1.0);
            (given_more < LEAST_GAIN * asked_more).then(|| {
                format!(
                    "{:.0}% more concurrency than the step before changed the throughput by {:+.1}%",
                    asked_more * 100.0,
                    given_more * 100.0
                )
            })
        }
    }
}

/// The requests under way grew for as long as more were sent.
fn backlog(phase: &PhaseLog) -> Option<String> {
    let from = phase.measured_from?;
    let span = phase.sent_all.since(from);
    let half = Mono(from.0 + span.0 / 2);
    let (at_half, at_end) = (at(&phase.in_flight, half)?, at(&phase.in_flight, phase.sent_all)?);
    let answered = arrivals_answered(phase, at_end)?;
    let grows = at_end >= LEAST_BACKLOG && at_end > GROWTH * at_half && answered < KEPT_UP;
    grows.then(|| {
        format!(
            "requests came faster than they were answered: {at_half:.0} were under way at half time and {at_end:.0} \
             when the last was sent"
        )
    })
}

/// The share of the arrivals that had been answered when the last was sent.
fn arrivals_answered(phase: &PhaseLog, at_end: f64) -> Option<f64> {
    let sent = phase.measured_sent as f64;
    (sent > 0.0).then(|| (sent - at_end) / sent)
}

fn at(series: &[InFlight], t: Mono) -> Option<f64> {
    let after = series.partition_point(|s| s.t <= t);
    series.get(after.checked_sub(1)?).map(|s| f64::from(s.max))
}

/// The last step below saturation, where a later one is saturated.
pub(super) fn knee(steps: &[Height]) -> Option<usize> {
    let first = steps.iter().position(|step| step.saturated)?;
    first.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::ms;
    use crate::units::Nanos;
    use hdrhistogram::Histogram;

    fn phase(sent: u64, in_flight: &[u32]) -> PhaseLog {
        let series = in_flight.iter().enumerate();
        PhaseLog {
            step: 0,
            repetition: 0,
            started: ms(0),
            measured_from: Some(ms(0)),
            sent_all: ms(in_flight.len() as u64 * 100 - 1),
            ended: ms(10_000),
            measured_sent: sent,
            in_flight: series
                .map(|(n, v)| InFlight { t: ms(n as u64 * 100), mean: f64::from(*v), max: *v })
                .collect(),
            thread_cpu: Nanos::ZERO,
            timer_lag: Histogram::new(3).unwrap(),
            prompts_again: 0,
        }
    }

    #[test]
    fn a_backlog_that_grows_is_saturation_and_a_steady_one_is_not() {
        assert!(
            backlog(&phase(100, &[5, 10, 20, 30, 40])).is_some_and(|why| why.contains("40 when the last"))
        );
        assert_eq!(backlog(&phase(100, &[20, 22, 19, 21, 20])), None);
        // Few, and nearly all answered.
        assert_eq!(backlog(&phase(100, &[0, 1, 2, 4, 6])), None);
        assert_eq!(backlog(&phase(1000, &[5, 10, 20, 30, 40])), None);
    }

    #[test]
    fn the_knee_is_the_last_step_before_saturation() {
        let step = |saturated| Height { asked: 1.0, gave: Some(1.0), saturated };
        assert_eq!(knee(&[step(false), step(false), step(true)]), Some(1));
        assert_eq!(knee(&[step(false), step(false)]), None);
        // Saturated from the first: the knee lies below what was asked.
        assert_eq!(knee(&[step(true)]), None);
    }
}
