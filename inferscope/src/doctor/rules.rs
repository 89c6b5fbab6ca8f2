//! The rules from facts to checks, each with its remedy.
//!
//! Owns which privilege each part needs; pure. These needs were found by removing privileges one at a time
//! (`tests/it/processes/privileges.rs`). Used by `doctor::examine`.

mod environment;
mod privileges;

use super::facts::Facts;
use super::{Check, Status};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = privileges::checks(facts);
    checks.extend(environment::checks(facts));
    checks
}

impl Check {
    fn new(code: &'static str, name: &'static str, status: Status, finding: impl Into<String>) -> Self {
        let finding = finding.into();
        Self { code, name, status, value: None, finding, missing: Vec::new(), remedies: Vec::new() }
    }

    fn ok(code: &'static str, name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(code, name, Status::Ok, finding)
    }

    fn limited(code: &'static str, name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(code, name, Status::Limited, finding)
    }

    fn missing(code: &'static str, name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(code, name, Status::Missing, finding)
    }

    fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    fn lacks(mut self, what: impl IntoIterator<Item = &'static str>) -> Self {
        self.missing.extend(what);
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }

    fn remedies(mut self, remedies: impl IntoIterator<Item = String>) -> Self {
        self.remedies.extend(remedies);
        self
    }
}

#[cfg(test)]
mod tests;
