//! The OOM killer's choice.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::event::oom::OomRecord;

use crate::{emit, members, task::Task};

/// `mark_victim(struct task_struct *task, uid_t uid)` (Linux 6.9 and later): the OOM killer chose it.
#[btf_tracepoint(function = "mark_victim")]
fn on_oom(ctx: BtfTracePointContext) -> i32 {
    let task = Task::new(ctx.arg(0));
    let Some(mark) = members::of_group(task) else { return 0 };
    let tgid = mark.tgid;
    members::count(|t| &mut t.ooms);
    emit::record(|| OomRecord { header: emit::header::<OomRecord>(task.group_leader(), tgid) });
    0
}
