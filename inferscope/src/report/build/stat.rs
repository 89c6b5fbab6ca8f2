//! A sampled quantity, as the report has it.

use std::fmt::Display;

use super::super::model;
use crate::figures::stat::Stat;

pub(super) fn stat<T: Copy + Default>(known: &Result<Stat<T>, impl Display>) -> model::Stat<T> {
    match known {
        Ok(stat) => model::Stat {
            count: stat.count,
            min: Some(stat.min),
            mean: Some(stat.mean),
            max: Some(stat.max),
            last: Some(stat.last),
            ..model::Stat::default()
        },
        Err(why) => model::Stat { reason: Some(why.to_string()), ..model::Stat::default() },
    }
}

/// Where there were samples; a quantity without any has no figure of its own.
pub(super) fn of_samples<T: Copy + Default>(stat: Option<Stat<T>>) -> model::Stat<T> {
    stat.map_or_else(model::Stat::default, |stat| self::stat(&Ok::<_, std::convert::Infallible>(stat)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_samples_are_null_with_a_reason_and_never_zero() {
        let s = stat::<u64>(&Err("no target"));
        assert_eq!((s.count, s.min, s.mean, s.max, s.last), (0, None, None, None, None));
        assert_eq!(s.reason.as_deref(), Some("no target"));
    }

    #[test]
    fn a_whole_number_is_written_as_one_and_its_mean_is_not() {
        let samples = crate::figures::stat::stat([(1_u64 << 53) + 1, 2]);
        let json = serde_json::to_value(of_samples(samples)).unwrap();
        assert_eq!((json["max"].as_u64(), json["last"].as_u64()), (Some((1 << 53) + 1), Some(2)));
        assert!(json["mean"].is_f64());
    }
}
