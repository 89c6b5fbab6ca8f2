//! The set's CPU time, against what the kernel accounts to its cgroup.
//!
//! Owns the comparison, and when the two are too far apart to be the same processes. Never corrects the one
//! by the other. Called by `processes`; `validity` asks for the judgement.

use crate::event::{CgroupAccounting, Observation, TrackerKind};
use crate::report::model;

/// What the kernel charges to the cgroup for the end of a process, and for a further thread, that is on no
/// process's own clock: measured 0.3–1.6 µs and some 7 µs on 6.18.
const OVERHEAD_PER_PROCESS_NS: u64 = 1_600;
const OVERHEAD_PER_THREAD_NS: u64 = 7_000;
/// Beyond the overhead, the two are to agree to this.
const AGREE_PERCENT: f64 = 1.0;
/// The set and the cgroup are not read in the same moment: less than a few ticks of the scheduler is no
/// difference.
const LEAST_GAP_NS: f64 = 2e6;

const NO_CGROUP: &str = "the target is a process tree, which no cgroup accounts by itself";
const NOT_READ: &str = "the cgroup's CPU time was not read";
const NO_CPU: &str = "the cgroup accounts no CPU time to compare with";

/// `descendants`: the set is more than the given pid.
pub(super) fn cpu(o: &Observation, descendants: bool) -> model::ProcessesCpu {
    let (exited, living) = (o.cpu_exited, o.cpu_living);
    let total = (exited.total() + living.total()).0;
    let accounting = o.accounting.as_ref();
    let cgroup = accounting.and_then(|a| a.cpu).map(|cpu| cpu.0);
    let reason = incomparable(accounting, cgroup);
    model::ProcessesCpu {
        user_ns: Some((exited.user + living.user).0),
        system_ns: Some((exited.system + living.system).0),
        total_ns: Some(total),
        error_ns: Some(o.cpu_error.0),
        error_reason: o.cpu_error_reason.clone(),
        lower_bound_reason: lower_bound(o, descendants),
        exited_ns: Some(exited.total().0),
        live_ns: Some(living.total().0),
        reaped_ns: o.cpu_unseen.map(|cpu| cpu.total().0),
        unlisted_ns: (o.tracker == TrackerKind::Ebpf || o.cpu_unseen.is_some())
            .then(|| o.cpu_unlisted.total().0),
        cgroup_ns: cgroup,
        cgroup_uncharged_ns: accounting.filter(|_| cgroup.is_some()).map(|a| a.cpu_uncharged_ns),
        cgroup_file: accounting.and_then(|a| a.cpu_file.clone()),
        cgroup_overhead_ns: cgroup.map(|_| overhead(o)),
        reconciliation_error_pct: cgroup
            .filter(|_| reason.is_none())
            .map(|cgroup| (total as f64 - cgroup as f64) / cgroup as f64 * 100.0),
        reconciliation_reason: reason,
    }
}

/// Why the set may have used more.
fn lower_bound(o: &Observation, descendants: bool) -> Option<String> {
    let ended = o.processes.iter().filter(|p| p.exited.is_some() && !p.cpu_is_final).count();
    let loss = &o.loss;
    if o.tracker == TrackerKind::Proc && descendants {
        return Some(
            "polling /proc has the last part of what ends, and what lives between two looks, only from parents that \
             waited for it"
                .to_owned(),
        );
    }
    if loss.unmarked > 0 {
        return Some(format!("{} processes could not be followed", loss.unmarked));
    }
    if loss.unreadable > 0 {
        return Some(format!("{} readings were refused by /proc or came too late", loss.unreadable));
    }
    (ended > 0).then(|| format!("of {ended} processes that ended the last part was not told"))
}

/// Why the two can't be compared.
fn incomparable(accounting: Option<&CgroupAccounting>, cgroup: Option<u64>) -> Option<String> {
    let Some(accounting) = accounting else { return Some(NO_CGROUP.to_owned()) };
    match (cgroup, &accounting.cpu_reason) {
        (_, Some(reason)) => Some(reason.clone()),
        (None, None) => Some(NOT_READ.to_owned()),
        (Some(0), None) => Some(NO_CPU.to_owned()),
        (Some(_), None) => None,
    }
}

fn overhead(o: &Observation) -> u64 {
    let processes = o.counts.exits.saturating_mul(OVERHEAD_PER_PROCESS_NS);
    processes.saturating_add(o.counts.threads.unwrap_or(0).saturating_mul(OVERHEAD_PER_THREAD_NS))
}

/// Which of the two has more than the other can explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The processes of the set have used more than the cgroup holds.
    SetHasMore,
    CgroupHasMore,
}

pub(super) fn mismatch(cpu: &model::ProcessesCpu) -> Option<Mismatch> {
    let comparable = cpu.reconciliation_error_pct.is_some();
    let (total, cgroup) = (cpu.total_ns? as f64, cpu.cgroup_ns.filter(|_| comparable)? as f64);
    let agree = (cgroup * AGREE_PERCENT / 100.0).max(LEAST_GAP_NS);
    if total - cgroup > agree {
        Some(Mismatch::SetHasMore)
    } else if cgroup - total > agree + cpu.cgroup_overhead_ns.unwrap_or(0) as f64 {
        Some(Mismatch::CgroupHasMore)
    } else {
        None
    }
}

