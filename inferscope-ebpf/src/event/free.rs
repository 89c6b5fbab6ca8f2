//! The final figures of what has ended.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::{Usage, event::free::FreeRecord, mode};

use crate::{
    emit,
    mark::{Mark, ending},
    members,
    task::Task,
};

/// `sched_process_free(struct task_struct *p)`: a task was reaped and is used no more.
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
            members::count_end(mark, task);
        }
        _ => mark.ending = ending::FINAL,
    }
    emit_free(mark, task, task.signal().released_usage());
    0
}

#[inline(always)]
pub(super) fn emit_free(mark: &mut Mark, leader: Task, usage: Usage) {
    members::add_run(mark, usage.run);
    members::count(|t| &mut t.frees);
    emit::record(|| FreeRecord {
        header: emit::header::<FreeRecord>(leader, mark.tgid),
        usage,
        base: mark.base,
    });
}
