//! The end of a process, and its last moment on a CPU.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::{Usage, event::exit::ExitRecord, mode};

use super::free::emit_free;
use crate::{
    emit,
    mark::{Mark, ending},
    members, settings,
    task::{Signal, Task},
};

/// `sched_process_exit(struct task_struct *p[, bool group_dead])`: of each thread. Attached twice from Linux 7.0 on.
#[btf_tracepoint(function = "sched_process_exit")]
fn on_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    let Some(mark) = members::of_group(task) else { return 0 };
    // Before 6.17 the tracepoint doesn't say whether the group is dead; its count of live threads does, and two
    // threads may see zero at once.
    let signal = task.signal();
    let group_dead =
        if settings!(exit_has_group_dead) != 0 { ctx.arg::<u8>(1) != 0 } else { signal.live() == 0 };
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
    members::count_end(mark, leader);
    if !waits {
        let usage = signal.group_usage(task);
        members::add_run(mark, usage.run);
        emit_exit(mark, leader, signal, usage, false);
    }
    0
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
        // thread on another CPU: before 6.17 only after that has torn down the group's memory, which is reported.
        ending::LIVES
            if task.pid() == task.tgid()
                && signal.live() == 0
                && (is_last || settings!(exit_has_group_dead) != 0) =>
        {
            let ending = if is_last { ending::FINAL } else { ending::PROVISIONAL };
            if members::control().mode == mode::CLOSED || !members::claim(mark, ending) {
                return 0;
            }
            // SAFETY: a helper without arguments.
            mark.ended_ns = unsafe { bpf_ktime_get_ns() };
            members::count_end(mark, task);
            true
        }
        _ => return 0,
    };
    // In one place: the verifier looks at each anew.
    let usage = signal.group_usage(task);
    if is_end {
        let is_final = mark.ending == ending::FINAL;
        members::add_run(mark, usage.run);
        emit_exit(mark, task, signal, usage, is_final);
    } else {
        emit_free(mark, task, usage);
    }
    0
}

#[inline(always)]
fn emit_exit(mark: &Mark, leader: Task, signal: Signal, usage: Usage, is_final: bool) {
    emit::record(|| ExitRecord {
        header: emit::header_at::<ExitRecord>(leader, mark.tgid, mark.ended_ns),
        status: leader.wait_status(signal),
        peak_threads: if mark.peak_threads > 1 { mark.peak_threads } else { 1 },
        is_final: u32::from(is_final),
        _pad: 0,
        usage,
        base: mark.base,
        comm: leader.comm(),
    });
}
