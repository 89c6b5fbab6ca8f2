//! What makes figures doubtful, as the report has it.
//!
//! Owns the words of codes and levels. A part of `build`.

use crate::verdict::doubt::{Doubt, DoubtLevel};

use super::super::model;

/// The worst first.
pub(crate) fn validity(mut doubts: Vec<Doubt>) -> Vec<model::Validity> {
    doubts.sort_by_key(|doubt| std::cmp::Reverse(doubt.level));
    let entry = |doubt: Doubt| model::Validity {
        level: match doubt.level {
            DoubtLevel::ForTheRecord => model::Level::Ok,
            DoubtLevel::Warn => model::Level::Warn,
            DoubtLevel::Invalid => model::Level::Invalid,
        },
        code: super::code(doubt.code),
        message: doubt.message,
    };
    doubts.into_iter().map(entry).collect()
}
