//! A distribution as the report shows it.
//!
//! Owns the histogram's encoding, and the words for a percentile that is left out. Used by the files beside it.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};

use crate::aggregate::load::distribution::Recorded;
use crate::figures::load::latency::Latency;
use crate::reason::LoadReason;
use crate::report::model;

pub(crate) fn latency(latency: &Latency) -> model::Dist {
    let values = match &latency.values {
        Ok(values) => distribution(values),
        Err(why) => return empty(why),
    };
    match &latency.without_percentiles {
        None => values,
        Some(why) => model::Dist {
            min: None,
            p50: None,
            p90: None,
            p95: None,
            p99: None,
            p999: None,
            reason: Some(why.to_string()),
            ..values
        },
    }
}

/// No values, and why.
fn empty(why: &LoadReason) -> model::Dist {
    model::Dist { reason: Some(why.to_string()), ..model::Dist::default() }
}

fn distribution(values: &Recorded) -> model::Dist {
    let beyond = (values.beyond > 0).then_some(LoadReason::BeyondHistogram(values.beyond));
    model::Dist {
        count: values.count,
        min: Some(values.min),
        mean: Some(values.mean),
        stddev: Some(values.stddev),
        p50: values.p50,
        p90: values.p90,
        p95: values.p95,
        p99: values.p99,
        p999: values.p999,
        max: Some(values.max),
        histogram: encoded(&values.histogram()),
        reason: beyond.map(|why| why.to_string()),
    }
}

/// HdrHistogram V2, compressed, base64. `None` where a bucket holds 2^63 values and more, which
/// the format cannot.
fn encoded(histogram: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).ok()?;
    Some(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;
    use crate::aggregate::load::distribution::Distribution;
    use crate::units::Nanos;

    fn of(values: impl IntoIterator<Item = u64>) -> Option<Recorded> {
        let mut all = Distribution::new();
        values.into_iter().for_each(|v| all.record(Nanos(v)));
        all.recorded()
    }

    #[test]
    fn an_empty_distribution_is_all_null_with_a_reason() {
        let d = latency(&Latency::of(None, LoadReason::NothingSent));
        assert_eq!((d.count, d.min, d.p50, d.max), (0, None, None, None));
        assert_eq!((d.mean, d.stddev, d.histogram), (None, None, None));
        assert_eq!(d.reason.as_deref(), Some("nothing was sent"));
    }

    #[test]
    fn the_histogram_in_the_report_decodes_to_the_same_percentiles() {
        let d = latency(&Latency::of(of((1..=10_000).map(|n| n * 1_000)), LoadReason::NoToken));
        let bytes = base64::engine::general_purpose::STANDARD.decode(d.histogram.unwrap()).unwrap();
        let h: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(h.len(), d.count);
        assert_eq!(Some(h.value_at_quantile(0.99)), d.p99);
    }

    #[test]
    fn a_value_beyond_an_hour_is_told_beside_the_percentiles() {
        let d = latency(&Latency::of(of([10, 20, 7_200_000_000_000]), LoadReason::NoToken));
        assert!(d.reason.is_some_and(|r| r.starts_with("1 of the values are above one hour")));
    }
}
