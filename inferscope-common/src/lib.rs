//! What the kernel program and user space share: the records in the ring, the constants patched
//! into the program before it is loaded, and the counters that it keeps.
//!
//! Owns the wire layout (`repr(C)`, fixed-width integers, explicit padding, sizes asserted here)
//! and nothing else. A `tgid` is a thread-group id of the tracer's own pid namespace, 0 where the
//! process is not visible there; a `host_tgid` is one of the initial namespace. Times are CLOCK_MONOTONIC
//! nanoseconds but for `start_boottime_ns` (CLOCK_BOOTTIME), which together with the host pid names a
//! process uniquely.

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
    pub const MOVE_IN: u32 = 6;
    pub const MOVE_OUT: u32 = 7;
    pub const OOM: u32 = 8;
    /// From the task iterator, not the ring.
    pub const TASK: u32 = 9;
}

/// What the task iterator does; see [`Control`].
pub mod mode {
    /// Nothing: the tracepoints have the set to themselves.
    pub const TRACK: u32 = 0;
    /// Finds the tracer itself and fills in [`super::Control`].
    pub const IDENTIFY: u32 = 1;
    /// Marks what belongs to the target and lives; the fork tracepoint helps meanwhile.
    pub const MARK: u32 = 2;
    /// Tells of every living member.
    pub const SWEEP: u32 = 3;
    /// The window is over: no further birth or end counts, only the final figures of those that ended.
    pub const CLOSED: u32 = 4;
    /// Counts the living members' execs of which no run of the program told.
    pub const EXECS: u32 = 5;
}

/// What a mark says of its group.
pub mod member {
    pub const NONE: u32 = 0;
    pub const INSIDE: u32 = 1;
    /// A member that was moved out of the target's cgroup.
    pub const OUTSIDE: u32 = 2;
}

/// How far a group's end has been told.
pub mod ending {
    /// What the kernel makes a mark of: nobody has filled it in.
    pub const UNMARKED: u64 = 0;
    pub const LIVES: u64 = 1;
    /// Its end is counted; the record and its CPU wait for the leader to leave the CPU for good.
    pub const PENDING: u64 = 2;
    /// The record is written with figures that may grow.
    pub const PROVISIONAL: u64 = 3;
    pub const FINAL: u64 = 4;
}

/// The start of each record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    pub kind: u32,
    pub tgid: u32,
    pub host_tgid: u32,
    pub _pad: u32,
    pub t_ns: u64,
    pub start_boottime_ns: u64,
}

/// CPU of a thread group since its birth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Run {
    /// What the scheduler has charged: all of it once a thread has left the CPU, up to the last tick while it runs.
    pub exec_ns: u64,
    /// Sampled by the tick; only the ratio of the two is meaningful (see `cputime_adjust`).
    pub utime_ns: u64,
    pub stime_ns: u64,
}

/// What a thread group used since its birth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Usage {
    pub run: Run,
    pub maxrss_pages: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// A process (not a thread) was born into the set.
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
    /// The kernel's peak of resident pages up to here: of the programs before, and of a parent's pages that
    /// a fork held until this exec. 2^32 - 1 where it is more.
    pub maxrss_pages: u32,
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
    /// Not zero: as wait(2) tells it. Else CPU is short by what the dying threads still use, and a
    /// [`UsageRecord`] follows.
    pub is_final: u32,
    pub _pad: u32,
    pub usage: Usage,
    /// What it had used before it came into the set.
    pub base: Run,
    /// Its last name: processes rename themselves without an exec.
    pub comm: [u8; COMM_LEN],
}

/// The figures of an ended member are final ([`kind::FREE`]), or it left the
/// target's cgroup ([`kind::MOVE_OUT`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct UsageRecord {
    pub header: Header,
    pub usage: Usage,
    pub base: Run,
    /// Where it went.
    pub cgroup_id: u64,
}

/// A member moved to another cgroup of the default (v2) hierarchy and stays one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MigrateRecord {
    pub header: Header,
    pub to_cgroup_id: u64,
    /// Not zero: it left the target's cgroup, and stays a member all the same.
    pub leaves: u32,
    pub _pad: u32,
}

/// [`kind::OOM`]: the kernel's OOM killer chose a member.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct OomRecord {
    pub header: Header,
}

/// A living member: from the iterator ([`kind::TASK`]), or it was moved into the target's cgroup
/// ([`kind::MOVE_IN`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TaskRecord {
    pub header: Header,
    /// Zero for a further thread of a group, which the iterator marked too.
    pub is_leader: u32,
    pub parent_tgid: u32,
    pub cgroup_id: u64,
    /// What it had used before it came into the set.
    pub base: Run,
    /// As of an [`ExecRecord`]: what came before its present program.
    pub maxrss_pages: u64,
    pub comm: [u8; COMM_LEN],
}

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
    /// Of all that ended or left: what they used while in the set, as far as it is known. Wraps: a
    /// provisional figure is added first, the rest when the final one is known.
    pub ended: Run,
    /// Records that found the ring full, by what they would have told.
    pub lost_forks: u64,
    pub lost_execs: u64,
    pub lost_exits: u64,
    pub lost_frees: u64,
    pub lost_others: u64,
    /// Tasks for which the kernel had no memory for a mark.
    pub unmarked: u64,
    /// Processes that were marked for a child before the iterator came to them.
    pub admitted: u64,
    /// Execs that no run of the program told of, by the task's own count of them. Wraps: one that is counted between
    /// the task's count and the program's run is taken out again by that.
    pub late_execs: u64,
}

