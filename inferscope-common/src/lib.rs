//! What the kernel program and user space share: the records in the ring, the constants patched
//! into the program before it is loaded, and the counters that it keeps.
//!
//! Owns the wire layout (`repr(C)`, fixed-width integers, explicit padding, sizes asserted here)
//! and nothing else. Pids are thread-group ids of the initial pid namespace; times are
//! CLOCK_MONOTONIC nanoseconds but for `start_boottime_ns` (CLOCK_BOOTTIME), which together with the
//! pid names a process uniquely.

#![no_std]

use bytemuck::{Pod, Zeroable};

/// `TASK_COMM_LEN` (include/linux/sched.h).
pub const COMM_LEN: usize = 16;
/// Bytes of an executed file's name that a record holds; a longer one is cut.
pub const EXE_LEN: usize = 128;
/// Bytes of a command line that a record holds; a longer one is cut.
pub const ARGV_LEN: usize = 256;
/// Roots that one run can watch.
pub const MAX_ROOTS: usize = 16;

/// The first word of a record.
pub mod kind {
    pub const FORK: u32 = 1;
    pub const EXEC: u32 = 2;
    pub const EXIT: u32 = 3;
    pub const FREE: u32 = 4;
    pub const MIGRATE: u32 = 5;
    /// From the task iterator, not the ring.
    pub const TASK: u32 = 6;
}

/// The start of each record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    pub kind: u32,
    pub tgid: u32,
    pub t_ns: u64,
    pub start_boottime_ns: u64,
}

/// What a thread group used, as its `signal_struct` keeps it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Usage {
    /// Sampled by the tick; only the ratio of the two is meaningful (see `cputime_adjust`).
    pub utime_ns: u64,
    pub stime_ns: u64,
    /// Exact.
    pub sum_exec_ns: u64,
    pub maxrss_pages: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// A member forked a process (not a thread).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ForkRecord {
    pub header: Header,
    pub parent_tgid: u32,
    pub _pad: u32,
    pub cgroup_id: u64,
    pub comm: [u8; COMM_LEN],
}

/// A member's exec succeeded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ExecRecord {
    pub header: Header,
    /// Length of the whole command line, of which `argv` holds the start.
    pub argv_len: u32,
    pub _pad: u32,
    pub comm: [u8; COMM_LEN],
    /// NUL-terminated unless cut.
    pub exe: [u8; EXE_LEN],
    /// NUL-separated.
    pub argv: [u8; ARGV_LEN],
}

/// The last thread of a member ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ExitRecord {
    pub header: Header,
    /// As wait(2) reports it.
    pub status: u32,
    pub peak_threads: u32,
    /// CPU is short by what the dying threads still use; the final figure is in [`FreeRecord`].
    pub usage: Usage,
}

/// A member was reaped and its task freed: its figures are final.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct FreeRecord {
    pub header: Header,
    pub usage: Usage,
}

/// A member moved to another cgroup of the default (v2) hierarchy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MigrateRecord {
    pub header: Header,
    pub to_cgroup_id: u64,
}

/// The iterator marked a living task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TaskRecord {
    pub header: Header,
    /// The thread; equal to `header.tgid` for the leader, which stands for the process.
    pub tid: u32,
    pub parent_tgid: u32,
    pub cgroup_id: u64,
    pub comm: [u8; COMM_LEN],
}

/// Counters that the kernel program keeps per CPU, so that a lost record changes no count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Totals {
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
    pub threads: u64,
    pub frees: u64,
    /// Σ `sum_exec_ns` of the freed, from their birth.
    pub freed_exec_ns: u64,
    /// Records that found the ring full.
    pub ring_full: u64,
    /// Tasks for which the kernel had no memory for a mark.
    pub unmarked: u64,
}

/// The mark that makes a task a member. It lives in the task's own storage: it ends with the task
/// and is immune to pid reuse and to the pid swap of a non-leader's exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Mark {
    pub member: u32,
    /// The leader's: its group's end was counted.
    pub exited: u32,
    /// The leader's: most threads that the group had when one was created.
    pub peak_threads: u32,
    pub _pad: u32,
}

