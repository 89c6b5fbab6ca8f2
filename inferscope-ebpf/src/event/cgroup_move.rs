//! Moves between cgroups.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::event::cgroup_move::{MigrateRecord, MoveInRecord, MoveOutRecord};

use super::alive::living;
use crate::{
    emit,
    mark::member,
    members, settings,
    task::{self, Task},
};

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
            emit::record(|| MoveInRecord {
                header: emit::header::<MoveInRecord>(task, tgid),
                task: living(task, members::visible_tgid(task.real_parent()), used, cgroup_id),
            });
        }
        None => {}
        Some(mark) if !inside && settings!(strict) != 0 => {
            // A process that ends is reported as ended.
            if !members::unmark(mark) {
                return 0;
            }
            let (tgid, base) = (mark.tgid, mark.base);
            let usage = task.signal().group_usage(task);
            members::add_run(mark, usage.run);
            members::count(|t| &mut t.moved_out);
            emit::record(|| MoveOutRecord {
                header: emit::header::<MoveOutRecord>(task, tgid),
                usage,
                base,
                to_cgroup_id: cgroup_id,
            });
        }
        Some(mark) => {
            let tgid = mark.tgid;
            // A tree has no inside.
            let leaves = settings!(cgroup_id) != 0 && !inside && mark.member == member::INSIDE;
            mark.member = if settings!(cgroup_id) != 0 && !inside { member::OUTSIDE } else { member::INSIDE };
            if leaves {
                members::count(|t| &mut t.moved_out);
            }
            emit::record(|| MigrateRecord {
                header: emit::header::<MigrateRecord>(task, tgid),
                to_cgroup_id: cgroup_id,
                leaves: u32::from(leaves),
                _pad: 0,
            });
        }
    }
    0
}
