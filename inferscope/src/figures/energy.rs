//! How much energy went into a window, and how wrong that may be.
//!
//! Owns the two ways: the difference of a counter that moves on only now and then, and the area under readings of power
//! (`fluctuation`: how wrong that is). `source` chooses between them for a device, `table` holds each device's energy of each
//! window. Never gives a figure for a time that the readings do not cover. Used by `devices` and `cost`.

mod counter;
mod fluctuation;
mod source;
mod table;

use crate::clock::{Mono, Window};
use crate::event::PowerPoint;
use crate::reason::EnergyReason;
use crate::units::Nanos;

pub(crate) use counter::Counter;
pub(crate) use fluctuation::Fluctuation;
pub(crate) use source::{ACCURACY, Metered, Readings, Source};
pub(crate) use table::{EnergyTable, Spent};

/// Between two readings of power further apart than this, anything may have happened.
const LONG_GAP: Nanos = Nanos::from_millis(250);
/// What a driver averages power over, where it does (nvml.h, `NVML_FI_DEV_POWER_AVERAGE`).
pub(crate) const AVERAGED_OVER: Nanos = Nanos::from_millis(1_000);

/// In millijoules, as NVML counts. The truth lies within `mj` ± `error_mj`, as far as the driver's own figures are true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Energy {
    pub(crate) mj: f64,
    pub(crate) error_mj: f64,
}

/// A figure that may be off by more than this part of itself is withheld.
const MOST_ERROR: f64 = 0.25;

impl Energy {
    pub(crate) const NONE: Self = Self { mj: 0.0, error_mj: 0.0 };

    /// Both together. The errors may all point the same way.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { mj: self.mj + other.mj, error_mj: self.error_mj + other.error_mj }
    }

    /// Well enough to be divided. Nothing at all is no figure either: what is not there costs no token anything.
    pub(crate) fn is_known(self) -> bool {
        self.mj > 0.0 && self.error_mj <= self.mj * MOST_ERROR
    }
}

/// What is known of readings of power.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Each is the mean of the second before it, which moves up to half a second of a change over either end. Else it is of
    /// the moment, and of a power that may rise and fall between two of them.
    pub(crate) averaged: bool,
    /// What the device draws at most, where no reading shows it.
    pub(crate) most_mw: Option<u64>,
}

/// The area under readings of power, with the error of what the power did between them (see [`Fluctuation`]). Where two are
/// far apart it may have been anywhere between the lowest and the highest of all.
///
/// # Errors
/// The readings do not cover the window.
pub(crate) fn integrated(points: &[PowerPoint], window: Window, kind: Kind) -> Result<Energy, EnergyReason> {
    let Window { from, to } = window;
    let first = points.partition_point(|p| p.t <= from).checked_sub(1);
    let last = points.partition_point(|p| p.t < to);
    let (Some(first), true) = (first, last < points.len()) else {
        return Err(EnergyReason::PowerNotRead);
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

    const fn window(from: u64, to: u64) -> Window {
        Window { from: ms(from), to: ms(to) }
    }

    const MOMENT: Kind = Kind { averaged: false, most_mw: None };
    const SECOND: Kind = Kind { averaged: true, most_mw: None };

    /// Between two readings the power may be anything: what each half of the time took may be all at either.
    #[test]
    fn half_of_the_time_between_two_readings_may_be_all_at_either() {
        let points = [(0, 100_000), (100, 300_000)].map(|(t, mw)| PowerPoint { t: ms(t), mw });
        for (from, to) in [(0, 50), (50, 100), (0, 100)] {
            let energy = integrated(&points, window(from, to), MOMENT).unwrap();
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
        assert!(integrated(&points, window(10, 950), MOMENT).is_ok());
        assert!(integrated(&points, window(10, 951), MOMENT).is_err());
        assert!(integrated(&points[1..], window(10, 900), MOMENT).is_err());
    }

    #[test]
    fn an_average_widens_the_error_by_a_second_of_the_change() {
        let points: Vec<_> = (0..100)
            .map(|n| PowerPoint { t: ms(n * 50), mw: if n < 40 { 100_000 } else { 300_000 } })
            .collect();
        let averaged = integrated(&points, window(1_500, 3_500), SECOND).unwrap();
        assert!((averaged.error_mj - 200_000.0).abs() < 1e-6, "{averaged:?}");
        // Where power does not change an average says the same.
        let flat: Vec<_> = points.iter().map(|p| PowerPoint { mw: 100_000, ..*p }).collect();
        assert_eq!(integrated(&flat, window(1_500, 3_500), SECOND).unwrap().error_mj, 0.0);
    }
}
