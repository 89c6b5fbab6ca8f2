//! The kernel program: keeps the tracked set and tells user space what happens to it.
//!
//! Owns membership (a mark in each member task's own storage), the events of members and their
//! counters. A child is marked in the tracepoint that fires before it first runs, so no descendant
//! can escape; whoever reparents it later does not matter. Never filters by name, never follows
//! anything outside the set. Loaded by `inferscope::observe::ebpf`; `inferscope-common` has the layouts.
//!
//! Field offsets come from the running kernel's BTF (`LAYOUT`), since Rust has no CO-RE. Loads go
//! through the verifier's typed pointers at those constant offsets.

#![no_std]
#![no_main]

mod emit;
mod members;
mod on_cpu;
mod snapshot;
mod task;
mod usage;

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes, bpf_probe_read_user_buf},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use inferscope_common::{
    ARGV_LEN, ExecRecord, ExitRecord, ForkRecord, Layout, MAX_ROOTS, Mark, MigrateRecord, OomRecord, Run,
    Settings, TaskRecord, Totals, Usage, UsageRecord, ending, kind, member, mode,
};

use crate::task::{Signal, Task};

/// Patched before loading.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout::PLACEHOLDER;
/// Patched before loading.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    roots: [0; MAX_ROOTS],
    cgroup_id: 0,
    strict: 0,
    wake_at_bytes: 0,
    exit_tells_group_dead: 0,
    switch_tells_state: 0,
    cpus: 0,
    _pad: 0,
};

const NOTHING: Run = Run { exec_ns: 0, utime_ns: 0, stime_ns: 0 };

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: after the child is
/// visible and in its cgroup, before it runs. Fires for threads too.
#[btf_tracepoint(function = "sched_process_fork")]
fn on_fork(ctx: BtfTracePointContext) -> i32 {
    let parent = Task::new(ctx.arg(0));
    let child = Task::new(ctx.arg(1));
    let group = members::of_group(parent);
    if child.tgid() == parent.tgid() {
        if let Some(group) = group {
            let copy = *group;
            // During the snapshot a group may get a thread before it is marked: then the iterator sees it.
            if members::mark_thread(child, &copy) {
                members::count(|t| t.threads += 1);
                members::note_threads(group, child.signal().nr_threads());
            }
        }
        return 0;
    }
    let known = group.is_some() || admit(parent);
    let by_lineage = settings!(strict) == 0 && known;
    // The child's own cgroup, as clone3 may put it into another than its parent's.
    if !by_lineage
        && (!members::is_in_target_cgroup(child) || parent.tgid() == members::control().own_host_tgid)
    {
        return 0;
    }
    let Some(mark) = members::mark_group(child, 1, NOTHING) else { return 0 };
    let tgid = mark.tgid;
    members::count(|t| t.forks += 1);
    emit::record::<ForkRecord>(
        |t| t.lost_forks += 1,
        |record| {
            emit::header(record, kind::FORK, child, tgid);
            let parent_tgid = members::visible_tgid(parent);
            // SAFETY: `record` is a reserved ring entry of that size.
            unsafe { (*record).parent_tgid = parent_tgid };
            // SAFETY: as above.
            unsafe { (*record)._pad = 0 };
            // SAFETY: as above.
            unsafe { (*record).cgroup_id = child.cgroup_id() };
            emit::comm(record_field!(record, comm), child);
        },
    );
    0
}

/// Makes the parent a member where it belongs and the iterator has not come to it yet: it may end before that, and
/// its child would have a parent that nobody knows. Whether it is one.
#[inline(always)]
fn admit(parent: Task) -> bool {
    if !snapshot::belongs(parent) {
        return false;
    }
    let leader = parent.group_leader();
    let signal = parent.signal();
    let used = signal.group_usage(parent).run;
    if let Some(mark) = members::mark_group(leader, signal.nr_threads(), used) {
        members::count(|t| t.admitted += 1);
        tell_arrival(kind::TASK, leader, mark.tgid, used, leader.cgroup_id());
    }
    // Without memory for its mark it has the right to children all the same.
    true
}

