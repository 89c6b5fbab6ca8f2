//! Requests under way, over time.
//!
//! Owns the folding of every change into stretches of equal length, so that memory is bounded however long the
//! phase is: where there are too many stretches, neighbours are merged and the length doubles. Pure. Fed by
//! the driver.

use crate::clock::Mono;
use crate::event::InFlight;
use crate::units::Nanos;

/// Stretches kept; between half of these and all.
const MOST: usize = 512;
/// The first length.
const SHORTEST: Nanos = Nanos::from_millis(10);

#[derive(Debug)]
pub(super) struct Gauge {
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
    pub(super) fn new(from: Mono) -> Self {
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
    pub(super) fn set(&mut self, t: Mono, value: u32) {
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
    pub(super) fn finish(mut self, t: Mono) -> Vec<InFlight> {
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
