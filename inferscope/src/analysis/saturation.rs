//! Whether a server has more to give.
//!
//! Owns the judgement over a step of load: of an open loop by itself (does the backlog grow?), of a closed one
//! against the steps below it (does more concurrency give more tokens?); and the knee of a sweep. Called by
//! `load_aggregate` and `sweep`.

use crate::clock::Mono;
use crate::event::{InFlight, PhaseLog};
use crate::plan::Shape;

use super::load_aggregate::StepDone;

/// Of what was asked for in more slots, at least this share has to come as throughput.
const LEAST_GAIN: f64 = 0.1;
/// A backlog of fewer requests is chance.
const LEAST_BACKLOG: f64 = 8.0;
/// The backlog of the last quarter against that of the first half: 3.5 where it grows in a straight line, 1 for a
/// queue that is steady.
const GROWTH: f64 = 1.6;
/// Share of the arrivals that were answered while they came.
const KEPT_UP: f64 = 0.9;

/// What a step was and gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Height {
    /// Slots that were asked for, or requests a second that were sent.
    pub(super) offered: f64,
    /// Output tokens a second, or requests where tokens are unknown.
    pub(super) gave: Option<f64>,
    saturated: bool,
}

impl Height {
    pub(super) fn of(step: &StepDone) -> Self {
        let gave = step.timing.output_tokens_per_s.or(step.timing.requests_per_s);
        Self {
            offered: step.offered().unwrap_or_else(|| step.shape.height()),
            gave,
            saturated: step.saturated.is_some(),
        }
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
            let (asked_more, given_more) = (now.offered / last.offered - 1.0, gives / gave - 1.0);
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
    let part = |quarters: u64| Mono(from.0 + span.0 / 4 * quarters);
    let first_half = mean(&phase.in_flight, from, part(2))?;
    let at_last = mean(&phase.in_flight, part(3), phase.sent_all)?;
    let answered = arrivals_answered(phase, at_last)?;
    let grows = at_last >= LEAST_BACKLOG && at_last > GROWTH * first_half && answered < KEPT_UP;
    grows.then(|| {
        format!(
            "requests came faster than they were answered: {first_half:.0} were under way in the first half of the \
             time and {at_last:.0} in the last quarter"
        )
    })
}

/// The share of the arrivals that had been answered when the last was sent, about.
fn arrivals_answered(phase: &PhaseLog, at_end: f64) -> Option<f64> {
    let sent = phase.measured_sent as f64;
    (sent > 0.0).then(|| (sent - at_end) / sent)
}

/// Of the stretches that begin within; the one that `from` lies in counts whole.
fn mean(series: &[InFlight], from: Mono, to: Mono) -> Option<f64> {
    let first = series.partition_point(|s| s.t <= from).saturating_sub(1);
    let within = series.get(first..series.partition_point(|s| s.t <= to))?;
    (!within.is_empty()).then(|| within.iter().map(|s| s.mean).sum::<f64>() / within.len() as f64)
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
            loaded_to: None,
            timed: false,
            offered_over: None,
            prompts: None,
            last_byte: ms(10_000),
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
        let why = backlog(&phase(100, &[5, 10, 15, 20, 25, 30, 35, 40])).unwrap();
        assert!(
            why.contains("12 were under way in the first half") && why.contains("35 in the last quarter"),
            "{why}"
        );
        assert_eq!(backlog(&phase(100, &[20, 22, 19, 21, 20, 26, 18, 23])), None);
        // Few, and nearly all answered.
        assert_eq!(backlog(&phase(100, &[0, 1, 2, 3, 4, 5, 6, 7])), None);
        assert_eq!(backlog(&phase(1000, &[5, 10, 15, 20, 25, 30, 35, 40])), None);
    }

    #[test]
    fn the_knee_is_the_last_step_before_saturation() {
        let step = |saturated| Height { offered: 1.0, gave: Some(1.0), saturated };
        assert_eq!(knee(&[step(false), step(false), step(true)]), Some(1));
        assert_eq!(knee(&[step(false), step(false)]), None);
        // Saturated from the first: the knee lies below what was asked.
        assert_eq!(knee(&[step(true)]), None);
    }
}
