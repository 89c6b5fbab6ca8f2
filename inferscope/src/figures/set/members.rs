//! Each process of the set, with what follows for it from all of them.
//!
//! Owns the order of the list and how a process ended. Never guesses a missing figure. A part of `set`.

use crate::event::{CpuTime, ExitStatus, Observation, ProcessRecord};
use crate::reason::SetReason;
use crate::units::Nanos;

use super::Scope;
use super::roles::{MemberRole, Part, parts};
use super::worker_slots::Place;

/// One process of the set.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub(crate) record: &'a ProcessRecord,
    pub(crate) role: MemberRole,
    /// Among the workers of an arbiter, where every birth and death is known.
    pub(crate) place: Option<Place>,
    /// Nanoseconds on the run's timeline; negative before the run.
    pub(crate) started: Option<i64>,
    /// On the run's timeline.
    pub(crate) exited: Option<Nanos>,
    pub(crate) exit: Option<MemberExit>,
    /// The path of the last cgroup that it was in.
    pub(crate) cgroup: Option<&'a str>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberExit {
    /// `None`: the record of its end was lost.
    pub(crate) status: Option<ExitStatus>,
    /// The kernel's OOM killer chose it; `None`: it would not have been told.
    pub(crate) oom: Option<bool>,
}

impl MemberExit {
    /// By a signal or with an error.
    pub(crate) fn is_failure(self) -> bool {
        self.status.is_some_and(|s| s.signal.is_some() || s.code.is_some_and(|code| code != 0))
    }
}

impl Member<'_> {
    pub(crate) fn cpu(&self) -> Option<Nanos> {
        self.record.cpu.map(CpuTime::total)
    }

    /// It ended, and its CPU is the last reading before that.
    pub(crate) fn cpu_is_lower_bound(&self) -> bool {
        self.record.exited.is_some() && self.record.cpu.is_some() && !self.record.cpu_is_final
    }

    pub(crate) fn max_rss_bytes(&self) -> Result<u64, SetReason> {
        self.record.max_rss_bytes.ok_or(match self.record.max_rss_at_most_bytes {
            Some(_) => SetReason::PagesOfItsParent,
            None => SetReason::NoPeakOfProcess,
        })
    }

    pub(crate) fn max_rss_is_lower_bound(&self) -> bool {
        self.record.max_rss_bytes.is_some() && !self.record.max_rss_is_peak
    }

    /// A /proc sample caught it at least once.
    pub(crate) fn was_sampled(&self) -> bool {
        self.record.times_sampled > 0
    }

    pub(crate) fn is_oom_killed(&self) -> bool {
        self.exit.is_some_and(|exit| exit.oom == Some(true))
    }

    /// From birth to end, where both are within the run.
    pub(crate) fn life(&self) -> Option<Nanos> {
        let started = u64::try_from(self.started?).ok()?;
        Some(Nanos(self.exited?.0.checked_sub(started)?))
    }
}

pub(super) fn members<'a>(scope: &Scope<'_>, o: &'a Observation) -> Vec<Member<'a>> {
    let parts = parts(scope, o);
    let mut all: Vec<Member<'a>> =
        o.processes.iter().zip(parts).map(|(record, part)| member(scope, o, record, part)).collect();
    all.sort_by_key(|m| (m.started.is_none(), m.started, m.record.pid));
    all
}

fn member<'a>(scope: &Scope<'_>, o: &'a Observation, record: &'a ProcessRecord, part: Part) -> Member<'a> {
    // Word of a kill may be among the records that were lost.
    let oom = record.oom_killed.filter(|killed| *killed || o.loss.ring_full_by.others == 0);
    // Where the status was lost, that it was killed for memory is still known.
    let was_killed = oom == Some(true) && record.exited.is_some();
    Member {
        record,
        role: part.role,
        place: part.place,
        started: record.started_boottime_ns.map(|ns| scope.origin.at_boottime(ns)),
        exited: record.exited.map(|t| scope.origin.at(t)),
        exit: (record.exit.is_some() || was_killed).then_some(MemberExit { status: record.exit, oom }),
        cgroup: record.cgroup_id.and_then(|id| o.cgroups.get(&id)).map(String::as_str),
    }
}
