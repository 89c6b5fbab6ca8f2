//! Births, of processes and threads.

use aya_ebpf::{
    helpers::generated::bpf_get_current_task_btf, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use inferscope_common::{Run, event::fork::ForkRecord};

use super::alive;
use crate::{
    emit, members, settings, snapshot,
    task::{self, Task},
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
    let is_parent_member = group.is_some() || admit(parent);
    let by_lineage = settings!(strict) == 0 && is_parent_member;
    // The child's own cgroup, as clone3 may put it into another than its parent's.
    if !by_lineage
        && (!members::is_in_target_cgroup(child) || parent.tgid() == members::control().own_host_tgid)
    {
        return 0;
    }
    let Some(marked) = members::mark_group(child, 1, NOTHING) else { return 0 };
    members::count(|t| &mut t.forks);
    emit::record(|| ForkRecord {
        header: emit::header::<ForkRecord>(child, marked.tgid),
        parent_tgid: members::visible_tgid(parent),
        _pad: 0,
        cgroup_id: task::cgroup_id(child.cgroup()),
        comm: child.comm(),
    });
    0
}

/// Makes the parent a member where it belongs and the iterator has not come to it yet: it may end before that, and
/// its child would have an unknown parent. Returns whether it is a member.
#[inline(always)]
fn admit(parent: Task) -> bool {
    if !snapshot::belongs(parent) {
        return false;
    }
    let leader = parent.group_leader();
    let signal = parent.signal();
    let used = signal.group_usage(parent).run;
    // Else the iterator reports it.
    if let Some(marked) = members::mark_group(leader, signal.nr_threads(), used)
        && marked.is_new
    {
        members::count(|t| &mut t.admitted);
        let tgid = marked.tgid;
        emit::record(|| {
            let parent_tgid = members::visible_tgid(leader.real_parent());
            alive::record(leader, tgid, true, alive::living(leader, parent_tgid, used, leader.cgroup_id()))
        });
    }
    // Without memory for its mark it has the right to children all the same.
    true
}