/// A process that lived before it came into the set.
#[inline(always)]
fn tell_arrival(kind: u32, leader: Task, tgid: u32, base: Run, cgroup_id: u64) {
    emit::record::<TaskRecord>(
        |t| t.lost_others += 1,
        |record| {
            emit::header(record, kind, leader, tgid);
            let parent_tgid = members::visible_tgid(leader.real_parent());
            // SAFETY: `record` is a reserved ring entry of that size.
            unsafe { (*record).is_leader = 1 };
            // SAFETY: as above.
            unsafe { (*record).parent_tgid = parent_tgid };
            // SAFETY: as above.
            unsafe { (*record).cgroup_id = cgroup_id };
            // SAFETY: as above.
            unsafe { (*record).base = base };
            // SAFETY: as above.
            unsafe { (*record).maxrss_pages = leader.signal().maxrss() };
            emit::comm(record_field!(record, comm), leader);
        },
    );
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: the new
/// program is in place; `p` is the group's leader by now, whichever thread called exec.
#[btf_tracepoint(function = "sched_process_exec")]
fn on_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    let Some(mark) = members::of_group(task) else {
        // A thread that took its leader's place before the iterator had marked it: the group is lost.
        if ctx.arg::<u32>(1) != task.pid() && members::is_in_target_cgroup(task) {
            members::count(|t| t.unmarked += 1);
        }
        return 0;
    };
    let tgid = mark.tgid;
    members::count(|t| t.execs += 1);
    let bprm: *const u8 = ctx.arg(2);
    emit::record::<ExecRecord>(
        |t| t.lost_execs += 1,
        |record| {
            emit::header(record, kind::EXEC, task, tgid);
            emit::comm(record_field!(record, comm), task);
            // SAFETY: `record` is a reserved ring entry of that size.
            let exe = unsafe { &mut (*record).exe };
            exe[0] = 0;
            let filename = task::read_ptr(bprm, layout!(binprm_filename));
            // SAFETY: the helper checks the address; a failure leaves the empty string.
            let _ = unsafe { bpf_probe_read_kernel_str_bytes(filename, exe) };
            let (start, len) = task.argv();
            // SAFETY: as above.
            unsafe { (*record).argv_len = len as u32 };
            let pages = task.signal().maxrss();
            let pages = if pages > u64::from(u32::MAX) { u32::MAX } else { pages as u32 };
            // SAFETY: as above.
            unsafe { (*record).maxrss_pages = pages };
            // SAFETY: as above.
            let argv = unsafe { &mut (*record).argv };
            // The verifier wants one constant bound, so the length is cut to the buffer first.
            let part = if len > ARGV_LEN as u64 { ARGV_LEN } else { len as usize };
            // SAFETY: the slice is within the entry; the helper checks the user address. The bytes
            // beyond it are not read by user space, which knows the length.
            let read = unsafe {
                bpf_probe_read_user_buf(
                    start as *const u8,
                    core::slice::from_raw_parts_mut(argv.as_mut_ptr(), part),
                )
            };
            if read.is_err() {
                // SAFETY: as above.
                unsafe { (*record).argv_len = 0 };
            }
        },
    );
    0
}

