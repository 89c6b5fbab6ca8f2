//! A counter of energy that only rises and lags behind by up to its refresh.
//!
//! Owns the bounds of what was used by a moment: what the counter shows then is no more than that, and what it shows once
//! it has moved on after that moment is no less. A reading right beside the moment bounds it, too, but for what can be used
//! between the two at most. So both ends of a stretch have bounds that need no assumption about the refresh. The estimate is
//! linear between its steps where those are known, else in the middle of what it shows. A part of `energy`.

use crate::clock::{Mono, Window};
use crate::event::EnergyReading;
use crate::units::Nanos;

use super::Energy;
use crate::reason::EnergyReason;

/// Further apart than this, when the counter moved on between two readings is not known.
const KNOWN_STEP: Nanos = Nanos::from_millis(160);
/// Readings on either side of a moment that may bound it,
const BESIDE: usize = 3;
/// and no further from it than this.
const NEAR: Nanos = Nanos::from_millis(250);

/// Readings, prepared to be asked for many stretches.
pub(crate) struct Counter<'a> {
    readings: &'a [EnergyReading],
    /// When it was seen to move on, to what, and how far apart the two readings are.
    steps: Vec<(Mono, u64, Nanos)>,
    /// Of each reading: the first after it that shows more, unless the counter began anew in between.
    rises: Vec<Option<usize>>,
    /// Of each reading: how often the counter had begun anew by then.
    falls: Vec<u32>,
    /// Milliwatts; what no device draws more of, where that is known.
    most_mw: Option<u64>,
}

/// Of what was used by a moment, in millijoules of the counter.
struct Bounds {
    low: f64,
    high: f64,
    /// What the readings that bound it show.
    shown: (f64, f64),
    /// How often the counter had begun anew by either.
    falls: (u32, u32),
}

impl<'a> Counter<'a> {
    pub(crate) fn of(readings: &'a [EnergyReading]) -> Self {
        Self::broken(readings, &[])
    }

    /// At each of `breaks`, in order, it may have begun anew, also above what it showed before.
    pub(crate) fn broken(readings: &'a [EnergyReading], breaks: &[Mono]) -> Self {
        let begins_anew = |pair: &[EnergyReading]| {
            let next = breaks.get(breaks.partition_point(|t| *t < pair[0].before));
            pair[1].mj < pair[0].mj || next.is_some_and(|t| *t <= pair[1].after)
        };
        let moved = readings.windows(2).filter(|w| w[1].mj > w[0].mj && !begins_anew(w));
        let mut rises = vec![None; readings.len()];
        for (i, pair) in readings.windows(2).enumerate().rev() {
            rises[i] = if begins_anew(pair) {
                None
            } else if pair[1].mj == pair[0].mj {
                rises[i + 1]
            } else {
                Some(i + 1)
            };
        }
        let mut fallen = 0;
        let falls = (0..readings.len()).map(|i| {
            fallen += u32::from(i > 0 && begins_anew(&readings[i - 1..=i]));
            fallen
        });
        Self {
            readings,
            steps: moved
                .map(|w| {
                    let apart = w[1].after.since(w[0].before);
                    (w[0].before.plus(Nanos(apart.0 / 2)), w[1].mj, apart)
                })
                .collect(),
            rises,
            falls: falls.collect(),
            most_mw: None,
        }
    }

    /// Of what draws no more than that.
    pub(crate) fn drawing_at_most(self, most_mw: Option<u64>) -> Self {
        Self { most_mw, ..self }
    }

    /// # Errors
    /// The counter does not cover the window, or began anew in it.
    pub(crate) fn within(&self, window: Window) -> Result<Energy, EnergyReason> {
        let Window { from, to } = window;
        let (start, end) = (self.bounds(from)?, self.bounds(to)?);
        let all = [start.falls.0, start.falls.1, end.falls.0, end.falls.1];
        if all.iter().any(|falls| *falls != all[0]) {
            return Err(EnergyReason::CounterReset);
        }
        let at = |t: Mono, b: &Bounds| {
            let mj = self.estimate(t).unwrap_or_else(|| f64::midpoint(b.shown.0, b.shown.1));
            mj.min(b.high).max(b.low)
        };
        let (low, high) = ((end.low - start.high).max(0.0), (end.high - start.low).max(0.0));
        let mj = (at(to, &end) - at(from, &start)).clamp(low, high.max(low));
        Ok(Energy { mj, error_mj: (mj - low).max(high - mj) })
    }

