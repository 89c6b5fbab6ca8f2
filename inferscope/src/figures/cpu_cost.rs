//! What a token and a request cost in CPU time.
//!
//! Owns the division of the set's CPU over the load's window, its error, and the part of it that the set uses without a
//! load; joules and money are `cost`'s. Withholds what is known too roughly. Called by `report::build`.

use crate::aggregate::load::totals::Totals;
use crate::clock::{Mono, Window};
use crate::event::Observation;
use crate::reason::{EnergyReason, Known, LoadReason, SetReason};
use crate::units::Nanos;

/// A figure that may be off by more than this part of itself is withheld.
const MOST_ERROR: f64 = 0.25;
/// The share at rest may be off by this part of the whole.
const MOST_REST_ERROR: f64 = 0.1;
/// A set is at rest where the two halves of the rest differ by less than this part of the larger one, or of a CPU.
const STEADY: f64 = 0.5;
const STEADY_CPUS: f64 = 0.02;

/// The CPU time of the process set.
pub(crate) struct SetCpu<'a> {
    pub(crate) observation: Result<&'a Observation, SetReason>,
    /// Of the machine.
    pub(crate) cpus: Option<u32>,
}

/// What a load cost in CPU time of the set.
#[derive(Debug)]
pub(crate) struct CpuCost {
    pub(crate) a_token: Known<Used>,
    /// `None`: without a figure for a token there is none.
    pub(crate) a_request: Option<Used>,
    /// The part of `a_token` that the set uses without a load.
    pub(crate) at_rest: Known<Used>,
    /// The rest before the load that tells it.
    pub(crate) rest: Option<Window>,
}

/// CPU time in nanoseconds; the truth is within the error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Used {
    pub(crate) ns: f64,
    pub(crate) error: f64,
}

impl Used {
    fn each(self, n: f64) -> Self {
        Self { ns: self.ns / n, error: self.error / n }
    }
}

impl SetCpu<'_> {
    /// `load`: its counts, or why there is none.
    pub(crate) fn cost(&self, load: Result<&Totals, LoadReason>) -> CpuCost {
        let known = || {
            self.observation.as_ref().map_err(Clone::clone)?;
            let totals = load?;
            Known::Ok((totals, self.a_token(totals)?))
        };
        let (totals, a_token) = match known() {
            Ok(known) => known,
            Err(why) => {
                return CpuCost { a_token: Err(why.clone()), a_request: None, at_rest: Err(why), rest: None };
            }
        };
        let rest = self.observation.as_ref().ok().and_then(|o| o.rest);
        CpuCost {
            a_token: Ok(a_token),
            // A request that the window cuts counts by its tokens.
            a_request: totals.tokens_a_request().map(|n| a_token.each(1.0 / n)),
            at_rest: self.at_rest(totals, a_token),
            rest: rest.map(|(from, to)| Window { from, to }),
        }
    }

    /// CPU of the set a token that was delivered, or why it can't be told.
    pub(crate) fn a_token(&self, totals: &Totals) -> Known<Used> {
        if self.observation.is_ok() && totals.ok == 0 && totals.sent > 0 {
            return Err(LoadReason::NoneSucceeded.into());
        }
        let cpu = self.in_windows(totals.windows())?;
        Ok(cpu.each(tokens(totals)?))
    }

    /// CPU of the set over all windows, or why it can't be told.
    fn in_windows(&self, windows: &[Window]) -> Known<Used> {
        let observation = self.observation.as_ref().map_err(Clone::clone)?;
        if windows.is_empty() {
            return Err(LoadReason::NothingSent.into());
        }
        let curve = Curve::of(observation, self.cpus);
        let mut sum = Used { ns: 0.0, error: 0.0 };
        for window in windows {
            let used = curve.between(window.from, window.to)?;
            sum = Used { ns: sum.ns + used.ns, error: sum.error + used.error };
        }
        if sum.error > sum.ns * MOST_ERROR {
            let window = windows.iter().map(|w| w.length()).sum();
            return Err(SetReason::CpuTooRough { window, cpu_ns: sum.ns, error_ns: sum.error }.into());
        }
        Ok(sum)
    }

    /// What the set uses without a load, a token that was delivered in the time: by what it used in the rest before it.
    fn at_rest(&self, totals: &Totals, per_token: Used) -> Known<Used> {
        let observation = self.observation.as_ref().map_err(Clone::clone)?;
        let (from, to) = observation.rest.filter(|(from, to)| to > from).ok_or(SetReason::NoRest)?;
        let curve = Curve::of(observation, self.cpus);
        let length = to.since(from);
        let middle = from.plus(Nanos(length.0 / 2));
        let [all, first, second] =
            [(from, to), (from, middle), (middle, to)].map(|(from, to)| curve.between(from, to));
        let (all, first, second) = (all?, first?, second?);
        let half = length.0 as f64 / 2.0;
        let apart = (first.ns - second.ns).abs() - first.error - second.error;
        if apart > (first.ns.max(second.ns) * STEADY).max(half * STEADY_CPUS) {
            return Err(SetReason::NotAtRest { first: first.ns / half, then: second.ns / half }.into());
        }
        let loaded: Nanos = totals.windows().iter().map(|w| w.length()).sum();
        let idle = all.each(length.0 as f64 / loaded.0.max(1) as f64 * tokens(totals)?);
        if idle.error > per_token.ns * MOST_REST_ERROR {
            return Err(SetReason::RestTooShort(length).into());
        }
        Ok(idle)
    }
}

