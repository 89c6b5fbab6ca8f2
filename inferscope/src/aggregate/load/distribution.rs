//! Distributions of durations.
//!
//! Owns the histogram's bounds and precision, and what is kept exactly beside it. Never decides which values belong in
//! (`latencies` does), and never says why one is empty (`latencies` and `figures` do). Used by the load's aggregate and by `figures`.
//!
//! Memory is bounded whatever is recorded: the histogram spans 1 ns to one hour at three significant
//! digits (about 260 KiB), and a value beyond one hour is put into its last bucket. Count, minimum,
//! maximum, mean and standard deviation are kept in integers beside it, so they stay exact; a
//! percentile that falls among the values beyond the hour is `None`.

use hdrhistogram::Histogram;

use crate::units::Nanos;

/// The largest value that the histogram tells apart: one hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
        .expect("1 ns to an hour at three digits are bounds that the histogram takes")
}

/// Durations, recorded one by one. Merging two gives what recording all in one would have.
#[derive(Debug, Clone)]
pub(crate) struct Distribution {
    histogram: Histogram<u64>,
    count: u64,
    sum: u128,
    /// Saturates beyond 10^38, which takes a million values of a hundred days.
    sum_of_squares: u128,
    min: u64,
    max: u64,
    /// Values above [`HIGHEST_NS`].
    beyond: u64,
}

impl Distribution {
    pub(crate) fn new() -> Self {
        Self {
            histogram: empty_histogram(),
            count: 0,
            sum: 0,
            sum_of_squares: 0,
            min: u64::MAX,
            max: 0,
            beyond: 0,
        }
    }

    pub(crate) fn record(&mut self, value: Nanos) {
        self.record_n(value, 1);
    }

    pub(crate) fn record_n(&mut self, value: Nanos, n: u64) {
        if n == 0 {
            return;
        }
        let ns = value.0;
        self.histogram.saturating_record_n(ns, n);
        self.count = self.count.saturating_add(n);
        let (wide, times) = (u128::from(ns), u128::from(n));
        self.sum = self.sum.saturating_add(wide * times);
        self.sum_of_squares = self.sum_of_squares.saturating_add((wide * wide).saturating_mul(times));
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
        if ns > HIGHEST_NS {
            self.beyond = self.beyond.saturating_add(n);
        }
    }

    /// `total` cut into `parts` whole nanoseconds that add up to it exactly.
    pub(crate) fn record_split(&mut self, total: Nanos, parts: u64) {
        if parts == 0 {
            return;
        }
        let longer = total.0 % parts;
        self.record_n(Nanos(total.0 / parts), parts - longer);
        self.record_n(Nanos((total.0 / parts).saturating_add(1)), longer);
    }

    /// The value below or at which the share `q` of the values lies, to three significant digits.
    pub(crate) fn quantile(&self, q: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = (q * self.count as f64).ceil() as u64;
        if rank > self.count.saturating_sub(self.beyond) {
            return None;
        }
        Some(self.histogram.value_at_quantile(q).clamp(self.min, self.max))
    }

    /// What somebody else recorded, to the histogram's digits.
    pub(crate) fn of_histogram(histogram: &Histogram<u64>) -> Self {
        let mut all = Self::new();
        for step in histogram.iter_recorded() {
            all.record_n(Nanos(step.value_iterated_to()), step.count_at_value());
        }
        all
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// Population standard deviation.
    fn stddev(&self) -> f64 {
        let n = u128::from(self.count);
        let squares = n.checked_mul(self.sum_of_squares);
        let variance = match (squares, self.sum.checked_mul(self.sum)) {
            // Exact: no cancellation between two large floats.
            (Some(squares), Some(square)) => squares.saturating_sub(square) as f64 / (n as f64 * n as f64),
            _ => {
                let mean = self.sum as f64 / n as f64;
                (self.sum_of_squares as f64 / n as f64 - mean * mean).max(0.0)
            }
        };
        variance.sqrt()
    }

    /// What was recorded, without the room for more; `None` where nothing was.
    pub(crate) fn recorded(&self) -> Option<Recorded> {
        let mean = self.mean()?;
        let bucket = |value: u64, count: u64| Bucket { value, count };
        Some(Recorded {
            count: self.count,
            min: self.min,
            mean,
            stddev: self.stddev(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max,
            beyond: self.beyond,
            buckets: self
                .histogram
                .iter_recorded()
                .map(|step| bucket(step.value_iterated_to(), step.count_at_value()))
                .collect(),
        })
    }
}

impl std::ops::AddAssign<&Self> for Distribution {
    fn add_assign(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both histograms have the same bounds");
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.sum_of_squares = self.sum_of_squares.saturating_add(other.sum_of_squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.beyond = self.beyond.saturating_add(other.beyond);
    }
}

/// What a distribution came to: in nanoseconds, and some kilobytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) count: u64,
    pub(crate) min: u64,
    pub(crate) mean: f64,
    /// Of the population.
    pub(crate) stddev: f64,
    /// `None`: it lies beyond the histogram's hour.
    pub(crate) p50: Option<u64>,
    pub(crate) p90: Option<u64>,
    pub(crate) p95: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) p999: Option<u64>,
    pub(crate) max: u64,
    /// Values above one hour.
    pub(crate) beyond: u64,
    /// That hold something, in order.
    buckets: Vec<Bucket>,
}

/// One of the histogram's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// The highest that it holds.
    value: u64,
    count: u64,
}

