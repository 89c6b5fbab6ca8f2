//! The due times of samples, and the limit on their cost.
//!
//! Pure: owns the interval and its stretching. A tick that takes too much CPU would disturb what it measures, and a
//! late tick would hide it. Both lengthen the interval, and the report shows that.

use crate::clock::Mono;
use crate::units::Nanos;

/// Most CPU of a tick, as a divisor: a quarter of its interval on one CPU.
const MOST_CPU: u64 = 4;
/// Ticks in a row that must be too expensive, or late, before the interval grows. A single one is the scheduler's
/// fault.
const PATIENCE: u32 = 3;
/// Longest interval.
const LONGEST: Nanos = Nanos::from_millis(60_000);

#[derive(Debug)]
pub(super) struct SampleClock {
    interval: Nanos,
    next: Mono,
    overruns: u64,
    dear: u32,
    late: u32,
}

impl SampleClock {
    pub(super) fn new(interval: Nanos, now: Mono) -> Self {
        Self { interval, next: now.plus(interval), overruns: 0, dear: 0, late: 0 }
    }

    pub(super) fn interval(&self) -> Nanos {
        self.interval
    }

    /// Ticks that were late by more than an interval.
    pub(super) fn overruns(&self) -> u64 {
        self.overruns
    }

    pub(super) fn due(&self) -> Mono {
        self.next
    }

    /// A tick began at `began` and used `cpu` of its thread.
    pub(super) fn ticked(&mut self, began: Mono, cpu: Nanos) {
        let is_late = began.since(self.next) >= self.interval;
        self.overruns += u64::from(is_late);
        self.late = if is_late { self.late + 1 } else { 0 };
        self.dear = if cpu.0 > self.interval.0 / MOST_CPU { self.dear + 1 } else { 0 };
        // The next tick stays on the grid. Missed ticks are skipped.
        let missed = began.since(self.next).0 / self.interval.0.max(1);
        self.next = self.next.plus(Nanos(self.interval.0.saturating_mul(missed + 1)));
        if self.late >= PATIENCE || self.dear >= PATIENCE {
            let affordable = Nanos(cpu.0.saturating_mul(MOST_CPU));
            self.interval = Nanos(self.interval.0.saturating_mul(2)).max(affordable).min(LONGEST);
            self.next = began.plus(self.interval);
            (self.late, self.dear) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Nanos = Nanos::from_millis(50);

    fn at(ms: u64) -> Mono {
        Mono(0).plus(Nanos::from_millis(ms))
    }

    #[test]
    fn cheap_and_punctual_ticks_stay_on_the_grid() {
        let mut clock = SampleClock::new(TICK, at(0));
        for n in 1..100 {
            assert_eq!(clock.due(), at(n * 50));
            clock.ticked(at(n * 50 + 1), Nanos::from_millis(2));
        }
        assert_eq!((clock.interval(), clock.overruns()), (TICK, 0));
    }

    #[test]
    fn one_late_tick_is_counted_and_stretches_nothing() {
        let mut clock = SampleClock::new(TICK, at(0));
        clock.ticked(at(175), Nanos::from_millis(1));
        assert_eq!((clock.due(), clock.overruns(), clock.interval()), (at(200), 1, TICK));
    }

    #[test]
    fn ticks_that_cost_too_much_stretch_the_interval_to_what_they_cost() {
        let mut clock = SampleClock::new(TICK, at(0));
        for n in 1..=3 {
            clock.ticked(at(n * 50), Nanos::from_millis(40));
        }
        assert_eq!((clock.interval(), clock.overruns()), (Nanos::from_millis(160), 0));
        assert_eq!(clock.due(), at(310));
    }

    #[test]
    fn ticks_that_keep_coming_late_stretch_the_interval() {
        let mut clock = SampleClock::new(TICK, at(0));
        let mut now = 0;
        for _ in 0..3 {
            now += 120;
            clock.ticked(at(now), Nanos::from_millis(1));
        }
        assert!(clock.overruns() >= 2);
        let before = clock.interval();
        for _ in 0..9 {
            now += 400;
            clock.ticked(at(now), Nanos::from_millis(1));
        }
        assert!(clock.interval() > before && clock.interval() <= LONGEST);
    }
}
