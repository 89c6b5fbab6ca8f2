//! The five numbers of a sampled quantity.
//!
//! Owns how samples become a [`model::Stat`]. Never decides which samples count. Called by
//! `resources` and `gpus`.

use crate::report::model;

/// A sample: a share, or a whole number, which stays one.
pub(super) trait Sampled: Copy + PartialOrd + Default {
    fn to_f64(self) -> f64;
}

impl Sampled for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

impl Sampled for u64 {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

/// The mean is over the samples, each counting once; not-finite values don't occur in counters.
pub(super) fn stat<T: Sampled>(values: impl IntoIterator<Item = T>, why_empty: &str) -> model::Stat<T> {
    let mut s = model::Stat::default();
    let mut sum = 0.0;
    for v in values {
        s.count = s.count.saturating_add(1);
        sum += v.to_f64();
        s.min = Some(s.min.map_or(v, |m| if v < m { v } else { m }));
        s.max = Some(s.max.map_or(v, |m| if v > m { v } else { m }));
        s.last = Some(v);
    }
    if s.count == 0 {
        s.reason = Some(why_empty.to_owned());
    } else {
        s.mean = Some(sum / s.count as f64);
    }
    s
}

/// No samples, and why.
pub(super) fn unknown<T: Sampled>(why: &str) -> model::Stat<T> {
    stat([], why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_samples_are_null_with_a_reason_and_never_zero() {
        let s = unknown::<u64>("no target");
        assert_eq!((s.count, s.min, s.mean, s.max, s.last), (0, None, None, None, None));
        assert_eq!(s.reason.as_deref(), Some("no target"));
    }

    #[test]
    fn the_last_sample_is_kept_beside_the_extremes() {
        let s = stat([2.0, 6.0, 1.0], "");
        assert_eq!((s.count, s.min, s.mean, s.max, s.last), (3, Some(1.0), Some(3.0), Some(6.0), Some(1.0)));
        assert_eq!(s.reason, None);
    }

    #[test]
    fn a_whole_number_is_written_as_one_and_its_mean_is_not() {
        let json = serde_json::to_value(stat([(1_u64 << 53) + 1, 2], "")).unwrap();
        assert_eq!((json["max"].as_u64(), json["last"].as_u64()), (Some((1 << 53) + 1), Some(2)));
        assert!(json["mean"].is_f64());
    }
}
