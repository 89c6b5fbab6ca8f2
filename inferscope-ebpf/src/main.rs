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

mod bootstrap;
mod emit;
mod members;
mod task;

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_str_bytes, bpf_probe_read_user_buf},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use inferscope_common::{
    ARGV_LEN, ExecRecord, ExitRecord, ForkRecord, FreeRecord, Layout, MigrateRecord, Settings, kind,
};

use crate::task::Task;

/// Patched before loading.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout::PLACEHOLDER;
/// Patched before loading.
#[unsafe(no_mangle)]
static SETTINGS: Settings =
    Settings { roots: [0; 16], own_tgid: 0, _pad: 0, wake_at_bytes: 0, exit_tells_group_dead: 0 };

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: after the child is
/// visible, before it runs. Fires for threads too.
#[btf_tracepoint(function = "sched_process_fork")]
fn on_fork(ctx: BtfTracePointContext) -> i32 {
    let parent = Task::new(ctx.arg(0));
    let child = Task::new(ctx.arg(1));
    if !members::is_member(parent) && !bootstrap::descends_from_member(parent) {
        return 0;
    }
    if !members::mark(child) {
        return 0;
    }
    if child.tgid() == parent.tgid() {
        members::count(|t| t.threads += 1);
        members::note_threads(child.group_leader(), child.signal_nr_threads());
        return 0;
    }
    members::count(|t| t.forks += 1);
    emit::record::<ForkRecord>(|record| {
        emit::header(record, kind::FORK, child);
        // SAFETY: `record` is a reserved ring entry of that size.
        unsafe { (*record).parent_tgid = parent.tgid() };
        // SAFETY: as above.
        unsafe { (*record)._pad = 0 };
        // SAFETY: as above.
        unsafe { (*record).cgroup_id = child.cgroup_id() };
        emit::comm(record_field!(record, comm), child);
    });
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: the new
/// program is in place; `p` is the group's leader by now, whichever thread called exec.
#[btf_tracepoint(function = "sched_process_exec")]
fn on_exec(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    if !members::is_member(task) {
        return 0;
    }
    members::count(|t| t.execs += 1);
    let bprm: *const u8 = ctx.arg(2);
    emit::record::<ExecRecord>(|record| {
        emit::header(record, kind::EXEC, task);
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
        // SAFETY: as above.
        unsafe { (*record)._pad = 0 };
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
    });
    0
}

/// `sched_process_exit(struct task_struct *p[, bool group_dead])`: of each thread.
#[btf_tracepoint(function = "sched_process_exit")]
fn on_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    if !members::is_member(task) {
        return 0;
    }
    // Before 6.17 the tracepoint doesn't say whether the group is dead; its count of live threads
    // does, and the leader's mark takes care of two threads that see zero at once.
    let group_dead =
        if settings!(exit_tells_group_dead) != 0 { ctx.arg::<u8>(1) != 0 } else { task.signal_live() == 0 };
    if !group_dead {
        return 0;
    }
    let leader = task.group_leader();
    let mut peak_threads = 1;
    if !members::note_exit(leader, &mut peak_threads) {
        return 0;
    }
    members::count(|t| t.exits += 1);
    emit::record::<ExitRecord>(|record| {
        emit::header(record, kind::EXIT, leader);
        // SAFETY: `record` is a reserved ring entry of that size.
        unsafe { (*record).status = leader.wait_status() };
        // SAFETY: as above.
        unsafe { (*record).peak_threads = peak_threads };
        emit::usage_at_exit(record_field!(record, usage), task, leader);
    });
    0
}

/// `sched_process_free(struct task_struct *p)`: a task was reaped and nobody looks at it any more.
/// By then every thread of the group has been added to its `signal_struct`.
#[btf_tracepoint(function = "sched_process_free")]
fn on_free(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    // The leader stands for the process. A leader that lost its place to another thread's exec has
    // that thread's old pid by now.
    if task.pid() != task.tgid() || !members::is_member(task) {
        return 0;
    }
    let mut ignored = 0;
    let exit_was_missed = members::note_exit(task, &mut ignored);
    let ran = task.signal_sum_sched_runtime();
    members::count(|t| {
        if exit_was_missed {
            t.exits += 1;
        }
        t.frees += 1;
        t.freed_exec_ns += ran;
    });
    emit::record::<FreeRecord>(|record| {
        emit::header(record, kind::FREE, task);
        emit::usage_of_group(record_field!(record, usage), task);
    });
    0
}

/// `cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool
/// threadgroup)`: fires for each hierarchy; only the default one has cgroup ids that mean
/// something here, and the task is already there.
#[btf_tracepoint(function = "cgroup_attach_task")]
fn on_cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    let to: *const u8 = ctx.arg(0);
    let task = Task::new(ctx.arg(2));
    if task.pid() != task.tgid() || !members::is_member(task) {
        return 0;
    }
    let to_cgroup_id = task::cgroup_id(to);
    if to_cgroup_id != task.cgroup_id() {
        return 0;
    }
    emit::record::<MigrateRecord>(|record| {
        emit::header(record, kind::MIGRATE, task);
        // SAFETY: `record` is a reserved ring entry of that size.
        unsafe { (*record).to_cgroup_id = to_cgroup_id };
    });
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
