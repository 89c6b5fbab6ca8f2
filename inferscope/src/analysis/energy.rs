//! How much energy went into a stretch of time, and how wrong that may be.
//!
//! Owns the two ways: the difference of a counter that moves on only now and then, and the area under readings of power.
//! Never gives a figure for a time that the readings do not cover. Called by `gpus` and `efficiency`.

use crate::clock::Mono;
use crate::event::{EnergyReading, PowerPoint};
use crate::units::Nanos;

/// Between two readings of power further apart than this, anything may have happened.
const LONG_GAP: Nanos = Nanos::from_millis(250);
/// What a driver averages power over, where it does (nvml.h, `NVML_FI_DEV_POWER_AVERAGE`).
const AVERAGED_OVER: Nanos = Nanos::from_millis(1_000);

/// The truth lies within `mj` ± `error_mj`, as far as the driver's own figures are true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Energy {
    pub(super) mj: f64,
    pub(super) error_mj: f64,
}

/// From a counter that only rises and lags behind by up to its refresh. What it shows at a moment is no more than what
/// was used by then; what it shows once it has moved on after that moment is no less. So both ends have bounds that
/// need no assumption about the refresh; the estimate between them is linear between its steps.
///
/// # Errors
/// In words: the counter does not cover the stretch, or began anew in it.
pub(super) fn counted(readings: &[EnergyReading], from: Mono, to: Mono) -> Result<Energy, String> {
    let (lo_from, hi_from) = bounds(readings, from)?;
    let (lo_to, hi_to) = bounds(readings, to)?;
    let within = |r: &&EnergyReading| r.after >= from && r.before <= to.plus(LONG_GAP);
    if !readings.iter().filter(within).is_sorted_by_key(|r| r.mj) {
        return Err("the energy counter began anew during the run".to_owned());
    }
    let steps = steps(readings);
    let at = |t: Mono, lo: u64, hi: u64| between(&steps, t).map(|mj| mj.clamp(lo as f64, hi as f64));
    let (Some(start), Some(end)) = (at(from, lo_from, hi_from), at(to, lo_to, hi_to)) else {
        return Err("the energy counter did not move on around the load's window".to_owned());
    };
    let (low, high) = (lo_to.saturating_sub(hi_from) as f64, hi_to.saturating_sub(lo_from) as f64);
    let mj = end - start;
    Ok(Energy { mj, error_mj: (mj - low).max(high - mj) })
}

/// What was used by `t` is at least and at most this.
fn bounds(readings: &[EnergyReading], t: Mono) -> Result<(u64, u64), String> {
    let before = readings.iter().rfind(|r| r.after <= t).map(|r| r.mj);
    let low = before.ok_or("the energy counter was not read before the load's window")?;
    let after = &readings[readings.partition_point(|r| r.before < t)..];
    let stood = after.first().map(|r| r.mj);
    let high = stood.and_then(|stood| after.iter().find(|r| r.mj > stood)).map(|r| r.mj);
    Ok((low, high.ok_or("the energy counter did not move on after the load's window")?))
}

/// When the counter was seen to move on, and to what.
fn steps(readings: &[EnergyReading]) -> Vec<(Mono, u64)> {
    let moved = readings.windows(2).filter(|w| w[1].mj > w[0].mj);
    moved.map(|w| (w[0].before.plus(Nanos(w[1].after.since(w[0].before).0 / 2)), w[1].mj)).collect()
}

/// The middle of the times between two steps; `None` where there are too few to tell.
pub(super) fn refresh(readings: &[EnergyReading]) -> Option<Nanos> {
    let steps = steps(readings);
    let mut gaps: Vec<Nanos> = steps.windows(2).map(|w| w[1].0.since(w[0].0)).collect();
    gaps.sort_unstable();
    (gaps.len() >= 4).then(|| gaps[gaps.len() / 2])
}