impl Recorded {
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut histogram = empty_histogram();
        for bucket in &self.buckets {
            histogram.saturating_record_n(bucket.value, bucket.count);
        }
        histogram
    }

    /// The values that are not below `least`, to the histogram's digits; `None` where there is none.
    pub(crate) fn from(&self, least: Nanos) -> Option<Self> {
        let mut above = Distribution::new();
        for bucket in self.buckets.iter().filter(|bucket| bucket.value >= least.0) {
            above.record_n(Nanos(bucket.value), bucket.count);
        }
        above.recorded()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Distribution {
        let mut d = Distribution::new();
        for v in values {
            d.record(Nanos(*v));
        }
        d
    }

    #[test]
    fn an_empty_distribution_has_no_figure() {
        assert_eq!(Distribution::new().recorded(), None);
    }

    #[test]
    fn one_value_is_every_percentile_exactly() {
        let d = of(&[123_456_789]).recorded().unwrap();
        for p in [Some(d.min), d.p50, d.p90, d.p95, d.p99, d.p999, Some(d.max)] {
            assert_eq!(p, Some(123_456_789));
        }
        assert_eq!((d.mean, d.stddev, d.beyond), (123_456_789.0, 0.0, 0));
    }

    #[test]
    fn mean_and_stddev_are_exact() {
        let d = of(&[2, 4, 4, 4, 5, 5, 7, 9]).recorded().unwrap();
        assert_eq!((d.mean, d.stddev), (5.0, 2.0));
        // A spread far below the values, where floating sums of squares would cancel to nonsense.
        let d = of(&[1_000_000_000_001, 1_000_000_000_003]).recorded().unwrap();
        assert_eq!((d.mean, d.stddev), (1_000_000_000_002.0, 1.0));
    }

    #[test]
    fn a_value_beyond_an_hour_is_counted_and_keeps_its_maximum_but_names_no_percentile() {
        let d = of(&[10, 20, 2 * HIGHEST_NS]).recorded().unwrap();
        assert_eq!((d.count, d.max), (3, 2 * HIGHEST_NS));
        assert_eq!(d.p50, Some(20));
        assert_eq!((d.p90, d.p999), (None, None));
        assert_eq!(d.beyond, 1);
    }

    #[test]
    fn sums_saturate() {
        let mut d = Distribution::new();
        d.record_n(Nanos(u64::MAX), u64::MAX);
        d.record_n(Nanos(u64::MAX), u64::MAX);
        let d = d.recorded().unwrap();
        assert_eq!((d.count, d.max), (u64::MAX, u64::MAX));
        assert!(d.mean.is_finite() && d.stddev.is_finite());
    }

    #[test]
    fn a_split_gap_adds_up_to_itself() {
        let mut d = Distribution::new();
        d.record_split(Nanos(100), 3);
        d.record_split(Nanos(7), 0);
        assert_eq!((d.count, d.sum, d.min, d.max), (3, 100, 33, 34));
    }

    proptest! {
        #[test]
        fn merged_equals_recorded_together(
            a in prop::collection::vec(0..2 * HIGHEST_NS, 0..60),
            b in prop::collection::vec(0..2 * HIGHEST_NS, 0..60),
        ) {
            let mut merged = of(&a);
            merged += &of(&b);
            let together = of(&[a, b].concat());
            prop_assert_eq!(merged.recorded(), together.recorded());
        }

        #[test]
        fn what_was_recorded_gives_the_same_histogram(values in prop::collection::vec(0..2 * HIGHEST_NS, 1..60)) {
            let d = of(&values);
            let again = d.recorded().unwrap().histogram();
            prop_assert_eq!(&again, &d.histogram);
            prop_assert_eq!(again.max(), d.histogram.max());
        }

        #[test]
        fn percentiles_are_within_a_thousandth_of_the_sorted_values(
            mut values in prop::collection::vec(0..HIGHEST_NS, 1..300),
        ) {
            let d = of(&values);
            values.sort_unstable();
            for q in [0.5, 0.9, 0.95, 0.99, 0.999] {
                let rank = (q * values.len() as f64).ceil() as usize;
                let truth = values[rank.max(1) - 1];
                let told = d.quantile(q).unwrap();
                prop_assert!(told.abs_diff(truth) <= truth / 1000 + 1, "p{q}: {told}, truth {truth}");
                prop_assert!(told >= values[0] && told <= values[values.len() - 1]);
            }
        }
    }
}