/// `sched_process_exit(struct task_struct *p[, bool group_dead])`: of each thread.
#[btf_tracepoint(function = "sched_process_exit")]
fn on_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    let Some(mark) = members::of_group(task) else { return 0 };
    // Before 6.17 the tracepoint doesn't say whether the group is dead; its count of live threads
    // does, and the leader's mark takes care of two threads that see zero at once.
    let signal = task.signal();
    let group_dead =
        if settings!(exit_tells_group_dead) != 0 { ctx.arg::<u8>(1) != 0 } else { signal.live() == 0 };
    let told = !matches!(mark.ending, ending::LIVES | ending::LATE);
    if !group_dead || told || members::control().mode == mode::CLOSED {
        return 0;
    }
    let leader = task.group_leader();
    members::count(|t| t.exits += 1);
    // SAFETY: a helper without arguments.
    mark.ended_ns = unsafe { bpf_ktime_get_ns() };
    // A leader that is the last of its group has used everything when it leaves the CPU for good.
    if settings!(switch_tells_state) != 0 && task.pid() == task.tgid() && signal.nr_threads() == 1 {
        mark.ending = ending::PENDING;
    } else {
        mark.ending = ending::PROVISIONAL;
        let usage = signal.group_usage(task);
        members::tell_run(mark, usage.run);
        tell_end(mark, leader, signal, usage, false);
    }
    0
}

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int
/// prev_state)`: of interest only when `prev` is dead and leaves the CPU for the last time. By then its
/// run time is complete, which it is not at its exit; and unlike the free this happens in its own context.
#[btf_tracepoint(function = "sched_switch")]
fn on_switch(ctx: BtfTracePointContext) -> i32 {
    /// include/linux/sched.h; `__schedule` is entered with it once.
    const TASK_DEAD: u32 = 0x80;
    if ctx.arg::<u32>(3) & TASK_DEAD == 0 {
        return 0;
    }
    let task = Task::new(ctx.arg(1));
    let Some(mark) = members::of_task(task) else { return 0 };
    let is_late =
        mark.ending == ending::LATE && task.pid() == task.tgid() && members::control().mode != mode::CLOSED;
    let is_end = is_late || mark.ending == ending::PENDING;
    if !is_end && mark.ending != ending::PROVISIONAL {
        return 0;
    }
    // Of a group whose leader went before it, the end is told and the rest follows.
    let signal = task.signal();
    let is_final = mark.ending == ending::PENDING || signal.nr_threads() <= 1;
    if !is_end && !is_final {
        return 0;
    }
    mark.ending = if is_final { ending::FINAL } else { ending::PROVISIONAL };
    if is_late {
        // SAFETY: a helper without arguments.
        mark.ended_ns = unsafe { bpf_ktime_get_ns() };
        members::count(|t| t.exits += 1);
    }
    // In one place: the verifier looks at each anew.
    let usage = signal.group_usage(task);
    if is_end {
        members::tell_run(mark, usage.run);
        tell_end(mark, task, signal, usage, is_final);
    } else {
        tell_final(mark, task, usage);
    }
    0
}

/// `sched_process_free(struct task_struct *p)`: a task was reaped and nobody looks at it any more.
/// By then every thread of the group has been added to its `signal_struct`. It comes 17 to 40 ms after the
/// exit, and some kernels swallow it (it runs in whichever task a soft interrupt hits).
#[btf_tracepoint(function = "sched_process_free")]
fn on_free(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    // The leader stands for the process. A leader that lost its place to another thread's exec has
    // that thread's old pid by now.
    if task.pid() != task.tgid() {
        return 0;
    }
    let Some(mark) = members::of_task(task) else { return 0 };
    match mark.ending {
        ending::FINAL => return 0,
        ending::LIVES | ending::LATE if members::control().mode == mode::CLOSED => return 0,
        ending::LIVES | ending::LATE => members::count(|t| t.exits += 1),
        _ => {}
    }
    mark.ending = ending::FINAL;
    tell_final(mark, task, task.signal().released_usage());
    0
}

#[inline(always)]
fn tell_end(mark: &Mark, leader: Task, signal: Signal, usage: Usage, is_final: bool) {
    emit::record::<ExitRecord>(
        |t| t.lost_exits += 1,
        |record| {
            emit::header(record, kind::EXIT, leader, mark.tgid);
            // SAFETY: `record` is a reserved ring entry of that size.
            unsafe { (*record).header.t_ns = mark.ended_ns };
            // SAFETY: as above.
            unsafe { (*record).status = leader.wait_status(signal) };
            // SAFETY: as above.
            unsafe { (*record).peak_threads = if mark.peak_threads > 1 { mark.peak_threads } else { 1 } };
            // SAFETY: as above.
            unsafe { (*record).is_final = u32::from(is_final) };
            // SAFETY: as above.
            unsafe { (*record)._pad = 0 };
            // SAFETY: as above.
            unsafe { (*record).usage = usage };
            // SAFETY: as above.
            unsafe { (*record).base = mark.base };
            emit::comm(record_field!(record, comm), leader);
        },
    );
}

