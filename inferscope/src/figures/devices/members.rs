//! The process set by the pids that NVML tells.
//!
//! Owns the match: NVML tells pids of the initial namespace, so only a known host pid can match, and only while the process
//! that had it lived. A part of `devices`.

use std::collections::HashMap;

use crate::clock::{Mono, Origin};
use crate::event::{Observation, TrackerKind};
use crate::units::Nanos;

/// A driver may list a process for a moment after its end, and stamps differ by less.
const GRACE: Nanos = Nanos::from_millis(1_000);

/// When each process of the set lived, by host pid.
#[derive(Debug, Default)]
pub(crate) struct Members {
    lives: HashMap<u32, Vec<(Mono, Mono)>>,
    /// Every process of the target is in it.
    pub(super) complete: bool,
    /// There is no target.
    pub(super) none: bool,
}

impl Members {
    pub(crate) fn none() -> Self {
        Self { none: true, ..Self::default() }
    }

    /// `pids_are_ours`: NVML's pids are those that inferscope sees. `complete`: no process is missing in the list.
    pub(crate) fn new(
        observation: &Observation,
        origin: Origin,
        pids_are_ours: bool,
        complete: bool,
    ) -> Self {
        let mut members =
            Self { complete, none: observation.tracker == TrackerKind::None, ..Self::default() };
        for process in &observation.processes {
            let Some(pid) = process.host_pid.or(pids_are_ours.then_some(process.pid)) else {
                members.complete = false;
                continue;
            };
            let started = process.started_boottime_ns.map(|ns| origin.of_boottime(ns));
            let begin = started.map_or(Mono(0), |t| Mono(t.0.saturating_sub(GRACE.0)));
            let end = process.exited.map_or(Mono(u64::MAX), |t| t.plus(GRACE));
            members.lives.entry(pid).or_default().push((begin, end));
        }
        members
    }

    pub(crate) fn ever_had(&self, pid: u32) -> bool {
        self.lives.contains_key(&pid)
    }

    /// Whether the process that has this pid at `t` is one of the target's; `None`: it can't be told.
    pub(crate) fn has(&self, pid: u32, t: Mono) -> Option<bool> {
        let lived = self.lives.get(&pid).is_some_and(|all| all.iter().any(|(a, b)| (*a..=*b).contains(&t)));
        if lived { Some(true) } else { (self.complete && !self.none).then_some(false) }
    }
}