/// Nothing was observed.
pub(super) fn unknown(why: &str) -> model::ProcessesCpu {
    model::ProcessesCpu {
        user_ns: None,
        system_ns: None,
        total_ns: None,
        error_ns: None,
        error_reason: None,
        lower_bound_reason: None,
        exited_ns: None,
        live_ns: None,
        reaped_ns: None,
        unlisted_ns: None,
        cgroup_ns: None,
        cgroup_uncharged_ns: None,
        cgroup_file: None,
        cgroup_overhead_ns: None,
        reconciliation_error_pct: None,
        reconciliation_reason: Some(why.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{ObservationBuilder, accounting};
    use crate::event::CpuTime;
    use crate::units::Nanos;

    fn cpu_of(o: &Observation) -> model::ProcessesCpu {
        cpu(o, true)
    }

    /// A set and its cgroup, in milliseconds.
    fn of(set: u64, cgroup: u64) -> Observation {
        let mut o = ObservationBuilder::new().build();
        o.cpu_living.user = Nanos::from_millis(set);
        o.accounting = Some(CgroupAccounting { cpu: Some(Nanos::from_millis(cgroup)), ..accounting() });
        o
    }

    #[test]
    fn the_dead_and_the_living_add_up_to_the_total() {
        let mut o = ObservationBuilder::new().build();
        o.cpu_exited = CpuTime { user: Nanos(5), system: Nanos(7) };
        o.cpu_living = CpuTime { user: Nanos(11), system: Nanos(13) };
        o.cpu_unlisted = CpuTime { user: Nanos(2), system: Nanos(1) };
        let cpu = cpu_of(&o);
        assert_eq!((cpu.user_ns, cpu.system_ns, cpu.total_ns), (Some(16), Some(20), Some(36)));
        assert_eq!((cpu.exited_ns, cpu.live_ns, cpu.unlisted_ns), (Some(12), Some(24), Some(3)));
    }

    #[test]
    fn polling_has_no_sum_beside_the_list() {
        let o = ObservationBuilder::new().proc_tracker("asked for").build();
        assert_eq!(cpu_of(&o).unlisted_ns, None);
    }

    #[test]
    fn the_difference_is_in_percent_of_the_cgroups_figure_and_has_a_sign() {
        let cpu = cpu_of(&of(1_980, 2_000));
        assert_eq!((cpu.cgroup_ns, cpu.reconciliation_error_pct), (Some(2_000_000_000), Some(-1.0)));
        assert_eq!(cpu.cgroup_file, accounting().cpu_file);
        assert_eq!((cpu.reconciliation_reason, cpu.cgroup_overhead_ns), (None, Some(0)));
    }

    #[test]
    fn what_cannot_be_compared_has_a_reason_and_no_percentage() {
        let tree = cpu_of(&ObservationBuilder::new().build());
        assert_eq!((tree.cgroup_ns, tree.reconciliation_error_pct), (None, None));
        assert_eq!(tree.reconciliation_reason.as_deref(), Some(NO_CGROUP));

        let with = |change: fn(&mut CgroupAccounting)| {
            let mut o = of(1_980, 2_000);
            change(o.accounting.as_mut().unwrap());
            let cpu = cpu_of(&o);
            assert_eq!((cpu.reconciliation_error_pct, mismatch(&cpu)), (None, None));
            (cpu.cgroup_ns, cpu.reconciliation_reason.unwrap())
        };
        let unread = with(|a| (a.cpu, a.cpu_reason) = (None, Some("no permission".into())));
        assert_eq!(unread, (None, "no permission".into()));
        assert_eq!(with(|a| a.cpu = None), (None, NOT_READ.into()));
        assert_eq!(with(|a| a.cpu = Some(Nanos(0))), (Some(0), NO_CPU.into()));
        // A figure of other processes is shown and not compared.
        let other = with(|a| a.cpu_reason = Some("its v1 directory holds others, too".into()));
        assert_eq!(other, (Some(2_000_000_000), "its v1 directory holds others, too".into()));
    }

    #[test]
    fn a_mismatch_is_more_than_a_percent_and_more_than_two_milliseconds() {
        let judged = |set, cgroup| mismatch(&cpu_of(&of(set, cgroup)));
        assert_eq!([judged(1_980, 2_000), judged(2_020, 2_000)], [None, None]);
        assert_eq!(judged(1_979, 2_000), Some(Mismatch::CgroupHasMore));
        assert_eq!(judged(2_021, 2_000), Some(Mismatch::SetHasMore));
        // Of so little, a percent is the time between two reads.
        assert_eq!([judged(8, 10), judged(7, 10)], [None, Some(Mismatch::CgroupHasMore)]);
    }

    #[test]
    fn what_the_kernel_charges_for_each_end_and_thread_is_no_mismatch() {
        let judged = |exits, threads| {
            let mut o = of(1_900, 2_000);
            (o.counts.exits, o.counts.threads) = (exits, threads);
            let cpu = cpu_of(&o);
            (cpu.cgroup_overhead_ns, mismatch(&cpu))
        };
        assert_eq!(judged(49_000, Some(0)), (Some(78_400_000), Some(Mismatch::CgroupHasMore)));
        assert_eq!(judged(51_000, Some(0)), (Some(81_600_000), None));
        assert_eq!(judged(0, Some(12_000)), (Some(84_000_000), None));
        assert_eq!(judged(51_000, None), (Some(81_600_000), None));
        // It explains more in the cgroup, never more in the set.
        let mut o = of(2_100, 2_000);
        o.counts.exits = 1_000_000;
        assert_eq!(mismatch(&cpu_of(&o)), Some(Mismatch::SetHasMore));
    }
}