/// What user space decides, patched in before loading.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Settings {
    /// Thread-group ids that begin the tree; 0 ends the list.
    pub roots: [u32; MAX_ROOTS],
    /// The tracer's own thread group: never a member, nor is what it starts.
    pub own_tgid: u32,
    pub _pad: u32,
    /// Bytes waiting in the ring from which a record wakes the reader.
    pub wake_at_bytes: u32,
    /// `sched_process_exit` has the argument `group_dead` (Linux 6.17 and later).
    pub exit_tells_group_dead: u32,
}

/// Byte offsets of the fields that the kernel program reads, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Layout {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_comm: u32,
    pub task_group_leader: u32,
    pub task_real_parent: u32,
    pub task_start_boottime: u32,
    pub task_signal: u32,
    pub task_mm: u32,
    pub task_cgroups: u32,
    pub task_exit_code: u32,
    pub task_utime: u32,
    pub task_stime: u32,
    pub task_sum_exec_runtime: u32,
    pub task_nvcsw: u32,
    pub task_nivcsw: u32,
    pub task_min_flt: u32,
    pub task_maj_flt: u32,
    pub signal_live: u32,
    pub signal_nr_threads: u32,
    pub signal_flags: u32,
    pub signal_group_exit_code: u32,
    pub signal_utime: u32,
    pub signal_stime: u32,
    pub signal_sum_sched_runtime: u32,
    pub signal_maxrss: u32,
    pub signal_min_flt: u32,
    pub signal_maj_flt: u32,
    pub signal_nvcsw: u32,
    pub signal_nivcsw: u32,
    pub css_set_dfl_cgrp: u32,
    pub cgroup_kn: u32,
    pub kernfs_node_id: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub binprm_filename: u32,
}

impl Layout {
    /// What stands in the program until user space patches it.
    pub const PLACEHOLDER: Self = Self {
        task_pid: 0,
        task_tgid: 0,
        task_comm: 0,
        task_group_leader: 0,
        task_real_parent: 0,
        task_start_boottime: 0,
        task_signal: 0,
        task_mm: 0,
        task_cgroups: 0,
        task_exit_code: 0,
        task_utime: 0,
        task_stime: 0,
        task_sum_exec_runtime: 0,
        task_nvcsw: 0,
        task_nivcsw: 0,
        task_min_flt: 0,
        task_maj_flt: 0,
        signal_live: 0,
        signal_nr_threads: 0,
        signal_flags: 0,
        signal_group_exit_code: 0,
        signal_utime: 0,
        signal_stime: 0,
        signal_sum_sched_runtime: 0,
        signal_maxrss: 0,
        signal_min_flt: 0,
        signal_maj_flt: 0,
        signal_nvcsw: 0,
        signal_nivcsw: 0,
        css_set_dfl_cgrp: 0,
        cgroup_kn: 0,
        kernfs_node_id: 0,
        mm_arg_start: 0,
        mm_arg_end: 0,
        binprm_filename: 0,
    };
}

const _: () = {
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<Usage>() == 64);
    assert!(size_of::<ForkRecord>() == 56);
    assert!(size_of::<ExecRecord>() == 432);
    assert!(size_of::<ExitRecord>() == 96);
    assert!(size_of::<FreeRecord>() == 88);
    assert!(size_of::<MigrateRecord>() == 32);
    assert!(size_of::<TaskRecord>() == 56);
    assert!(size_of::<Totals>() == 64);
    assert!(size_of::<Mark>() == 16);
    assert!(size_of::<Settings>() == 80);
    assert!(core::mem::offset_of!(ExecRecord, exe) == 48);
    assert!(core::mem::offset_of!(ExecRecord, argv) == 176);
    assert!(core::mem::offset_of!(ExitRecord, usage) == 32);
};
