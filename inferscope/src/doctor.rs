//! `inferscope doctor`: what works on this machine for this user, and what helps where something does not work.
//!
//! Owns the examination: `probe` looks (all effects are there), `facts` holds what it saw, `rules` is pure and turns
//! facts into checks with remedies, `render` prints them. Loads the kernel program to test that it loads, and creates
//! and removes an empty cgroup; leaves nothing behind. Never observes a process. Called by `main`.

mod facts;
mod probe;
mod render;
mod rules;

use std::path::Path;

use serde::Serialize;

/// The result, check by check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    checks: Vec<Check>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// A stable name for scripts.
    pub(crate) code: &'static str,
    /// A label for people.
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// One word that a script can compare, if there is one.
    pub(crate) value: Option<String>,
    pub(crate) finding: String,
    /// The names of missing things: capabilities, files.
    pub(crate) missing: Vec<&'static str>,
    /// The remedies. Each one is enough by itself.
    pub(crate) remedies: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// Profiling works, but sees less.
    Limited,
    /// Profiling needs it: the kernel tracker does not work.
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

/// Examines this machine. `nvml_library`: as in `--nvml-lib`.
#[must_use]
pub fn examine(nvml_library: Option<&Path>) -> Diagnosis {
    let facts = probe::Probe::of_this_machine().facts(nvml_library);
    Diagnosis { checks: rules::checks(&facts) }
}
