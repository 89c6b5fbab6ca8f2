//! What was compared, and how it came out.
//!
//! Owns the comparison of one figure, by its JSON pointer, and the account of every number of the report. Never knows what
//! a figure means. Filled by everything else here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::left_out;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Figure {
    Unknown,
    Whole(u64),
    /// With how far off it may be.
    Real(f64, f64),
    /// The lists leave it open within these.
    Between(f64, f64),
}

impl Figure {
    /// To nine digits.
    pub(super) fn real(value: f64) -> Self {
        Self::Real(value, value.abs() * 1e-9 + 1e-12)
    }

    pub(super) fn fits(self, told: Option<f64>) -> bool {
        match (self, told) {
            (Self::Unknown, told) => told.is_none(),
            (Self::Whole(value), Some(told)) => told == value as f64,
            (Self::Real(value, off), Some(told)) => (told - value).abs() <= off,
            (Self::Between(low, high), Some(told)) => low <= told && told <= high,
            (_, None) => false,
        }
    }

    pub(super) fn whole(value: Option<u64>) -> Self {
        value.map_or(Self::Unknown, Self::Whole)
    }

    pub(super) fn maybe(value: Option<f64>) -> Self {
        value.map_or(Self::Unknown, Self::real)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// JSON pointer.
    pub path: String,
    pub told: String,
    pub recomputed: String,
    pub definition: String,
}

/// What came of one report.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Recomputed, by their JSON pointers.
    pub figures: BTreeSet<String>,
    pub differ: Vec<Difference>,
    /// `null` with a reason where the lists would give a value.
    pub withheld: BTreeSet<String>,
    /// Not recomputed, with the reason: `*` for any place in a list.
    pub left_out: BTreeMap<String, &'static str>,
    /// Neither recomputed nor known to be left out.
    pub unknown: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Book<'a> {
    pub(super) report: &'a Value,
    outcome: Outcome,
}

impl<'a> Book<'a> {
    pub(super) fn new(report: &'a Value) -> Self {
        Self { report, outcome: Outcome::default() }
    }

    pub(super) fn at(&self, path: &str) -> &'a Value {
        self.report.pointer(path).unwrap_or(&Value::Null)
    }

    pub(super) fn number(&self, path: &str) -> Option<f64> {
        self.at(path).as_f64()
    }

    pub(super) fn whole(&self, path: &str) -> Option<u64> {
        self.at(path).as_u64()
    }

    /// The figure at `path` is what its definition makes of the lists.
    pub(super) fn is(&mut self, path: &str, figure: Figure, definition: &str) {
        self.outcome.figures.insert(path.to_owned());
        let told = self.at(path);
        let same = match figure {
            Figure::Unknown => told.is_null(),
            Figure::Whole(value) => told.as_u64() == Some(value),
            _ => figure.fits(told.as_f64()),
        };
        if !same {
            self.differs(path, &format!("{figure:?}"), definition);
        }
    }

    /// The same, where `null` will do if the report says why at `reason`.
    pub(super) fn is_unless(&mut self, path: &str, reason: &str, figure: Figure, definition: &str) {
        if self.at(path).is_null() && figure != Figure::Unknown && self.at(reason).is_string() {
            self.outcome.withheld.insert(path.to_owned());
        } else {
            self.is(path, figure, definition);
        }
    }

    /// Anything else that has to hold of what stands at `path`.
    pub(super) fn holds(&mut self, path: &str, holds: bool, should: &str, definition: &str) {
        self.outcome.figures.insert(path.to_owned());
        if !holds {
            self.differs(path, should, definition);
        }
    }

    fn differs(&mut self, path: &str, should: &str, definition: &str) {
        self.outcome.differ.push(Difference {
            path: path.to_owned(),
            told: self.at(path).to_string(),
            recomputed: should.to_owned(),
            definition: definition.to_owned(),
        });
    }

    /// Accounts for every number that was not compared.
    pub(super) fn close(self) -> Outcome {
        let mut outcome = self.outcome;
        let mut numbers = Vec::new();
        numbers_of(self.report, &mut String::new(), &mut numbers);
        for path in numbers {
            if outcome.figures.contains(&path) {
                continue;
            }
            match left_out::why(&path) {
                Some((pattern, why)) => {
                    outcome.left_out.insert(pattern.to_owned(), why);
                }
                None => {
                    outcome.unknown.insert(path);
                }
            }
        }
        outcome
    }
}

fn numbers_of(value: &Value, path: &mut String, all: &mut Vec<String>) {
    let mut within = |key: &str, value: &Value| {
        let before = path.len();
        path.push('/');
        path.push_str(&key.replace('~', "~0").replace('/', "~1"));
        numbers_of(value, path, all);
        path.truncate(before);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| within(key, value)),
        Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| within(&n.to_string(), value)),
        Value::Number(_) => all.push(path.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_is_compared_by_its_kind() {
        let report =
            json!({"a": 3, "b": 2.5, "c": null, "c_reason": "why", "run": {"duration_ns": 1}, "new": 7});
        let mut book = Book::new(&report);
        book.is("/a", Figure::Whole(3), "");
        book.is("/b", Figure::real(2.5), "");
        book.is("/c", Figure::Unknown, "");
        book.is_unless("/c", "/c_reason", Figure::Whole(1), "");
        book.is("/b", Figure::Between(2.4, 2.6), "");
        assert_eq!(book.outcome.differ, []);
        book.is("/a", Figure::Whole(4), "three and one");
        book.is("/b", Figure::real(2.6), "");
        book.is("/c", Figure::Whole(0), "");
        book.is_unless("/c", "/d_reason", Figure::Whole(1), "");
        book.is("/a", Figure::Unknown, "");
        let outcome = book.close();
        assert_eq!(outcome.differ.len(), 5);
        assert_eq!(outcome.differ[0].told, "3");
        // What nobody knows is not passed over.
        assert_eq!(outcome.unknown, BTreeSet::from(["/new".to_owned()]));
        assert_eq!(outcome.left_out.len(), 1);
    }
}
