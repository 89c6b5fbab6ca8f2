//! What runs on each CPU at one moment.

use bytemuck::{Pod, Zeroable};

/// One CPU at one moment: which thread runs there, and up to when its run time is charged to it. The scheduler
/// charges a running thread at its tick and when it leaves the CPU, so that `se.sum_exec_runtime`, and every clock and
/// file that is made of it, is late by the time since `charged_at`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OnCpu {
    /// The CPU's `struct rq`, which the program remembers from its first look.
    pub queue: u64,
    /// `se.exec_start`: on the CPU's task clock.
    pub charged_at: u64,
    /// By how much that clock is behind the scheduler's: the time of interrupts and of the hypervisor.
    pub behind: u64,
    /// The group's, with `host_tgid` its id.
    pub start_boottime_ns: u64,
    /// The thread in the initial pid namespace; 0 where the CPU is idle, or changed hands during the look.
    pub host_tid: u32,
    pub host_tgid: u32,
    /// When the look began; only in the looker's own entry, the last one.
    pub t_ns: u64,
}

const _: () = assert!(size_of::<OnCpu>() == 48);