#[inline(always)]
fn tell_final(mark: &mut Mark, leader: Task, usage: Usage) {
    members::tell_run(mark, usage.run);
    members::count(|t| t.frees += 1);
    emit_usage(kind::FREE, leader, mark.tgid, usage, mark.base, 0, |t| t.lost_frees += 1);
}

/// `cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool
/// threadgroup)`: fires for the leader of what moves, in each hierarchy; only the default one has cgroup
/// ids that mean something here, and the task is already there. No thread of the group is born or ends
/// meanwhile.
#[btf_tracepoint(function = "cgroup_attach_task")]
fn on_cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    let to: *const u8 = ctx.arg(0);
    let task = Task::new(ctx.arg(2));
    if task.pid() != task.tgid() || to != task.cgroup() {
        return 0;
    }
    let cgroup_id = task::cgroup_id(to);
    let inside = members::is_in_target_cgroup(task);
    match members::of_group(task) {
        None if inside && task.tgid() != members::control().own_host_tgid => {
            let signal = task.signal();
            let used = signal.group_usage(task).run;
            let Some(mark) = members::mark_group(task, signal.nr_threads(), used) else { return 0 };
            let tgid = mark.tgid;
            members::count(|t| t.moved_in += 1);
            tell_arrival(kind::MOVE_IN, task, tgid, used, cgroup_id);
        }
        None => {}
        Some(mark) if !inside && settings!(strict) != 0 => {
            mark.member = member::NONE;
            let (tgid, base) = (mark.tgid, mark.base);
            let usage = task.signal().group_usage(task);
            members::tell_run(mark, usage.run);
            members::count(|t| t.moved_out += 1);
            emit_usage(kind::MOVE_OUT, task, tgid, usage, base, cgroup_id, |t| t.lost_others += 1);
        }
        Some(mark) => {
            let tgid = mark.tgid;
            // In a tree nobody is inside of anything.
            let leaves = settings!(cgroup_id) != 0 && !inside && mark.member == member::INSIDE;
            mark.member = if settings!(cgroup_id) != 0 && !inside { member::OUTSIDE } else { member::INSIDE };
            if leaves {
                members::count(|t| t.moved_out += 1);
            }
            emit::record::<MigrateRecord>(
                |t| t.lost_others += 1,
                |record| {
                    emit::header(record, kind::MIGRATE, task, tgid);
                    // SAFETY: `record` is a reserved ring entry of that size.
                    unsafe { (*record).to_cgroup_id = cgroup_id };
                    // SAFETY: as above.
                    unsafe { (*record).leaves = u32::from(leaves) };
                    // SAFETY: as above.
                    unsafe { (*record)._pad = 0 };
                },
            );
        }
    }
    0
}

#[inline(always)]
fn emit_usage(
    kind: u32,
    leader: Task,
    tgid: u32,
    usage: Usage,
    base: Run,
    cgroup_id: u64,
    lost: impl FnOnce(&mut Totals),
) {
    emit::record::<UsageRecord>(lost, |record| {
        emit::header(record, kind, leader, tgid);
        // SAFETY: `record` is a reserved ring entry of that size.
        unsafe { (*record).usage = usage };
        // SAFETY: as above.
        unsafe { (*record).base = base };
        // SAFETY: as above.
        unsafe { (*record).cgroup_id = cgroup_id };
    });
}

/// `mark_victim(struct task_struct *task, uid_t uid)` (Linux 6.9 and later): the OOM killer chose it.
#[btf_tracepoint(function = "mark_victim")]
fn on_oom(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    let Some(mark) = members::of_group(task) else { return 0 };
    let tgid = mark.tgid;
    members::count(|t| t.ooms += 1);
    emit::record::<OomRecord>(
        |t| t.lost_others += 1,
        |record| emit::header(record, kind::OOM, task.group_leader(), tgid),
    );
    0
}

/// The kernel refuses tracing helpers to programs under another licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
