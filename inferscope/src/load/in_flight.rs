//! Requests under way, over time.
//!
//! Owns the folding of every change into stretches of equal length, so that memory is bounded however long the
//! phase is: where there are too many stretches, neighbours are merged and the length doubles. A stretch begins where
//! the load becomes full and where it ends. Pure. Fed by the driver.

use crate::clock::Mono;
use crate::event::{InFlight, Loaded};
use crate::units::Nanos;

/// Stretches kept; between half of these and all.
const MOST: usize = 512;
/// The first length.
const SHORTEST: Nanos = Nanos::from_millis(10);

/// The requests under way over a phase's measured part.
#[derive(Debug)]
pub(super) struct InFlightLog {
    gauge: Gauge,
    /// The gauge is of the measured part.
    begun: bool,
    /// Up to the load's end; the gauge is of what follows.
    loaded: Option<Vec<InFlight>>,
}

impl InFlightLog {
    pub(super) fn new(now: Mono) -> Self {
        Self { gauge: Gauge::new(now), begun: false, loaded: None }
    }

    /// From `t` on there are `value`.
    pub(super) fn set(&mut self, t: Mono, value: u32, loaded: Loaded) {
        self.cut(t, loaded);
        self.gauge.set(t, value);
    }

    fn cut(&mut self, t: Mono, loaded: Loaded) {
        if let Some(from) = loaded.from.filter(|from| !self.begun && t >= *from) {
            self.restart(from);
            self.begun = true;
        }
        if let Some(to) = loaded.to.filter(|to| self.begun && self.loaded.is_none() && t > *to) {
            self.loaded = Some(self.restart(to).finish(to));
        }
    }

    /// The gauge before.
    fn restart(&mut self, t: Mono) -> Gauge {
        let mut next = Gauge::new(t);
        next.set(t, self.gauge.value);
        std::mem::replace(&mut self.gauge, next)
    }

    /// The stretches from the measured part's beginning up to `t`; none where it was not reached.
    pub(super) fn finish(mut self, t: Mono, loaded: Loaded) -> Vec<InFlight> {
        self.cut(t, loaded);
        if !self.begun {
            return Vec::new();
        }
        let rest = self.gauge.finish(t);
        self.loaded.into_iter().flatten().chain(rest).collect()
    }
}

#[derive(Debug)]
struct Gauge {
    from: Mono,
    length: Nanos,
    done: Vec<Stretch>,
    now: Stretch,
    /// Up to here `now` is filled.
    at: Mono,
    value: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    /// Requests x nanoseconds.
    area: u128,
    max: u32,
}

impl Gauge {
    fn new(from: Mono) -> Self {
        Self {
            from,
            length: SHORTEST,
            done: Vec::with_capacity(MOST),
            now: Stretch::default(),
            at: from,
            value: 0,
        }
    }

    /// From `t` on there are `value`. Times do not go back.
    fn set(&mut self, t: Mono, value: u32) {
        self.advance(t);
        self.value = value;
        self.now.max = self.now.max.max(value);
    }

    fn advance(&mut self, t: Mono) {
        while let end = self.end()
            && t >= end
        {
            self.fill(end);
            self.done.push(self.now);
            self.now = Stretch { area: 0, max: self.value };
            if self.done.len() == MOST {
                self.halve();
            }
        }
        self.fill(t);
    }

    /// Where the current stretch ends.
    fn end(&self) -> Mono {
        self.from.plus(Nanos(self.length.0.saturating_mul(self.done.len() as u64 + 1)))
    }

    fn fill(&mut self, t: Mono) {
        self.now.area += u128::from(t.since(self.at).0) * u128::from(self.value);
        self.at = self.at.max(t);
    }

    fn halve(&mut self) {
        let merged = self.done.chunks(2).map(|pair| {
            pair.iter().fold(Stretch::default(), |sum, s| Stretch {
                area: sum.area + s.area,
                max: sum.max.max(s.max),
            })
        });
        self.done = merged.collect();
        self.length = Nanos(self.length.0.saturating_mul(2));
    }

    /// The stretches up to `t`.
    fn finish(mut self, t: Mono) -> Vec<InFlight> {
        self.advance(t);
        let last = self.at.since(self.from.plus(Nanos(self.length.0 * self.done.len() as u64)));
        let lengths = std::iter::repeat_n(self.length, self.done.len()).chain([last]);
        let all = self.done.iter().chain([&self.now]);
        all.zip(lengths)
            .enumerate()
            .filter(|(_, (_, length))| length.0 > 0)
            .map(|(n, (stretch, length))| InFlight {
                t: self.from.plus(Nanos(self.length.0 * n as u64)),
                mean: stretch.area as f64 / length.0 as f64,
                max: stretch.max,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Mono {
        Mono(n * 1_000_000)
    }

    #[test]
    fn means_are_over_time() {
        let mut gauge = Gauge::new(ms(0));
        gauge.set(ms(0), 1);
        gauge.set(ms(5), 3);
        gauge.set(ms(15), 0);
        let told = gauge.finish(ms(25));
        let shown: Vec<_> = told.iter().map(|s| (s.t, s.mean, s.max)).collect();
        assert_eq!(shown, [(ms(0), 2.0, 3), (ms(10), 1.5, 3), (ms(20), 0.0, 0)]);
    }

    #[test]
    fn a_stretch_begins_where_the_load_is_full_and_where_it_ends() {
        let mut gauge = InFlightLog::new(ms(0));
        let mut loaded = Loaded { from: None, to: None };
        gauge.set(ms(1), 1, loaded);
        loaded.from = Some(ms(13));
        gauge.set(ms(9), 2, loaded);
        gauge.set(ms(15), 4, loaded);
        loaded.to = Some(ms(17));
        gauge.set(ms(17), 5, loaded);
        gauge.set(ms(20), 0, loaded);
        let told = gauge.finish(ms(25), loaded);
        let shown: Vec<_> = told.iter().map(|s| (s.t, s.mean, s.max)).collect();
        // 2 ms of two and 2 ms of four; then 3 ms of five and 5 ms of none.
        assert_eq!(shown, [(ms(13), 3.0, 5), (ms(17), 15.0 / 8.0, 5)]);
        assert_eq!(InFlightLog::new(ms(0)).finish(ms(9), Loaded::default()), []);
    }

    proptest! {
        #[test]
        fn whatever_is_merged_the_area_and_the_peak_stay(
            steps in prop::collection::vec((0u64..200, 0u32..50), 1..200),
        ) {
            let mut gauge = Gauge::new(ms(3));
            let (mut t, mut value, mut area, mut peak) = (ms(3), 0u32, 0u128, 0u32);
            for (wait, next) in steps {
                let later = ms(t.0 / 1_000_000 + wait);
                area += u128::from(later.since(t).0) * u128::from(value);
                (t, value) = (later, next);
                gauge.set(t, value);
                peak = peak.max(value);
            }
            let end = t.plus(Nanos(1));
            area += u128::from(value);
            let told = gauge.finish(end);
            prop_assert!(told.len() <= MOST);
            let ends = told.iter().skip(1).map(|s| s.t).chain([end]);
            let sum: f64 = told.iter().zip(ends).map(|(s, end)| s.mean * end.since(s.t).0 as f64).sum();
            prop_assert!((sum - area as f64).abs() <= 1e-6 * area as f64 + 1.0, "{sum} {area}");
            prop_assert_eq!(told.iter().map(|s| s.max).max(), Some(peak));
        }
    }
}
