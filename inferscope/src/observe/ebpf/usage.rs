//! What a thread group used, in the report's units.
//!
//! Pure. Owns the split of its run time into user and system. Used by the events' decoders and by those who read /proc.

use inferscope_common::{Run, Usage};

use crate::event::CpuTime;
use crate::units::{Nanos, pages_to_bytes};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GroupUsage {
    pub(crate) cpu: CpuTime,
    /// As the kernel keeps it.
    pub(crate) run: Run,
    pub(crate) max_rss_bytes: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

impl GroupUsage {
    pub(super) fn new(u: &Usage, page_bytes: u64) -> Self {
        Self {
            cpu: cpu_of(u.run),
            run: u.run,
            max_rss_bytes: pages_to_bytes(u.maxrss_pages, page_bytes),
            minor_faults: u.minor_faults,
            major_faults: u.major_faults,
            voluntary_switches: u.voluntary_switches,
            involuntary_switches: u.involuntary_switches,
        }
    }
}

pub(crate) fn cpu_of(run: Run) -> CpuTime {
    cputime_adjust(run.utime_ns, run.stime_ns, run.exec_ns)
}

/// Splits the exact run time by the ratio of the tick-sampled user and system times, as the kernel
/// does for wait4 and /proc (kernel/sched/cputime.c, `cputime_adjust`).
pub(crate) fn cputime_adjust(utime: u64, stime: u64, rtime: u64) -> CpuTime {
    let system = if stime == 0 {
        0
    } else if utime == 0 {
        rtime
    } else {
        let sampled = u128::from(stime) + u128::from(utime);
        // At most `rtime`.
        u64::try_from(u128::from(stime) * u128::from(rtime) / sampled).unwrap_or(rtime)
    };
    CpuTime { user: Nanos(rtime - system), system: Nanos(system) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn user_and_system_add_up_to_the_exact_run_time() {
        let cpu = cputime_adjust(3, 1, 1_000);
        assert_eq!((cpu.user, cpu.system), (Nanos(750), Nanos(250)));
        assert_eq!(cputime_adjust(0, 0, 42).user, Nanos(42));
        assert_eq!(cputime_adjust(0, 5, 42).system, Nanos(42));
    }

    proptest! {
        #[test]
        fn the_split_never_exceeds_the_whole(u: u64, s: u64, r: u64) {
            let cpu = cputime_adjust(u, s, r);
            prop_assert_eq!(u128::from(cpu.user.0) + u128::from(cpu.system.0), u128::from(r));
        }
    }
}
