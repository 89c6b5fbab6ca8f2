//! Distributions of durations.
//!
//! Owns the histogram's bounds and precision, and what is kept exactly beside it. Never decides
//! which values belong in (`timing` does). Called by `timing` and `load`'s schedule lag.
//!
//! Memory is bounded whatever is recorded: the histogram spans 1 ns to one hour at three significant
//! digits (about 260 KiB), and a value beyond one hour is put into its last bucket. Count, minimum,
//! maximum, mean and standard deviation are kept in integers beside it, so they stay exact; a
//! percentile that falls among the values beyond the hour is `None`, with the reason.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};

use crate::report::model;
use crate::units::Nanos;

/// The largest value that the histogram tells apart: one hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

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
            histogram: Histogram::new_with_bounds(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
                .expect("1 ns to an hour at three digits are bounds that the histogram takes"),
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
    pub(super) fn quantile(&self, q: f64) -> Option<u64> {
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
    pub(super) fn of_histogram(histogram: &Histogram<u64>) -> Self {
        let mut all = Self::new();
        for step in histogram.iter_recorded() {
            all.record_n(Nanos(step.value_iterated_to()), step.count_at_value());
        }
        all
    }

    pub(super) fn mean(&self) -> Option<f64> {
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

    /// HdrHistogram V2, compressed, base64. `None` where a bucket holds 2^63 values and more, which
    /// the format cannot.
    fn encoded(&self) -> Option<String> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.histogram, &mut bytes).ok()?;
        Some(base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    /// As the report shows it; `why_empty` is said where nothing was recorded.
    pub(crate) fn report(&self, why_empty: &str) -> model::Dist {
        if self.count == 0 {
            return empty(why_empty);
        }
        model::Dist {
            count: self.count,
            min: Some(self.min),
            mean: Some(self.sum as f64 / self.count as f64),
            stddev: Some(self.stddev()),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: Some(self.max),
            histogram: self.encoded(),
            reason: (self.beyond > 0).then(|| {
                format!(
                    "{} of the values are above one hour, the histogram's end: no percentile is told among them",
                    self.beyond
                )
            }),
        }
    }
}

impl Distribution {
    /// As the report shows it where its percentiles would mean nothing: what is of all values together stays.
    pub(super) fn report_without_percentiles(&self, why_empty: &str, why: &str) -> model::Dist {
        let all = self.report(why_empty);
        if self.count == 0 {
            return all;
        }
        model::Dist {
            min: None,
            p50: None,
            p90: None,
            p95: None,
            p99: None,
            p999: None,
            reason: Some(why.to_owned()),
            ..all
        }
    }

    /// The values that are not below `least`, to the histogram's digits.
    pub(super) fn from(&self, least: Nanos) -> Self {
        let mut above = Self::new();
        for step in self.histogram.iter_recorded().filter(|step| step.value_iterated_to() >= least.0) {
            above.record_n(Nanos(step.value_iterated_to()), step.count_at_value());
        }
        above
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

/// No values, and why.
pub(crate) fn empty(why: &str) -> model::Dist {
    model::Dist {
        count: 0,
        min: None,
        mean: None,
        stddev: None,
        p50: None,
        p90: None,
        p95: None,
        p99: None,
        p999: None,
        max: None,
        histogram: None,
        reason: Some(why.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
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
    fn an_empty_distribution_is_all_null_with_a_reason() {
        let d = Distribution::new().report("nothing was sent");
        assert_eq!(d, empty("nothing was sent"));
        assert_eq!((d.count, d.min, d.p50, d.max), (0, None, None, None));
        assert_eq!(d.reason.as_deref(), Some("nothing was sent"));
    }

    #[test]
    fn one_value_is_every_percentile_exactly() {
        let d = of(&[123_456_789]).report("");
        for p in [d.min, d.p50, d.p90, d.p95, d.p99, d.p999, d.max] {
            assert_eq!(p, Some(123_456_789));
        }
        assert_eq!((d.mean, d.stddev, d.reason), (Some(123_456_789.0), Some(0.0), None));
    }

    #[test]
    fn mean_and_stddev_are_exact() {
        let d = of(&[2, 4, 4, 4, 5, 5, 7, 9]).report("");
        assert_eq!((d.mean, d.stddev), (Some(5.0), Some(2.0)));
        // A spread far below the values, where floating sums of squares would cancel to nonsense.
        let d = of(&[1_000_000_000_001, 1_000_000_000_003]).report("");
        assert_eq!((d.mean, d.stddev), (Some(1_000_000_000_002.0), Some(1.0)));
    }

    #[test]
    fn a_value_beyond_an_hour_is_counted_and_keeps_its_maximum_but_names_no_percentile() {
        let d = of(&[10, 20, 2 * HIGHEST_NS]).report("");
        assert_eq!((d.count, d.max), (3, Some(2 * HIGHEST_NS)));
        assert_eq!(d.p50, Some(20));
        assert_eq!((d.p90, d.p999), (None, None));
        assert!(d.reason.is_some_and(|r| r.starts_with("1 of the values")));
    }

    #[test]
    fn sums_saturate() {
        let mut d = Distribution::new();
        d.record_n(Nanos(u64::MAX), u64::MAX);
        d.record_n(Nanos(u64::MAX), u64::MAX);
        let d = d.report("");
        assert_eq!((d.count, d.max), (u64::MAX, Some(u64::MAX)));
        assert!(d.mean.is_some_and(f64::is_finite) && d.stddev.is_some_and(f64::is_finite));
    }

    #[test]
    fn a_split_gap_adds_up_to_itself() {
        let mut d = Distribution::new();
        d.record_split(Nanos(100), 3);
        d.record_split(Nanos(7), 0);
        assert_eq!((d.count, d.sum, d.min, d.max), (3, 100, 33, 34));
    }

    #[test]
    fn the_histogram_in_the_report_decodes_to_the_same_percentiles() {
        let d = of(&(1..=10_000).map(|n| n * 1_000).collect::<Vec<_>>()).report("");
        let bytes = base64::engine::general_purpose::STANDARD.decode(d.histogram.unwrap()).unwrap();
        let h: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(h.len(), d.count);
        assert_eq!(Some(h.value_at_quantile(0.99)), d.p99);
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
            prop_assert_eq!(merged.report("none"), together.report("none"));
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
