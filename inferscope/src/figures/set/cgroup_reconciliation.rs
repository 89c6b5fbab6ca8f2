//! The set's CPU time, against what the kernel accounts to its cgroup.
//!
//! Owns the sums, the comparison, and when the two are too far apart to be the same processes. Never corrects the one by the
//! other. A part of `set`; `verdict` asks for the judgement.

use crate::event::{CgroupAccounting, CpuTime, Observation, TrackerKind};
use crate::reason::SetReason;
use crate::units::Nanos;

/// What the kernel charges to the cgroup for the end of a process, and for a further thread, that is on no
/// process's own clock: measured 0.3–1.6 µs and some 7 µs on 6.18.
const OVERHEAD_PER_PROCESS_NS: u64 = 1_600;
const OVERHEAD_PER_THREAD_NS: u64 = 7_000;
/// Beyond the overhead, the two are to agree to this.
const AGREE_PERCENT: f64 = 1.0;
/// The set and the cgroup are not read in the same moment: less than a few ticks of the scheduler is no
/// difference.
const LEAST_GAP_NS: f64 = 2e6;

/// CPU of the set within the window.
#[derive(Debug, Clone)]
pub(crate) struct SetCpu<'a> {
    pub(crate) used: CpuTime,
    /// By processes that ended.
    pub(crate) exited: Nanos,
    pub(crate) living: Nanos,
    /// How far off `used` may be.
    pub(crate) error: Nanos,
    pub(crate) error_reason: Option<&'a str>,
    /// Why the set may have used more.
    pub(crate) lower_bound: Option<SetReason>,
    /// The part of `exited` that only parents that waited tell of.
    pub(crate) reaped: Option<Nanos>,
    /// In no line of the list; `None` where there is no sum beside the list.
    pub(crate) unlisted: Option<Nanos>,
    pub(crate) cgroup: Option<CgroupCpu>,
    pub(crate) cgroup_file: Option<&'a str>,
    /// By how much of the cgroup's figure `used` is above it.
    pub(crate) apart: Result<f64, SetReason>,
}

/// What the kernel accounts to the target's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CgroupCpu {
    pub(crate) used: Nanos,
    /// The part of it, perhaps negative, that its file did not hold yet at the ends.
    pub(crate) uncharged_ns: i64,
    /// What it may hold beyond the processes' own figures.
    pub(crate) overhead: Nanos,
}

impl<'a> SetCpu<'a> {
    /// `descendants`: the set is more than the given pid.
    pub(super) fn of(o: &'a Observation, descendants: bool) -> Self {
        let (exited, living) = (o.cpu_exited, o.cpu_living);
        let used = CpuTime { user: exited.user + living.user, system: exited.system + living.system };
        let accounting = o.accounting.as_ref();
        let cgroup = accounting.and_then(|a| {
            Some(CgroupCpu { used: a.cpu?, uncharged_ns: a.cpu_uncharged_ns, overhead: overhead(o) })
        });
        let tells_unlisted = o.tracker == TrackerKind::Ebpf || o.cpu_unseen.is_some();
        Self {
            used,
            exited: exited.total(),
            living: living.total(),
            error: o.cpu_error,
            error_reason: o.cpu_error_reason.as_deref(),
            lower_bound: lower_bound(o, descendants),
            reaped: o.cpu_unseen.map(CpuTime::total),
            unlisted: tells_unlisted.then(|| o.cpu_unlisted.total()),
            cgroup,
            cgroup_file: accounting.and_then(|a| a.cpu_file.as_deref()),
            apart: comparable(accounting).map(|cgroup| {
                let (used, cgroup) = (used.total().0 as f64, cgroup.0 as f64);
                (used - cgroup) / cgroup
            }),
        }
    }

    /// Whether one of the two has more than the other can explain; `None` where they agree or can't be compared.
    pub(crate) fn mismatch(&self) -> Option<Mismatch> {
        self.apart.as_ref().ok()?;
        let cgroup = self.cgroup?;
        let (used, of_cgroup) = (self.used.total().0 as f64, cgroup.used.0 as f64);
        let agree = (of_cgroup * AGREE_PERCENT / 100.0).max(LEAST_GAP_NS);
        if used - of_cgroup > agree {
            Some(Mismatch::SetHasMore)
        } else if of_cgroup - used > agree + cgroup.overhead.0 as f64 {
            Some(Mismatch::CgroupHasMore)
        } else {
            None
        }
    }
}

/// Which of the two has more than the other can explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// The processes of the set have used more than the cgroup holds.
    SetHasMore,
    CgroupHasMore,
}

