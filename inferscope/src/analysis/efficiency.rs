//! What a token and a request cost.
//!
//! Owns the division of the set's CPU over the load's window; joules and money are `joules`'s. Never
//! gives a figure whose window is too short for the samples. Called by `analysis`.

use crate::clock::Mono;
use crate::event::Observation;
use crate::report::model;
use crate::units::Nanos;

use super::Inputs;
use super::fold::Sums;
use super::measured::Measured;
use super::window::Window;

/// A window holds at least this many sample intervals: interpolation errs by up to one interval's
/// CPU at each end.
const LEAST_INTERVALS: u64 = 10;

pub(super) fn efficiency(inputs: &Inputs<'_>, measured: Option<&Measured>) -> model::Efficiency {
    let sums = measured.map(|m| &m.sums);
    let windows = sums.map(|s| s.windows()).unwrap_or_default();
    let cpu = match cpu_in_windows(inputs, windows) {
        Ok(cpu) => cpu.0 as f64,
        Err(why) => {
            return model::Efficiency { cpu_reason: Some(why), ..model::Efficiency::default() };
        }
    };
    let tokens = sums.and_then(Sums::tokens_in_windows).filter(|n| *n > 0);
    let per_token = tokens.map(|n| cpu / n as f64);
    // A request that the window cuts counts by its tokens.
    let per_request = per_token.zip(sums.and_then(Sums::tokens_a_request)).map(|(one, n)| one * n);
    let cpu_reason = match (per_token, sums.is_some_and(|s| s.ok > 0)) {
        (_, false) => Some("no measured request succeeded".to_owned()),
        (None, true) => Some("the number of tokens is unknown".to_owned()),
        (Some(_), true) => None,
    };
    model::Efficiency {
        cpu_ns_per_token: per_token,
        cpu_ns_per_request: per_request,
        cpu_reason,
        ..model::Efficiency::default()
    }
}

/// CPU of the set over all windows, or why it can't be told.
pub(super) fn cpu_in_windows(inputs: &Inputs<'_>, windows: &[Window]) -> Result<Nanos, String> {
    if windows.is_empty() {
        return cpu_in_window(inputs, None);
    }
    windows.iter().map(|window| cpu_in_window(inputs, Some(*window))).sum()
}

/// CPU of the set between the window's ends, or why it can't be told.
fn cpu_in_window(inputs: &Inputs<'_>, window: Option<Window>) -> Result<Nanos, String> {
    let observation = inputs.observation.ok_or_else(|| inputs.unobserved().to_owned())?;
    let window = window.ok_or("nothing was sent")?;
    let interval = observation.sample_interval.max(inputs.plan.observe.sample_interval);
    let least = Nanos(interval.0.saturating_mul(LEAST_INTERVALS));
    if window.length() < least {
        return Err(format!(
            "the load's window of {:.0} ms is shorter than {LEAST_INTERVALS} sample intervals ({:.0} ms)",
            window.length().as_secs_f64() * 1e3,
            least.as_secs_f64() * 1e3,
        ));
    }
    let points = points(observation);
    match (at(&points, window.from), at(&points, window.to)) {
        (Some(from), Some(to)) if to >= from => Ok(to.saturating_sub(from)),
        (Some(_), Some(_)) => Err("the set's CPU counter went back within the load's window".to_owned()),
        _ => Err("the set was not observed over the whole of the load's window".to_owned()),
    }
}

/// Cumulative CPU at the observation's start, each sample, and its end.
fn points(observation: &Observation) -> Vec<(Mono, Nanos)> {
    let total = observation.cpu_exited.total() + observation.cpu_living.total();
    let mut points = vec![(observation.started, Nanos::ZERO)];
    points.extend(observation.samples.iter().map(|s| (s.t, s.cpu)));
    // A last sample of the living may be a hair above the final figures of the dead.
    let last = points.last().map_or(Nanos::ZERO, |p| p.1);
    points.push((observation.ended, total.max(last)));
    points
}

