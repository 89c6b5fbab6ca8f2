//! The process set: who was in it, what part each process played, what it used, whether that is all.
//!
//! Owns every figure of the set, from the observation alone. Never rounds, never words a finding, never reads a row of the report.
//! Called once a report; read by `verdict` and `report::build`.

mod cgroup_reconciliation;
mod commands;
mod completeness;
mod lineage;
mod members;
mod resources;
mod roles;
mod worker_slots;

use crate::clock::Origin;
use crate::event::Observation;
use crate::reason::SetReason;
use crate::units::Nanos;

pub(crate) use cgroup_reconciliation::{Mismatch, SetCpu};
pub(crate) use commands::CommandTotals;
pub(crate) use completeness::SetCounts;
pub(crate) use members::{Member, MemberExit};
pub(crate) use resources::{CgroupPeak, PeakRssKind, SetResources, SizedBy};
pub(crate) use roles::{MemberRole, WRAPPER_RSS_BYTES};

/// What of the plan and the target the figures depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) origin: Origin,
    /// Pids that the target names.
    pub(crate) roots: &'a [u32],
    /// The target is a whole cgroup.
    pub(crate) whole_cgroup: bool,
    /// The cgroup was made for the run.
    pub(crate) cgroup_of_run: bool,
    /// False: the set is the given pid alone.
    pub(crate) descendants: bool,
    /// As asked for.
    pub(crate) sample_interval: Nanos,
}

/// Everything that is known of an observed set.
#[derive(Debug, Clone)]
pub(crate) struct SetFigures<'a> {
    pub(crate) observation: &'a Observation,
    /// In the order of birth; those whose start is unknown come last.
    pub(crate) members: Vec<Member<'a>>,
    /// Every process of the target is counted and accounted, or why not.
    pub(crate) complete: Result<(), SetReason>,
    pub(crate) counts: SetCounts,
    pub(crate) cpu: SetCpu<'a>,
    pub(crate) commands: Vec<CommandTotals>,
    pub(crate) resources: SetResources<'a>,
}

impl<'a> SetFigures<'a> {
    pub(crate) fn of(scope: &Scope<'_>, observation: &'a Observation) -> Self {
        let members = members::members(scope, observation);
        Self {
            observation,
            complete: completeness::complete(observation, scope.descendants),
            counts: SetCounts::of(observation, scope.descendants),
            cpu: SetCpu::of(observation, scope.descendants),
            commands: commands::commands(&members, observation),
            resources: SetResources::of(scope, observation),
            members,
        }
    }
}
