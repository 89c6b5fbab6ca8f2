//! How much energy went into a stretch of time, and how wrong that may be.
//!
//! Owns the two ways: the difference of a counter that moves on only now and then, and the area under readings of power
//! (`fluctuation`: how wrong that is). Never gives a figure for a time that the readings do not cover. Called by `gpus`,
//! `joules` and `phase_energy`.

mod counter;
mod fluctuation;

use crate::clock::Mono;
use crate::event::PowerPoint;
use crate::units::Nanos;

pub(super) use counter::Counter;
pub(super) use fluctuation::Fluctuation;

/// Between two readings of power further apart than this, anything may have happened.
const LONG_GAP: Nanos = Nanos::from_millis(250);
/// What a driver averages power over, where it does (nvml.h, `NVML_FI_DEV_POWER_AVERAGE`).
pub(super) const AVERAGED_OVER: Nanos = Nanos::from_millis(1_000);

/// The truth lies within `mj` ± `error_mj`, as far as the driver's own figures are true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Energy {
    pub(super) mj: f64,
    pub(super) error_mj: f64,
}

impl Energy {
    pub(super) const NONE: Self = Self { mj: 0.0, error_mj: 0.0 };

    /// Both together. The errors may all point the same way.
    pub(super) fn plus(self, other: Self) -> Self {
        Self { mj: self.mj + other.mj, error_mj: self.error_mj + other.error_mj }
    }

    /// As the report has it.
    pub(super) fn whole_mj(self) -> u64 {
        self.mj.max(0.0).round() as u64
    }

    /// Of `whole_mj`: what rounding moved, and what none can be below, is in it.
    pub(super) fn whole_error_mj(self) -> u64 {
        let (low, high) = (self.mj - self.error_mj, self.mj + self.error_mj);
        let told = self.whole_mj() as f64;
        (told - low.min(told)).max(high - told).max(0.0).ceil() as u64
    }
}

/// What is known of readings of power.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Each is the mean of the second before it, which moves up to half a second of a change over either end. Else it is of
    /// the moment, and of a power that may rise and fall between two of them.
    pub(super) averaged: bool,
    /// What the device draws at most, where no reading shows it.
    pub(super) most_mw: Option<u64>,
}

/// The area under readings of power, with the error of what the power did between them (see [`Fluctuation`]). Where two are
/// far apart it may have been anywhere between the lowest and the highest of all.
///
/// # Errors
/// In words: the readings do not cover the stretch.
pub(super) fn integrated(points: &[PowerPoint], from: Mono, to: Mono, kind: Kind) -> Result<Energy, String> {
    let first = points.partition_point(|p| p.t <= from).checked_sub(1);
    let last = points.partition_point(|p| p.t < to);
    let (Some(first), true) = (first, last < points.len()) else {
        return Err("power was not read over the whole of the load's window".to_owned());
    };
    let around = &points[first..=last];
    let (lowest, highest) = range(around);
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
        // Of a part of a piece all may be at the one edge or at the other.
        if whole > LONG_GAP {
            error_mj += (highest - lowest) * seconds;
        } else if (start, end) != (a.t, b.t) {
            error_mj += a.mw.abs_diff(b.mw) as f64 * seconds;
        }
    }
    if kind.averaged {
        let before = points[..first].iter().rev().take_while(|p| from.since(p.t) <= AVERAGED_OVER);
        let after = points[last..].iter().take_while(|p| p.t.since(to) <= AVERAGED_OVER);
        let (mut low, mut high) = (lowest, highest);
        for p in before.chain(after) {
            (low, high) = (low.min(p.mw as f64), high.max(p.mw as f64));
        }
        error_mj += (high - low) * AVERAGED_OVER.as_secs_f64();
    } else {
        let fluctuation = Fluctuation::of([around].into_iter(), kind.most_mw);
        error_mj += fluctuation.error_mj(to.since(from)) + fluctuation.stale_mj();
    }
    Ok(Energy { mj, error_mj })
}

/// The lowest and the highest, in milliwatts.
fn range(points: &[PowerPoint]) -> (f64, f64) {
    let lowest = points.iter().map(|p| p.mw).min().unwrap_or(0);
    (lowest as f64, points.iter().map(|p| p.mw).max().unwrap_or(0) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(t: u64) -> Mono {
        Mono((10_000 + t) * 1_000_000)
    }

    const MOMENT: Kind = Kind { averaged: false, most_mw: None };
    const SECOND: Kind = Kind { averaged: true, most_mw: None };

    /// Between two readings the power may be anything: what each half of the time took may be all at either.
    #[test]
    fn half_of_the_time_between_two_readings_may_be_all_at_either() {
        let points = [(0, 100_000), (100, 300_000)].map(|(t, mw)| PowerPoint { t: ms(t), mw });
        for (from, to) in [(0, 50), (50, 100), (0, 100)] {
            let energy = integrated(&points, ms(from), ms(to), MOMENT).unwrap();
            let seconds = (to - from) as f64 / 1e3;
            assert!(
                energy.mj - energy.error_mj <= 100_000.0 * seconds
                    && energy.mj + energy.error_mj >= 300_000.0 * seconds,
                "{energy:?}"
            );
        }
    }

    #[test]
    fn what_the_readings_do_not_cover_has_no_figure() {
        let points: Vec<_> = (0..20).map(|n| PowerPoint { t: ms(n * 50), mw: 1_000 }).collect();
        assert!(integrated(&points, ms(10), ms(950), MOMENT).is_ok());
        assert!(integrated(&points, ms(10), ms(951), MOMENT).is_err());
        assert!(integrated(&points[1..], ms(10), ms(900), MOMENT).is_err());
    }

    #[test]
    fn an_average_widens_the_error_by_a_second_of_the_change() {
        let points: Vec<_> = (0..100)
            .map(|n| PowerPoint { t: ms(n * 50), mw: if n < 40 { 100_000 } else { 300_000 } })
            .collect();
        let averaged = integrated(&points, ms(1_500), ms(3_500), SECOND).unwrap();
        assert!((averaged.error_mj - 200_000.0).abs() < 1e-6, "{averaged:?}");
        // Where power does not change an average says the same.
        let flat: Vec<_> = points.iter().map(|p| PowerPoint { mw: 100_000, ..*p }).collect();
        assert_eq!(integrated(&flat, ms(1_500), ms(3_500), SECOND).unwrap().error_mj, 0.0);
    }
}