/// The mark that makes a task a member. It lives in the task's own storage: it ends with the task
/// and is immune to pid reuse. The leader's counts for its group; those of further threads are there
/// for the day on which one of them takes the leader's place by an exec.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Mark {
    /// One of [`ending`]'s; of a thread that does not lead its group one of the first two.
    pub ending: u64,
    /// The task's count of its execs (`self_exec_id`, and what it inherited) up to which they are accounted for.
    pub exec_id: u64,
    /// That count at the last exec that a run of the program told of.
    pub told_exec_id: u32,
    /// One of [`member`]'s.
    pub member: u32,
    /// The leader's: most threads that the group had when one was created.
    pub peak_threads: u32,
    /// The group's id in the tracer's pid namespace: a freed task can't be asked any more.
    pub tgid: u32,
    /// What the group had used before it came into the set.
    pub base: Run,
    /// The leader's: its group's figure that was added to [`Totals::ended`].
    pub told: Run,
    /// The leader's, while its end is [`ending::PENDING`]: when it was.
    pub ended_ns: u64,
}

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
    /// Of the looker's own entry, the last one: when the look began.
    pub t_ns: u64,
}

/// What user space decides before loading.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Settings {
    /// Thread-group ids, of the tracer's namespace, that begin the tree; 0 ends the list.
    pub roots: [u32; MAX_ROOTS],
    /// The target's cgroup; 0 where it is a tree.
    pub cgroup_id: u64,
    /// What is moved out of the cgroup is left, and what a member forks elsewhere is none.
    pub strict: u32,
    /// Bytes waiting in the ring from which a record wakes the reader.
    pub wake_at_bytes: u32,
    /// `sched_process_exit` has the argument `group_dead` (Linux 6.17 and later).
    pub exit_tells_group_dead: u32,
    /// CPUs that [`OnCpu`] is told of; the entry after them is the looker's own.
    pub cpus: u32,
}

/// What changes while the program runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Control {
    /// See [`mode`].
    pub mode: u32,
    /// The tracer's own thread group in the initial pid namespace: never a member, nor is what it forks.
    pub own_host_tgid: u32,
    /// Depth of the tracer's pid namespace; 0 is the initial one.
    pub ns_level: u32,
    /// That namespace's inode number.
    pub ns_inode: u32,
    /// Depth of the tracer's own cgroup below the root of the v2 hierarchy.
    pub own_cgroup_level: u32,
    /// Depth of the target's cgroup, set by user space.
    pub cgroup_level: u32,
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
    pub task_thread_node: u32,
    pub task_thread_pid: u32,
    /// `__state`, before 5.14 `state`.
    pub task_state: u32,
    /// 0 where there is none.
    pub task_self_exec_id: u32,
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
    pub signal_thread_head: u32,
    pub signal_stats_seq: u32,
    pub css_set_dfl_cgrp: u32,
    pub cgroup_kn: u32,
    pub cgroup_level: u32,
    /// Of the cgroups from the root down: pointers, since 6.1; else 0.
    pub cgroup_ancestors: u32,
    /// The same before, where there were only their ids; else 0.
    pub cgroup_ancestor_ids: u32,
    pub kernfs_node_id: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub binprm_filename: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
    pub upid_nr: u32,
    pub upid_ns: u32,
    pub upid_size: u32,
    pub pid_namespace_inum: u32,
    // From here on only for [`OnCpu`]: a kernel without them has none.
    pub task_exec_start: u32,
    pub task_sched_task_group: u32,
    pub task_group_cfs_rq: u32,
    pub cfs_rq_rq: u32,
    pub rq_curr: u32,
    pub rq_clock: u32,
    pub rq_clock_task: u32,
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
        task_thread_node: 0,
        task_thread_pid: 0,
        task_state: 0,
        task_self_exec_id: 0,
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
        signal_thread_head: 0,
        signal_stats_seq: 0,
        css_set_dfl_cgrp: 0,
        cgroup_kn: 0,
        cgroup_level: 0,
        cgroup_ancestors: 0,
        cgroup_ancestor_ids: 0,
        kernfs_node_id: 0,
        mm_arg_start: 0,
        mm_arg_end: 0,
        binprm_filename: 0,
        pid_level: 0,
        pid_numbers: 0,
        upid_nr: 0,
        upid_ns: 0,
        upid_size: 0,
        pid_namespace_inum: 0,
        task_exec_start: 0,
        task_sched_task_group: 0,
        task_group_cfs_rq: 0,
        cfs_rq_rq: 0,
        rq_curr: 0,
        rq_clock: 0,
        rq_clock_task: 0,
    };
}

const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<Run>() == 24);
    assert!(size_of::<Usage>() == 64);
    assert!(size_of::<ForkRecord>() == 64);
    assert!(size_of::<ExecRecord>() == 440);
    assert!(size_of::<ExitRecord>() == 152);
    assert!(size_of::<UsageRecord>() == 128);
    assert!(size_of::<MigrateRecord>() == 48);
    assert!(size_of::<OomRecord>() == 32);
    assert!(size_of::<TaskRecord>() == 96);
    assert!(size_of::<Totals>() == 152);
    assert!(size_of::<Mark>() == 88);
    assert!(size_of::<OnCpu>() == 48);
    assert!(size_of::<Settings>() == 88);
    assert!(size_of::<Control>() == 24);
    assert!(core::mem::offset_of!(ExecRecord, exe) == 56);
    assert!(core::mem::offset_of!(ExecRecord, argv) == 184);
    assert!(core::mem::offset_of!(ExitRecord, usage) == 48);
};