fn between(points: &[(Mono, u64)], t: Mono) -> Option<f64> {
    let next = points.partition_point(|p| p.0 < t);
    let (b, a) = (points.get(next)?, points.get(next.checked_sub(1)?)?);
    let part = t.since(a.0).as_secs_f64() / b.0.since(a.0).as_secs_f64();
    Some((b.1 as f64 - a.1 as f64).mul_add(part, a.1 as f64))
}

/// The area under readings of power. Between two of them the truth is taken to lie between both; where they are far apart,
/// anywhere between the lowest and the highest of all. `averaged`: a reading is the mean of the second before it, which
/// moves up to half a second of a change over either end.
///
/// # Errors
/// In words: the readings do not cover the stretch.
pub(super) fn integrated(
    points: &[PowerPoint],
    from: Mono,
    to: Mono,
    averaged: bool,
) -> Result<Energy, String> {
    let first = points.partition_point(|p| p.t <= from).checked_sub(1);
    let last = points.partition_point(|p| p.t < to);
    let (Some(first), true) = (first, last < points.len()) else {
        return Err("power was not read over the whole of the load's window".to_owned());
    };
    let around = &points[first..=last];
    let lowest = around.iter().map(|p| p.mw).min().unwrap_or(0) as f64;
    let highest = around.iter().map(|p| p.mw).max().unwrap_or(0) as f64;
    let (mut mj, mut error_mj) = (0.0, 0.0);
    for pair in around.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let whole = b.t.since(a.t);
        let at = |t: Mono| {
            let part = t.since(a.t).as_secs_f64() / whole.as_secs_f64().max(1e-9);
            (b.mw as f64 - a.mw as f64).mul_add(part, a.mw as f64)
        };
        let (start, end) = (a.t.max(from), b.t.min(to));
        let seconds = end.since(start).as_secs_f64();
        mj += f64::midpoint(at(start), at(end)) * seconds;
        let spread = if whole > LONG_GAP { highest - lowest } else { a.mw.abs_diff(b.mw) as f64 };
        // Of a whole piece the estimate is in the middle of what it may be; of a part it may be at the edge.
        let is_whole = (start, end) == (a.t, b.t) && whole <= LONG_GAP;
        error_mj += spread * seconds * if is_whole { 0.5 } else { 1.0 };
    }
    if averaged {
        let before = points[..first].iter().rev().take_while(|p| from.since(p.t) <= AVERAGED_OVER);
        let after = points[last..].iter().take_while(|p| p.t.since(to) <= AVERAGED_OVER);
        let (mut low, mut high) = (lowest, highest);
        for p in before.chain(after) {
            (low, high) = (low.min(p.mw as f64), high.max(p.mw as f64));
        }
        error_mj += (high - low) * AVERAGED_OVER.as_secs_f64();
    }
    Ok(Energy { mj, error_mj })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(t: u64) -> Mono {
        Mono((10_000 + t) * 1_000_000)
    }

    /// A counter over a power that changes at 1,000 ms from `low` to `high` watts, refreshed every `refresh` ms and read
    /// every `every`.
    fn counter(low: u64, high: u64, refresh: u64, every: u64) -> Vec<EnergyReading> {
        (0..3_000 / every)
            .map(|n| {
                let t = n * every;
                let mj = used(low, high, t / refresh * refresh);
                EnergyReading { before: ms(t), after: Mono(ms(t).0 + 100_000), mj }
            })
            .collect()
    }

    /// Millijoules: milliseconds times watts.
    fn used(low: u64, high: u64, t: u64) -> u64 {
        t.min(1_000) * low + t.saturating_sub(1_000) * high
    }

    proptest! {
        #[test]
        fn the_truth_is_within_the_counters_error(low in 1_u64..700, high in 1_u64..700, refresh in 20_u64..200, every in 5_u64..150, from in 400_u64..1_200, length in 300_u64..1_200) {
            let readings = counter(low, high, refresh, every);
            let energy = counted(&readings, ms(from), ms(from + length)).unwrap();
            let truth = (used(low, high, from + length) - used(low, high, from)) as f64;
            prop_assert!((energy.mj - truth).abs() <= energy.error_mj, "{truth} is not {energy:?}");
            // Four lags of a refresh and two readings, at the higher power.
            let most = (4 * (refresh + 2 * every) * low.max(high)) as f64;
            prop_assert!(energy.error_mj <= most, "{energy:?} says nothing, {most} would do");
        }

        #[test]
        fn the_truth_is_within_the_areas_error(steps in proptest::collection::vec((10_u64..700, 0_u64..=100), 30), every in 5_u64..100, from in 0_u64..500, length in 1_u64..2_000) {
            let length = length.min(every * 29 - from.min(every));
            let from = from.min(every);
            // From each reading to the next the power jumps at any moment between them.
            let power = |t: u64| {
                let (a, b) = (steps[(t / every) as usize], steps[(t / every + 1) as usize]);
                if t % every * 100 < a.1 * every { a.0 } else { b.0 }
            };
            let points: Vec<PowerPoint> =
                (0..30).map(|n| PowerPoint { t: ms(n * every), mw: steps[n as usize].0 * 1_000 }).collect();
            let energy = integrated(&points, ms(from), ms(from + length), false).unwrap();
            let truth: u64 = (from..from + length).map(power).sum();
            // The truth is summed by the millisecond: a jump within one moves it by less than this each.
            let slack = 700.0 * 30.0;
            prop_assert!((energy.mj - truth as f64).abs() <= energy.error_mj + slack, "{truth} is not {energy:?}");
        }
    }

    #[test]
    fn a_counter_that_began_anew_gives_no_figure() {
        let mut readings = counter(100, 300, 100, 50);
        for reading in readings.iter_mut().skip(30) {
            reading.mj -= 100_000;
        }
        assert!(counted(&readings, ms(500), ms(2_000)).unwrap_err().contains("anew"));
        // Before and after it there is one.
        assert!(counted(&readings, ms(500), ms(1_000)).is_ok());
        assert!(counted(&readings, ms(1_800), ms(2_400)).is_ok());
    }

    #[test]
    fn what_the_readings_do_not_cover_has_no_figure() {
        let readings = counter(100, 300, 100, 50);
        assert!(counted(&readings[20..], ms(500), ms(2_000)).unwrap_err().contains("not read before"));
        assert!(counted(&readings[..41], ms(500), ms(2_000)).unwrap_err().contains("did not move on after"));
        let points: Vec<_> = (0..20).map(|n| PowerPoint { t: ms(n * 50), mw: 1_000 }).collect();
        assert!(integrated(&points, ms(10), ms(950), false).is_ok());
        assert!(integrated(&points, ms(10), ms(951), false).is_err());
        assert!(integrated(&points[1..], ms(10), ms(900), false).is_err());
    }

    #[test]
    fn the_refresh_is_the_middle_of_the_steps() {
        assert_eq!(refresh(&counter(100, 100, 100, 10)), Some(Nanos::from_millis(100)));
        assert_eq!(refresh(&counter(100, 100, 1_000, 10)), None);
    }

    #[test]
    fn an_average_widens_the_error_by_a_second_of_the_change() {
        let points: Vec<_> = (0..100)
            .map(|n| PowerPoint { t: ms(n * 50), mw: if n < 40 { 100_000 } else { 300_000 } })
            .collect();
        let plain = integrated(&points, ms(1_500), ms(3_500), false).unwrap();
        let averaged = integrated(&points, ms(1_500), ms(3_500), true).unwrap();
        assert_eq!(averaged.mj, plain.mj);
        assert!((averaged.error_mj - plain.error_mj - 200_000.0).abs() < 1e-6);
        // Where power does not change an average says the same.
        let flat: Vec<_> = points.iter().map(|p| PowerPoint { mw: 100_000, ..*p }).collect();
        assert_eq!(integrated(&flat, ms(1_500), ms(3_500), true).unwrap().error_mj, 0.0);
    }
}