fn tokens(totals: &Totals) -> Result<f64, EnergyReason> {
    let tokens = totals.tokens_in_windows().filter(|n| *n > 0);
    tokens.map(|n| n as f64).ok_or(EnergyReason::TokensUnknown)
}

/// Cumulative CPU of the set over time, as far as it is known.
struct Curve {
    /// At the observation's start, each sample, and its end.
    points: Vec<Point>,
    /// The set can't use more in a time.
    cpus: f64,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    t: Mono,
    cpu: Nanos,
    error: Nanos,
}

impl Curve {
    fn of(observation: &Observation, cpus: Option<u32>) -> Self {
        let total = observation.cpu_exited.total() + observation.cpu_living.total();
        let samples = &observation.samples;
        let error = |sample: Option<&crate::event::SetSample>| sample.map_or(Nanos::ZERO, |s| s.cpu_error);
        let mut points =
            vec![Point { t: observation.started, cpu: Nanos::ZERO, error: error(samples.first()) }];
        points.extend(samples.iter().map(|s| Point { t: s.t, cpu: s.cpu, error: s.cpu_error }));
        // A last sample of the living may be a hair above the final figures of the dead.
        let last = points.last().map_or(Nanos::ZERO, |p| p.cpu);
        points.push(Point { t: observation.ended, cpu: total.max(last), error: error(samples.last()) });
        Self { points, cpus: cpus.map_or(f64::INFINITY, f64::from) }
    }

    fn between(&self, from: Mono, to: Mono) -> Result<Used, SetReason> {
        match (self.at(from), self.at(to)) {
            (Some(from), Some(to)) if to.ns >= from.ns => {
                Ok(Used { ns: to.ns - from.ns, error: from.error + to.error })
            }
            (Some(_), Some(_)) => Err(SetReason::CpuWentBack),
            _ => Err(SetReason::NotObservedThroughout),
        }
    }