/// The cumulative CPU at `t`, linear between the points around it; `None` outside them.
fn at(points: &[(Mono, Nanos)], t: Mono) -> Option<Nanos> {
    let after = points.partition_point(|p| p.0 < t);
    let (later, cpu_later) = *points.get(after)?;
    if later == t {
        return Some(cpu_later);
    }
    let (earlier, cpu_earlier) = *points.get(after.checked_sub(1)?)?;
    let (part, whole) = (u128::from(t.since(earlier).0), u128::from(later.since(earlier).0));
    let grown = u128::from(cpu_later.saturating_sub(cpu_earlier).0) * part / whole.max(1);
    Some(cpu_earlier + Nanos(u64::try_from(grown).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{Fixture, LoadLog, ObservationBuilder, RequestBuilder, ms};
    use crate::event::SetSample;

    /// One request of 1,000 ms that gives 10 tokens, beside a set that burns half a CPU.
    fn fixture(sent: u64, done: u64) -> Fixture {
        let samples = (1..40)
            .map(|n| SetSample {
                t: ms(n * 50),
                processes: 1,
                threads: 1,
                rss_bytes: 1,
                pss_bytes: None,
                cpu: Nanos::from_millis(n * 25),
                cpu_error: Nanos::ZERO,
            })
            .collect();
        let mut o = ObservationBuilder::new().samples(samples).build();
        o.ended = ms(2_000);
        o.cpu_living.user = Nanos::from_millis(1_000);
        let tokens = (1..=10).map(|n| sent + n * (done - sent) / 11).collect::<Vec<_>>();
        let request = RequestBuilder::new(0).sent(sent).content(tokens).usage(1, 10).done(done).build();
        Fixture {
            observation: Some(o),
            load: Some(LoadLog { requests: vec![request] }),
            ..Fixture::profile()
        }
    }

    #[test]
    fn cpu_is_interpolated_to_the_windows_ends() {
        // From 310 ms to 1,310 ms, between samples: half a second of CPU.
        let e = fixture(310, 1_310).report().efficiency;
        assert_eq!(e.cpu_ns_per_request, Some(500e6));
        assert_eq!((e.cpu_ns_per_token, e.cpu_reason), (Some(50e6), None));
    }

    #[test]
    fn the_start_and_the_end_of_the_observation_are_points_as_well() {
        let e = fixture(10, 1_990).report().efficiency;
        assert_eq!(e.cpu_ns_per_request, Some(990e6));
    }

    #[test]
    fn a_window_shorter_than_ten_intervals_gives_no_figure() {
        let e = fixture(300, 799).report().efficiency;
        assert_eq!((e.cpu_ns_per_token, e.cpu_ns_per_request), (None, None));
        assert!(e.cpu_reason.unwrap().contains("499 ms is shorter than 10 sample intervals (500 ms)"));
        assert!(fixture(300, 800).report().efficiency.cpu_ns_per_token.is_some());
    }

    #[test]
    fn an_interval_that_was_stretched_makes_the_least_window_longer() {
        let mut f = fixture(310, 1_310);
        f.observation.as_mut().unwrap().sample_interval = Nanos::from_millis(101);
        let reason = f.report().efficiency.cpu_reason.unwrap();
        assert!(reason.contains("1000 ms is shorter than 10 sample intervals (1010 ms)"), "{reason}");
    }

    #[test]
    fn without_a_target_there_is_no_figure_but_a_reason() {
        let mut f = fixture(310, 1_310);
        f.observation = None;
        f.target.none_reason = Some("the endpoint is on another machine".into());
        let e = f.report().efficiency;
        assert_eq!(e.cpu_ns_per_token, None);
        assert_eq!(e.cpu_reason.as_deref(), Some("the endpoint is on another machine"));
    }

    #[test]
    fn an_observation_that_ended_early_gives_no_figure() {
        let mut f = fixture(310, 1_310);
        let o = f.observation.as_mut().unwrap();
        o.samples.truncate(5);
        o.ended = ms(500);
        assert!(f.report().efficiency.cpu_reason.unwrap().contains("not observed over the whole"));
    }

    #[test]
    fn interpolation_saturates() {
        let points = [(Mono(0), Nanos(0)), (Mono(u64::MAX), Nanos(u64::MAX))];
        assert_eq!(at(&points, Mono(u64::MAX / 2)), Some(Nanos(u64::MAX / 2)));
        assert_eq!(at(&points[..1], Mono(1)), None);
    }
}
