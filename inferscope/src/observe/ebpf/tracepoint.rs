//! A tracepoint that has a program, and the program's runs that the kernel skipped.
//!
//! A program is not run on a CPU where it is running already; from Linux 7.0 on a tracepoint's can be preempted, and
//! what comes next on that CPU is skipped without a word. The kernel counts it for each program (`recursion_misses`,
//! Linux 5.12). Pure, the counts are handed in; draws no conclusion (`event::Loss` does). Each event's module has its
//! tracepoints, and `event` the list of all. Used by the tracker.

use super::kernel::{ForkHook, Hooks};
use crate::event::MissedRuns;

#[derive(Debug, Clone, Copy)]
pub(super) struct Tracepoint {
    /// Its name in the object.
    pub(super) program: &'static str,
    pub(super) at: &'static str,
    pub(super) stage: Stage,
    /// How often more it is attached where the kernel skips runs: one reports what another was skipped for.
    pub(super) spares: usize,
    pub(super) is_used: fn(&Kernel) -> bool,
    /// Where a run that the kernel skipped is counted.
    pub(super) missed: fn(&mut MissedRuns) -> &mut u64,
}

/// Until when it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Processes come and change: until the window's end.
    Births,
    /// They end: until the figures are final.
    Deaths,
}

/// What this kernel's tracepoints are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    pub(super) hooks: Hooks,
    /// `mark_victim` has the task (6.9 and later).
    pub(super) oom_has_task: bool,
}

impl Kernel {
    pub(super) fn forks_at(&self, hook: ForkHook) -> bool {
        self.hooks.fork == hook
    }
}

/// The sum over all programs, by event; `None` where the kernel did not answer for each of them.
pub(super) fn missed_runs<'a, P: 'a>(
    programs: impl IntoIterator<Item = &'a (&'static Tracepoint, P)>,
    mut misses: impl FnMut(&'static Tracepoint, &P) -> Option<u64>,
) -> Option<MissedRuns> {
    let mut sum = MissedRuns::default();
    for (tracepoint, program) in programs {
        let of = (tracepoint.missed)(&mut sum);
        *of = of.saturating_add(misses(tracepoint, program)?);
    }
    Some(sum)
}