    /// The cumulative CPU at `t`, linear between the points around it; `None` outside them. How far off that may be
    /// follows from the two, between which it only grows and no faster than the CPUs can run.
    fn at(&self, t: Mono) -> Option<Used> {
        let after = self.points.partition_point(|p| p.t < t);
        let later = *self.points.get(after)?;
        if later.t == t {
            return Some(Used { ns: later.cpu.0 as f64, error: later.error.0 as f64 });
        }
        let earlier = *self.points.get(after.checked_sub(1)?)?;
        let (begin, end) = (earlier.cpu.0 as f64, later.cpu.max(earlier.cpu).0 as f64);
        let (since, until) = (t.since(earlier.t).0 as f64, later.t.since(t).0 as f64);
        let even = (end - begin).mul_add(since / (since + until), begin);
        let least = begin.max(self.cpus.mul_add(-until, end)).min(even);
        let most = end.min(self.cpus.mul_add(since, begin)).max(even);
        let read = earlier.error.max(later.error).0 as f64;
        Some(Used { ns: even, error: (even - least).max(most - even) + read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SetSample;
    use crate::fixture::{Fixture, LoadLog, ObservationBuilder, RequestBuilder, ms};
    use crate::report::model::Efficiency;

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

    /// With a sample at the window's begin and end, as a run has them.
    fn marked(sent: u64, done: u64) -> Fixture {
        let mut f = fixture(sent, done);
        let o = f.observation.as_mut().unwrap();
        let at = |t: u64| SetSample { t: ms(t), cpu: Nanos(t * 500_000), ..o.samples[0] };
        let (begin, end) = (at(sent), at(done));
        o.samples.extend([begin, end]);
        o.samples.sort_by_key(|s| s.t);
        f
    }

    #[test]
    fn a_short_window_between_marks_is_exact_and_one_between_samples_is_withheld() {
        let e = marked(310, 510).report().efficiency;
        assert_eq!((e.cpu_ns_per_request, e.cpu_ns_per_request_error), (Some(100e6), Some(0.0)));
        let e = fixture(310, 410).report().efficiency;
        assert_eq!((e.cpu_ns_per_token, e.cpu_ns_per_request), (None, None));
        let why = e.cpu_reason.unwrap();
        assert!(why.contains("window of 100 ms is 50.00 ms give or take 30.00 ms"), "{why}");
    }

    #[test]
    fn the_error_is_what_can_have_happened_between_two_samples() {
        let e = fixture(310, 1_310).report().efficiency;
        // 25 ms of CPU within 50 ms, and each end 10 ms into them: it may be all used, or not begun.
        let error = e.cpu_ns_per_request_error.unwrap();
        assert!(error > 0.0 && error <= 2.0 * 20e6, "{error}");
        // What each sample may be off by comes on top.
        let mut f = marked(310, 510);
        for s in &mut f.observation.as_mut().unwrap().samples {
            s.cpu_error = Nanos::from_millis(4);
        }
        assert_eq!(f.report().efficiency.cpu_ns_per_request_error, Some(8e6));
    }

    fn rested(samples: &[(u64, u64)], sent: u64) -> Efficiency {
        let mut f = marked(sent, sent + 1_000);
        let o = f.observation.as_mut().unwrap();
        let before = samples.last().unwrap().1;
        let first = o.samples[0];
        let rest =
            samples.iter().map(|&(t, cpu)| SetSample { t: ms(t), cpu: Nanos::from_millis(cpu), ..first });
        let load = o
            .samples
            .iter()
            .filter(|s| s.t >= ms(sent))
            .map(|s| SetSample { cpu: Nanos(s.cpu.0 + before * 1_000_000 - sent * 500_000), ..*s });
        o.samples = rest.chain(load).collect();
        o.rest = Some((ms(samples[0].0), ms(samples.last().unwrap().0)));
        f.report().efficiency
    }

    #[test]
    fn what_the_set_uses_at_rest_is_told_a_token() {
        // A fifth of a CPU at rest, half a CPU in the second of ten tokens.
        let e = rested(&[(50, 0), (100, 10), (200, 30), (250, 40)], 260);
        assert_eq!((e.cpu_ns_per_token, e.cpu_idle_ns_per_token), (Some(50e6), Some(20e6)));
        assert_eq!(e.cpu_idle_reason, None);
        let nothing = rested(&[(50, 0), (150, 0), (250, 0)], 260);
        assert_eq!(nothing.cpu_idle_ns_per_token, Some(0.0));
    }

    #[test]
    fn a_rest_that_is_none_tells_nothing() {
        let e = rested(&[(50, 0), (150, 100), (250, 101)], 260);
        assert_eq!(e.cpu_idle_ns_per_token, None);
        let why = e.cpu_idle_reason.unwrap();
        assert!(why.contains("changed in the rest before the load: 1.00 CPUs, then 0.01"), "{why}");
        let e = fixture(310, 1_310).report().efficiency;
        assert_eq!(
            (e.cpu_idle_ns_per_token, e.cpu_idle_reason.as_deref()),
            (None, Some("the processes were not observed at rest before the load"))
        );
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
    fn nothing_is_told_outside_of_the_points() {
        let point = |t: u64, cpu: u64| Point { t: Mono(t), cpu: Nanos(cpu), error: Nanos::ZERO };
        let curve = Curve { points: vec![point(10, 0), point(20, 10)], cpus: 1.0 };
        assert_eq!(curve.at(Mono(15)), Some(Used { ns: 5.0, error: 0.0 }));
        assert_eq!([curve.at(Mono(9)), curve.at(Mono(21))], [None, None]);
        let idle = Curve { points: vec![point(10, 0), point(20, 1)], cpus: 1.0 };
        // It ran at the begin or at the end.
        let at = idle.at(Mono(15)).unwrap();
        assert!((at.error - 0.5).abs() < 1e-9, "{at:?}");
        let far = Curve { points: vec![point(0, 0), point(u64::MAX, u64::MAX)], cpus: 1.0 };
        assert!(far.at(Mono(u64::MAX / 2)).is_some());
    }
}
