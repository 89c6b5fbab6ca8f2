//! Distributions and sampled quantities.
//!
//! Owns what count, mean, stddev, percentile and histogram are. Fed with values by the others.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use super::book::{Book, Figure};

const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];
/// Three significant digits, and nanoseconds are whole.
const DIGITS: f64 = 1e-3;
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Values with how often each was there.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(Vec<(u64, u64)>);

impl Values {
    pub(super) fn of(values: impl IntoIterator<Item = u64>) -> Self {
        Self(values.into_iter().map(|value| (value, 1)).collect())
    }

    pub(super) fn add(&mut self, value: u64, times: u64) {
        if times > 0 {
            self.0.push((value, times));
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(_, times)| times).sum()
    }

    pub(super) fn mean(&self) -> Option<f64> {
        let sum: u128 = self.0.iter().map(|(value, times)| u128::from(*value) * u128::from(*times)).sum();
        (self.count() > 0).then(|| sum as f64 / self.count() as f64)
    }

    /// The nearest rank: the least value at or below which the share `q` lies.
    pub(super) fn quantile(&self, q: f64) -> Option<u64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = ((q * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        sorted.into_iter().find_map(|(value, times)| {
            seen += times;
            (seen >= rank).then_some(value)
        })
    }

    fn stddev(&self) -> Option<f64> {
        let mean = self.mean()?;
        let squares: f64 =
            self.0.iter().map(|(value, times)| (*value as f64 - mean).powi(2) * *times as f64).sum();
        Some((squares / self.count() as f64).sqrt())
    }

    fn ends(&self) -> Option<(u64, u64)> {
        let values = || self.0.iter().map(|(value, _)| *value);
        values().min().zip(values().max())
    }
}

/// The Dist at `path` is of these values.
pub(super) fn check(book: &mut Book<'_>, path: &str, values: &Values, definition: &str) {
    let field = |name: &str| format!("{path}/{name}");
    book.is(&field("count"), Figure::Whole(values.count()), definition);
    if values.count() == 0 {
        book.holds(
            &field("reason"),
            book.at(&field("reason")).is_string(),
            "a reason for emptiness",
            definition,
        );
    }
    let (min, max) = values.ends().map_or((None, None), |(min, max)| (Some(min), Some(max)));
    book.is_unless(&field("min"), &field("reason"), Figure::whole(min), definition);
    book.is(&field("max"), Figure::whole(max), definition);
    book.is(&field("mean"), Figure::maybe(values.mean()), definition);
    // A sum of squares in floats.
    let stddev = values.stddev().map_or(Figure::Unknown, |s| Figure::Real(s, s * 1e-6 + 1e-3));
    book.is(&field("stddev"), stddev, definition);
    for (name, q) in PERCENTILES {
        let figure = values.quantile(q).map_or(Figure::Unknown, |v| to_digits(v as f64));
        book.is_unless(&field(name), &field("reason"), figure, definition);
    }
    let told = book.at(&field("histogram")).as_str().map(decoded);
    let same = match told {
        None => values.count() == 0,
        Some(None) => false,
        Some(Some(told)) => told == histogram(values),
    };
    book.holds(&field("histogram"), same, "a histogram of the same values", definition);
}

pub(super) fn to_digits(value: f64) -> Figure {
    Figure::Real(value, value.mul_add(DIGITS, 1.0))
}

fn histogram(values: &Values) -> Histogram<u64> {
    let mut all = Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("these are bounds that it takes");
    for (value, times) in &values.0 {
        all.saturating_record_n(*value, *times);
    }
    all
}

fn decoded(text: &str) -> Option<Histogram<u64>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// What the report tells of the client is of no list but their own histograms.
pub(super) fn check_own(book: &mut Book<'_>) {
    for path in ["/self/read_lag_ns", "/self/timer_lag_ns"] {
        check_by_histogram(book, path);
    }
}

/// The Dist agrees with its own histogram.
pub(super) fn check_by_histogram(book: &mut Book<'_>, path: &str) {
    const DEFINITION: &str = "a Dist's figures are those of its histogram, to three digits";
    let field = |name: &str| format!("{path}/{name}");
    let Some(text) = book.at(&field("histogram")).as_str() else { return };
    let Some(told) = decoded(text) else {
        book.holds(&field("histogram"), false, "HdrHistogram V2, compressed, base64", DEFINITION);
        return;
    };
    let mut values = Values::default();
    for step in told.iter_recorded() {
        values.add(step.value_iterated_to(), step.count_at_value());
    }
    book.is(&field("count"), Figure::Whole(values.count()), DEFINITION);
    let near = |value: Option<f64>| value.map_or(Figure::Unknown, to_digits);
    let (min, max) = values.ends().map_or((None, None), |(min, max)| (Some(min as f64), Some(max as f64)));
    book.is(&field("min"), near(min), DEFINITION);
    book.is(&field("max"), near(max), DEFINITION);
    book.is(&field("mean"), near(values.mean()), DEFINITION);
    // A value is off by a thousandth of itself, and so is their spread by that of the largest.
    let off = max.unwrap_or(0.0) * DIGITS + 1.0;
    book.is(&field("stddev"), values.stddev().map_or(Figure::Unknown, |s| Figure::Real(s, off)), DEFINITION);
    for (name, q) in PERCENTILES {
        let figure = values
            .quantile(q)
            .map_or(Figure::Unknown, |v| Figure::Real(v as f64, 2.0 * (v as f64 * DIGITS + 1.0)));
        book.is_unless(&field(name), &field("reason"), figure, DEFINITION);
    }
}

/// The Stat at `path` is of these values, in their order.
pub(super) fn stat(book: &mut Book<'_>, path: &str, values: &[f64], definition: &str) {
    let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    stat_with_mean(book, path, values, mean, definition);
}

pub(super) fn stat_with_mean(
    book: &mut Book<'_>,
    path: &str,
    values: &[f64],
    mean: Option<f64>,
    definition: &str,
) {
    let field = |name: &str| format!("{path}/{name}");
    book.is(&field("count"), Figure::Whole(values.len() as u64), definition);
    if values.is_empty() {
        book.holds(
            &field("reason"),
            book.at(&field("reason")).is_string(),
            "a reason for emptiness",
            definition,
        );
    }
    let all = || values.iter().copied();
    book.is(&field("min"), Figure::maybe(all().reduce(f64::min)), definition);
    book.is(&field("max"), Figure::maybe(all().reduce(f64::max)), definition);
    book.is(&field("last"), Figure::maybe(all().last()), definition);
    book.is(&field("mean"), Figure::maybe(mean), definition);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let values = Values::of((1..=10).map(|n| n * 10));
        assert_eq!(
            [0.5, 0.9, 0.95, 0.999].map(|q| values.quantile(q)),
            [Some(50), Some(90), Some(100), Some(100)]
        );
        assert_eq!((values.mean(), values.count(), values.ends()), (Some(55.0), 10, Some((10, 100))));
        assert!((values.stddev().map_or(0.0, |s| s - 28.722_813).abs()) < 1e-6);
        assert_eq!(Values::default().quantile(0.5), None);
    }
}
