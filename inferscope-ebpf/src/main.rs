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
#![feature(asm_experimental_arch)]

mod atomic;
mod emit;
mod looped;
mod members;
mod on_cpu;
mod snapshot;
mod task;
mod usage;

use aya_ebpf::{
    helpers::{
        bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes, bpf_probe_read_user_buf,
        generated::bpf_get_current_task_btf,
    },
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
    cpus: 0,
};

const NOTHING: Run = Run { exec_ns: 0, utime_ns: 0, stime_ns: 0 };

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: after the child is
/// visible and in its cgroup, before it runs. Fires for threads too. Before Linux 7.0.
#[btf_tracepoint(function = "sched_process_fork")]
fn on_fork(ctx: BtfTracePointContext) -> i32 {
    born(Task::new(ctx.arg(0)), Task::new(ctx.arg(1)))
}

/// `sched_wakeup_new(struct task_struct *p)`: right after that, still in the parent. From Linux 7.0 on, where a program
/// can be preempted at `sched_process_fork` and the next fork on that CPU would be skipped: here interrupts are off.
/// Before 6.4 a mark can't be allocated here, under the run queue's lock.
#[btf_tracepoint(function = "sched_wakeup_new")]
fn on_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: a helper without arguments.
    let parent = unsafe { bpf_get_current_task_btf() };
    born(Task::new(parent.cast_const().cast()), Task::new(ctx.arg(0)))
}