/// Why the set may have used more.
fn lower_bound(o: &Observation, descendants: bool) -> Option<SetReason> {
    let processes = o.processes.iter().filter(|p| p.exited.is_some() && !p.cpu_is_final).count();
    let loss = &o.loss;
    if o.tracker == TrackerKind::Proc && descendants {
        return Some(SetReason::PolledCpu);
    }
    if loss.unmarked > 0 {
        return Some(SetReason::Unmarked { processes: loss.unmarked });
    }
    if loss.unreadable > 0 {
        return Some(SetReason::Unreadable { readings: loss.unreadable });
    }
    (processes > 0).then_some(SetReason::NotFinal { processes })
}

/// The cgroup's figure, where it is of the same processes and not nothing.
fn comparable(accounting: Option<&CgroupAccounting>) -> Result<Nanos, SetReason> {
    let accounting = accounting.ok_or(SetReason::NoCgroup)?;
    match (accounting.cpu, &accounting.cpu_reason) {
        (_, Some(reason)) => Err(SetReason::Observed(reason.clone())),
        (None, None) => Err(SetReason::CgroupCpuNotRead),
        (Some(Nanos(0)), None) => Err(SetReason::NoCgroupCpu),
        (Some(cpu), None) => Ok(cpu),
    }
}

fn overhead(o: &Observation) -> Nanos {
    let processes = o.counts.exits.saturating_mul(OVERHEAD_PER_PROCESS_NS);
    Nanos(processes.saturating_add(o.counts.threads.unwrap_or(0).saturating_mul(OVERHEAD_PER_THREAD_NS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ObservationBuilder, accounting};

    fn cpu_of(o: &Observation) -> SetCpu<'_> {
        SetCpu::of(o, true)
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
        assert_eq!(cpu.used, CpuTime { user: Nanos(16), system: Nanos(20) });
        assert_eq!((cpu.exited, cpu.living, cpu.unlisted), (Nanos(12), Nanos(24), Some(Nanos(3))));
    }

    #[test]
    fn polling_has_no_sum_beside_the_list() {
        let o = ObservationBuilder::new().proc_tracker("asked for").build();
        assert_eq!(cpu_of(&o).unlisted, None);
    }

    #[test]
    fn the_difference_is_a_part_of_the_cgroups_figure_and_has_a_sign() {
        let o = of(1_980, 2_000);
        let cpu = cpu_of(&o);
        assert_eq!(cpu.apart, Ok(-0.01));
        assert_eq!(cpu.cgroup_file, accounting().cpu_file.as_deref());
        let cgroup = CgroupCpu { used: Nanos::from_millis(2_000), uncharged_ns: 0, overhead: Nanos::ZERO };
        assert_eq!(cpu.cgroup, Some(cgroup));
    }

    #[test]
    fn what_cannot_be_compared_has_a_reason_and_no_percentage() {
        let tree = ObservationBuilder::new().build();
        assert_eq!((cpu_of(&tree).cgroup, cpu_of(&tree).apart), (None, Err(SetReason::NoCgroup)));

        let with = |change: fn(&mut CgroupAccounting)| {
            let mut o = of(1_980, 2_000);
            change(o.accounting.as_mut().unwrap());
            let cpu = cpu_of(&o);
            assert_eq!(cpu.mismatch(), None);
            (cpu.cgroup.map(|c| c.used.0), cpu.apart.unwrap_err())
        };
        let unread = with(|a| (a.cpu, a.cpu_reason) = (None, Some("no permission".into())));
        assert_eq!(unread, (None, SetReason::Observed("no permission".into())));
        assert_eq!(with(|a| a.cpu = None), (None, SetReason::CgroupCpuNotRead));
        assert_eq!(with(|a| a.cpu = Some(Nanos(0))), (Some(0), SetReason::NoCgroupCpu));
        // A figure of other processes is shown and not compared.
        let other = with(|a| a.cpu_reason = Some("its v1 directory holds others, too".into()));
        let why = SetReason::Observed("its v1 directory holds others, too".into());
        assert_eq!(other, (Some(2_000_000_000), why));
    }

    #[test]
    fn a_mismatch_is_more_than_a_percent_and_more_than_two_milliseconds() {
        let judged = |set, cgroup| cpu_of(&of(set, cgroup)).mismatch();
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
            (cpu.cgroup.map(|c| c.overhead.0), cpu.mismatch())
        };
        assert_eq!(judged(49_000, Some(0)), (Some(78_400_000), Some(Mismatch::CgroupHasMore)));
        assert_eq!(judged(51_000, Some(0)), (Some(81_600_000), None));
        assert_eq!(judged(0, Some(12_000)), (Some(84_000_000), None));
        assert_eq!(judged(51_000, None), (Some(81_600_000), None));
        // It explains more in the cgroup, never more in the set.
        let mut o = of(2_100, 2_000);
        o.counts.exits = 1_000_000;
        assert_eq!(cpu_of(&o).mismatch(), Some(Mismatch::SetHasMore));
    }
}