    fn bounds(&self, t: Mono) -> Result<Bounds, EnergyReason> {
        let next = self.readings.partition_point(|r| r.before < t);
        let beside = next.saturating_sub(BESIDE)..(next + BESIDE).min(self.readings.len());
        // Without a bound on the power only what lies on the right side of the moment says something.
        let may_use = |time: Nanos| match self.most_mw {
            _ if time == Nanos::ZERO => Some(0.0),
            most => most.filter(|_| time <= NEAR).map(|mw| mw as f64 * time.as_secs_f64()),
        };
        let shown = |i: usize| self.readings[i].mj as f64;
        let lows = beside.clone().filter_map(|i| {
            let slack = may_use(self.readings[i].after.since(t))?;
            Some((shown(i) - slack, shown(i), self.falls[i]))
        });
        let highs = beside.filter_map(|i| {
            let moved = self.rises[i]?;
            let slack = may_use(t.since(self.readings[i].before))?;
            Some((shown(moved) + slack, shown(moved), self.falls[moved]))
        });
        // Readings of another count bound nothing here; which count it is, the nearest before tells.
        let falls = self.falls.get(next.saturating_sub(1)).copied();
        let same = |bound: &(f64, f64, u32)| Some(bound.2) == falls;
        let low = lows.filter(same).max_by(|a, b| a.0.total_cmp(&b.0));
        let low = low.ok_or(EnergyReason::CounterNotReadBefore)?;
        let high = highs.filter(same).min_by(|a, b| a.0.total_cmp(&b.0));
        let high = high.ok_or(EnergyReason::CounterNotReadAfter)?;
        Ok(Bounds {
            low: low.0,
            high: high.0,
            shown: (low.1.min(high.1), high.1.max(low.1)),
            falls: (low.2, high.2),
        })
    }

    fn estimate(&self, t: Mono) -> Option<f64> {
        let next = self.steps.partition_point(|p| p.0 < t);
        let (b, a) = (self.steps.get(next)?, self.steps.get(next.checked_sub(1)?)?);
        let apart = b.0.since(a.0);
        if a.2.max(b.2) > KNOWN_STEP {
            return None;
        }
        let part = t.since(a.0).as_secs_f64() / apart.as_secs_f64();
        Some((b.1 as f64 - a.1 as f64).mul_add(part, a.1 as f64))
    }

