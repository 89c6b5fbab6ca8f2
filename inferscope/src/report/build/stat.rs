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
