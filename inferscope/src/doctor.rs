//! `inferscope doctor`: what works on this machine, for this user, and what would help where it does not.
//!
//! Owns the examination: `probe` looks (all effects are there), `facts` is what was seen, `rules` is pure
//! and turns facts into checks with remedies, `render` prints them. Loads the kernel program to know
//! whether it loads, and makes and removes an empty cgroup; leaves nothing behind. Never observes a
//! process. Called by `main`.

mod facts;
mod probe;
mod render;
mod rules;

use std::path::Path;

use serde::Serialize;

/// What was found, check by check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    checks: Vec<Check>,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// For scripts; does not change.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// One word that a script can compare, where there is one.
    pub(crate) value: Option<String>,
    pub(crate) finding: String,
    /// Names of what is missing: capabilities, files.
    pub(crate) missing: Vec<&'static str>,
    /// What would help, each by itself.
    pub(crate) remedies: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// Profiling works, less is seen.
    Limited,
    /// Profiling needs it: the kernel tracker can't be had.
    Missing,
}

impl Diagnosis {
    /// Everything that profiling needs is there.
    #[must_use]
    pub fn works(&self) -> bool {
        self.checks.iter().all(|check| check.status != Status::Missing)
    }

    #[must_use]
    pub fn to_text(&self) -> String {
        render::text(self)
    }

    #[must_use]
    pub fn to_json(&self) -> String {
        render::json(self)
    }
}

/// Looks at this machine. `nvml_library`: as `--nvml-lib`.
#[must_use]
pub fn examine(nvml_library: Option<&Path>) -> Diagnosis {
    let facts = probe::Probe::of_this_machine().facts(nvml_library);
    Diagnosis { checks: rules::checks(&facts) }
}
