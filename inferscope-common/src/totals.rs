//! Counters that the kernel program keeps per CPU.

use bytemuck::{Pod, Zeroable};

use crate::Run;

/// Counters that the kernel program keeps per CPU, so that a lost record changes no count and no sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Totals {
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
    pub threads: u64,
    pub frees: u64,
    pub moved_in: u64,
    pub moved_out: u64,
    pub ooms: u64,
    /// What all that ended or left used while in the set, as far as it is known. Wraps: a
    /// provisional figure is added first, the rest when the final one is known.
    pub ended: Run,
    /// Records that found the ring full, by event.
    pub lost_forks: u64,
    pub lost_execs: u64,
    pub lost_exits: u64,
    pub lost_frees: u64,
    pub lost_others: u64,
    /// Tasks for which the kernel had no memory for a mark.
    pub unmarked: u64,
    /// Processes that were marked for a child before the iterator came to them.
    pub admitted: u64,
    /// Execs for which the program did not run, by the task's own count of them. Wraps: one that is counted between
    /// the task's count and the program's run is taken out again by that.
    pub late_execs: u64,
}

const _: () = assert!(size_of::<Totals>() == 152);