    /// The middle of the times between two steps; `None` where there are too few to tell.
    pub(crate) fn refresh(&self) -> Option<Nanos> {
        let known = |w: &&[(Mono, u64, Nanos)]| w[0].2.max(w[1].2) <= KNOWN_STEP;
        let mut gaps: Vec<Nanos> =
            self.steps.windows(2).filter(known).map(|w| w[1].0.since(w[0].0)).collect();
        gaps.sort_unstable();
        (gaps.len() >= 4).then(|| gaps[gaps.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(t: u64) -> Mono {
        Mono((10_000 + t) * 1_000_000)
    }

    fn counted(readings: &[EnergyReading], from: Mono, to: Mono) -> Result<Energy, EnergyReason> {
        Counter::of(readings).within(Window { from, to })
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

        /// Bursts within a refresh: the truth may be at either bound, and what is between them is no help.
        #[test]
        fn the_truth_is_within_the_counters_error_for_any_power(
            slots in proptest::collection::vec(prop_oneof![Just(0_u64), 1_u64..700], 300),
            refresh in 20_u64..200,
            every in 5_u64..150,
            from in 400_u64..1_200,
            length in 1_u64..1_200,
        ) {
            let used = |t: u64| (0..t).map(|t| slots[(t / 10) as usize]).sum::<u64>();
            let readings: Vec<EnergyReading> = (0..3_000 / every)
                .map(|n| n * every)
                .map(|t| EnergyReading { before: ms(t), after: ms(t), mj: used(t / refresh * refresh) })
                .collect();
            if let Ok(energy) = counted(&readings, ms(from), ms(from + length)) {
                let truth = (used(from + length) - used(from)) as f64;
                prop_assert!((energy.mj - truth).abs() <= energy.error_mj + 1e-6, "{truth} is not {energy:?}");
            }
        }
    }

    /// All of the first refresh was used before the start, all of the last after the end, where the line between the steps
    /// has most of both within.
    #[test]
    fn bursts_at_the_ends_are_within_the_error() {
        let power = |t: u64| if (1_000..1_010).contains(&t) || (1_990..2_000).contains(&t) { 700 } else { 0 };
        let used = |t: u64| (0..t).map(power).sum::<u64>() + t / 100;
        let readings: Vec<EnergyReading> = (0..600)
            .map(|n| n * 5)
            .map(|t| EnergyReading { before: ms(t), after: ms(t), mj: used(t / 100 * 100) })
            .collect();
        let energy = counted(&readings, ms(1_015), ms(1_985)).unwrap();
        assert!(energy.mj - energy.error_mj <= 9.0, "{energy:?}");
        assert!(energy.mj > 10_000.0, "{energy:?}");
    }

    #[test]
    fn a_counter_that_began_anew_gives_no_figure() {
        let mut readings = counter(100, 300, 100, 50);
        for reading in readings.iter_mut().skip(30) {
            reading.mj -= 100_000;
        }
        assert_eq!(counted(&readings, ms(500), ms(2_000)), Err(EnergyReason::CounterReset));
        // Before and after it there is one.
        assert!(counted(&readings, ms(500), ms(1_000)).is_ok());
        assert!(counted(&readings, ms(1_800), ms(2_400)).is_ok());
    }

    #[test]
    fn a_counter_that_may_have_begun_anew_is_two_whatever_it_shows() {
        let readings = counter(100, 300, 100, 50);
        let broken = Counter::broken(&readings, &[ms(1_210)]);
        let within = |from, to| broken.within(Window { from: ms(from), to: ms(to) });
        assert_eq!(within(500, 2_000), Err(EnergyReason::CounterReset));
        assert!(within(500, 1_000).is_ok());
        // What it shows after the break is no bound of what was used before.
        assert_eq!(within(500, 1_190), Err(EnergyReason::CounterNotReadAfter));
        assert!(within(1_400, 2_400).is_ok());
    }

    /// By whichever reading the counter falls: no figure, or one that holds.
    #[test]
    fn a_counter_that_begins_anew_beside_an_end_is_no_figure_either() {
        let mut given = 0;
        for fall in 1..60 {
            let mut readings = counter(100, 100, 100, 50);
            for reading in readings.iter_mut().skip(fall) {
                reading.mj = (reading.mj + 1_000).saturating_sub(fall as u64 * 5_000);
            }
            if let Ok(energy) = counted(&readings, ms(1_010), ms(1_990)) {
                given += 1;
                assert!((energy.mj - 98_000.0).abs() <= energy.error_mj, "fell at {fall}: {energy:?}");
            }
        }
        assert!(given > 20, "{given}");
    }

    #[test]
    fn what_the_readings_do_not_cover_has_no_figure() {
        let readings = counter(100, 300, 100, 50);
        assert_eq!(counted(&readings[20..], ms(500), ms(2_000)), Err(EnergyReason::CounterNotReadBefore));
        assert_eq!(counted(&readings[..41], ms(500), ms(2_000)), Err(EnergyReason::CounterNotReadAfter));
        assert!(counted(&[], ms(500), ms(2_000)).is_err());
    }

    #[test]
    fn the_refresh_is_the_middle_of_the_steps() {
        assert_eq!(Counter::of(&counter(100, 100, 100, 10)).refresh(), Some(Nanos::from_millis(100)));
        assert_eq!(Counter::of(&counter(100, 100, 1_000, 10)).refresh(), None);
    }
}
