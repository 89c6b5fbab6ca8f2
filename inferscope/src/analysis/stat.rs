//! The five numbers of a sampled quantity.
//!
//! Owns how samples become a [`model::Stat`]. Never decides which samples count. Called by
//! `resources` and `gpus`.

use crate::report::model;

/// The mean is over the samples, each counting once; not-finite values don't occur in counters.
pub(super) fn stat(values: impl IntoIterator<Item = f64>, why_empty: &str) -> model::Stat {
    let mut s = model::Stat::default();
    let mut sum = 0.0;
    for v in values {
        s.count = s.count.saturating_add(1);
        sum += v;
        s.min = Some(s.min.map_or(v, |m| m.min(v)));
        s.max = Some(s.max.map_or(v, |m| m.max(v)));
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
pub(super) fn unknown(why: &str) -> model::Stat {
    stat([], why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_samples_are_null_with_a_reason_and_never_zero() {
        let s = unknown("no target");
        assert_eq!((s.count, s.min, s.mean, s.max, s.last), (0, None, None, None, None));
        assert_eq!(s.reason.as_deref(), Some("no target"));
    }

    #[test]
    fn the_last_sample_is_kept_beside_the_extremes() {
        let s = stat([2.0, 6.0, 1.0], "");
        assert_eq!((s.count, s.min, s.mean, s.max, s.last), (3, Some(1.0), Some(3.0), Some(6.0), Some(1.0)));
        assert_eq!(s.reason, None);
    }
}