#[inline(always)]
fn born(parent: Task, child: Task) -> i32 {
    let group = members::of_group(parent);
    if child.tgid() == parent.tgid() {
        if let Some(group) = group {
            let copy = *group;
            // During the snapshot a group may get a thread before it is marked: then the iterator sees it.
            if members::mark_thread(child, &copy).is_some() {
                members::count(|t| &mut t.threads);
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
    let Some(marked) = members::mark_group(child, 1, NOTHING) else { return 0 };
    let tgid = marked.tgid;
    members::count(|t| &mut t.forks);
    emit::record::<ForkRecord>(
        |t| &mut t.lost_forks,
        |record| {
            emit::header(record, kind::FORK, child, tgid);
            let parent_tgid = members::visible_tgid(parent);
            // SAFETY: `record` is a reserved ring entry of that size.
            unsafe { (*record).parent_tgid = parent_tgid };
            // SAFETY: as above.
            unsafe { (*record)._pad = 0 };
            // SAFETY: as above.
            unsafe { (*record).cgroup_id = task::cgroup_id(child.cgroup()) };
            // SAFETY: as above.
            unsafe { (*record).comm = child.comm() };
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
    // Else the iterator tells of it.
    if let Some(marked) = members::mark_group(leader, signal.nr_threads(), used)
        && marked.is_new
    {
        members::count(|t| &mut t.admitted);
        tell_arrival(kind::TASK, leader, marked.tgid, used, leader.cgroup_id());
    }
    // Without memory for its mark it has the right to children all the same.
    true
}

/// A process that lived before it came into the set.
#[inline(always)]
fn tell_arrival(kind: u32, leader: Task, tgid: u32, base: Run, cgroup_id: u64) {
    emit::record::<TaskRecord>(
        |t| &mut t.lost_others,
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
/// program is in place; `p` is the group's leader by now, whichever thread called exec. From Linux 7.0 on it is attached
/// four times: where the kernel skips the one, as it was running on that CPU already, another tells.
#[btf_tracepoint(function = "sched_process_exec")]
fn on_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    // A thread took its leader's place.
    let is_other = ctx.arg::<u32>(1) != task.pid();
    let is_inside = is_other && members::is_in_target_cgroup(task);
    let Some(mark) = members::of_group(task) else {
        // Before the iterator had marked it: the group is lost.
        if is_inside {
            members::count(|t| &mut t.unmarked);
        }
        return 0;
    };
    // Where the group was moved to, its leader's mark knew.
    if is_other && settings!(cgroup_id) != 0 {
        if !is_inside && settings!(strict) != 0 {
            members::unmark(mark);
            return 0;
        }
        mark.member = if is_inside { member::INSIDE } else { member::OUTSIDE };
    }
    if !members::note_exec(mark, task) {
        return 0;
    }
    let tgid = mark.tgid;
    members::count(|t| &mut t.execs);
    let bprm: *const u8 = ctx.arg(2);
    emit::record::<ExecRecord>(
        |t| &mut t.lost_execs,
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

/// `sched_process_exit(struct task_struct *p[, bool group_dead])`: of each thread. Attached twice from Linux 7.0 on.
#[btf_tracepoint(function = "sched_process_exit")]
fn on_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    let Some(mark) = members::of_group(task) else { return 0 };
    // Before 6.17 the tracepoint doesn't say whether the group is dead; its count of live threads does, and two
    // threads may see zero at once.
    let signal = task.signal();
    let group_dead =
        if settings!(exit_tells_group_dead) != 0 { ctx.arg::<u8>(1) != 0 } else { signal.live() == 0 };
    if !group_dead || mark.ending != ending::LIVES || members::control().mode == mode::CLOSED {
        return 0;
    }
    // A leader that is the last of its group has used everything when it leaves the CPU for good.
    let waits = task.pid() == task.tgid() && signal.nr_threads() == 1;
    if !members::claim(mark, if waits { ending::PENDING } else { ending::PROVISIONAL }) {
        return 0;
    }
    // SAFETY: a helper without arguments.
    mark.ended_ns = unsafe { bpf_ktime_get_ns() };
    let leader = task.group_leader();
    count_end(mark, leader);
    if !waits {
        let usage = signal.group_usage(task);
        members::tell_run(mark, usage.run);
        tell_end(mark, leader, signal, usage, false);
    }
    0
}

#[inline(always)]
fn count_end(mark: &mut Mark, leader: Task) {
    members::count(|t| &mut t.exits);
    members::note_late_execs(mark, leader);
}

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next[, unsigned int
/// prev_state])`: of interest only when `prev` is dead and leaves the CPU for the last time. By then its
/// run time is complete, which it is not at its exit; and unlike the free this happens in its own context, with
/// interrupts off, so that it is never skipped. The state is the task's own, as the argument came with 5.18 only:
/// nobody wakes the dead, so it can't have changed meanwhile.
#[btf_tracepoint(function = "sched_switch")]
fn on_switch(ctx: BtfTracePointContext) -> i32 {
    /// include/linux/sched.h; `__schedule` is entered with it once.
    const TASK_DEAD: u32 = 0x80;
    let task = Task::new(ctx.arg(1));
    if task.state() & TASK_DEAD == 0 {
        return 0;
    }
    let Some(mark) = members::of_task(task) else { return 0 };
    let signal = task.signal();
    let is_last = signal.nr_threads() <= 1;
    let is_end = match mark.ending {
        ending::PENDING => {
            mark.ending = ending::FINAL;
            true
        }
        // Of a group whose leader went before it.
        ending::PROVISIONAL if is_last => {
            mark.ending = ending::FINAL;
            false
        }
        // The exit's tracepoint was skipped, or passed before the iterator marked it, or is about to be hit by a
        // thread on another CPU: before 6.17 only after that has torn down the group's memory, which is to be told.
        ending::LIVES
            if task.pid() == task.tgid()
                && signal.live() == 0
                && (is_last || settings!(exit_tells_group_dead) != 0) =>
        {
            let ending = if is_last { ending::FINAL } else { ending::PROVISIONAL };
            if members::control().mode == mode::CLOSED || !members::claim(mark, ending) {
                return 0;
            }
            // SAFETY: a helper without arguments.
            mark.ended_ns = unsafe { bpf_ktime_get_ns() };
            count_end(mark, task);
            true
        }
        _ => return 0,
    };
    // In one place: the verifier looks at each anew.
    let usage = signal.group_usage(task);
    if is_end {
        let is_final = mark.ending == ending::FINAL;
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
        ending::LIVES => {
            if members::control().mode == mode::CLOSED || !members::claim(mark, ending::FINAL) {
                return 0;
            }
            count_end(mark, task);
        }
        _ => mark.ending = ending::FINAL,
    }
    tell_final(mark, task, task.signal().released_usage());
    0
}

#[inline(always)]
fn tell_end(mark: &Mark, leader: Task, signal: Signal, usage: Usage, is_final: bool) {
    emit::record::<ExitRecord>(
        |t| &mut t.lost_exits,
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
            // SAFETY: as above.
            unsafe { (*record).comm = leader.comm() };
        },
    );
}

#[inline(always)]
fn tell_final(mark: &mut Mark, leader: Task, usage: Usage) {
    members::tell_run(mark, usage.run);
    members::count(|t| &mut t.frees);
    emit_usage(kind::FREE, leader, mark.tgid, usage, mark.base, 0, |t| &mut t.lost_frees);
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
            let Some(marked) = members::mark_group(task, signal.nr_threads(), used) else { return 0 };
            let tgid = marked.tgid;
            members::count(|t| &mut t.moved_in);
            tell_arrival(kind::MOVE_IN, task, tgid, used, cgroup_id);
        }
        None => {}
        Some(mark) if !inside && settings!(strict) != 0 => {
            // One that ends is told as ended.
            if !members::unmark(mark) {
                return 0;
            }
            let (tgid, base) = (mark.tgid, mark.base);
            let usage = task.signal().group_usage(task);
            members::tell_run(mark, usage.run);
            members::count(|t| &mut t.moved_out);
            emit_usage(kind::MOVE_OUT, task, tgid, usage, base, cgroup_id, |t| &mut t.lost_others);
        }
        Some(mark) => {
            let tgid = mark.tgid;
            // In a tree nobody is inside of anything.
            let leaves = settings!(cgroup_id) != 0 && !inside && mark.member == member::INSIDE;
            mark.member = if settings!(cgroup_id) != 0 && !inside { member::OUTSIDE } else { member::INSIDE };
            if leaves {
                members::count(|t| &mut t.moved_out);
            }
            emit::record::<MigrateRecord>(
                |t| &mut t.lost_others,
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
    lost: impl FnOnce(&mut Totals) -> &mut u64,
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
    members::count(|t| &mut t.ooms);
    emit::record::<OomRecord>(
        |t| &mut t.lost_others,
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
