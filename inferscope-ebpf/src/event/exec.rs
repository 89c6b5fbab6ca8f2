//! A member's exec.

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_str_bytes, bpf_probe_read_user_buf},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use inferscope_common::event::exec::{ARGV_LEN, ExecHead, ExecRecord};

use crate::{
    emit, layout,
    mark::member,
    members, settings,
    task::{self, Task},
};

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: the new
/// program is in place; `p` is the group's leader by now, whichever thread called exec. From Linux 7.0 on it is attached
/// four times: where the kernel skips one program, because it is running on that CPU already, another reports the exec.
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
    emit::in_place(|record: *mut ExecRecord| {
        // SAFETY: within the reserved entry, which is all bytes.
        let record = unsafe { &mut *record };
        record.exe[0] = 0;
        let filename = task::read_ptr(bprm, layout!(binprm_filename));
        // SAFETY: the helper checks the address; a failure leaves the empty string.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(filename, &mut record.exe) };
        let argv_len = copy_argv(task, &mut record.argv);
        let pages = task.signal().maxrss();
        record.head = ExecHead {
            header: emit::header::<ExecRecord>(task, tgid),
            argv_len,
            maxrss_pages: if pages > u64::from(u32::MAX) { u32::MAX } else { pages as u32 },
            comm: task.comm(),
        };
    });
    0
}

/// The start of the command line; its whole length, or 0 where it can't be read.
#[inline(always)]
fn copy_argv(task: Task, into: &mut [u8; ARGV_LEN]) -> u32 {
    let (start, len) = task.argv();
    // The verifier wants one constant bound, so the length is cut to the buffer first.
    let part = if len > ARGV_LEN as u64 { ARGV_LEN } else { len as usize };
    // SAFETY: the slice is within the buffer; the helper checks the user address. The bytes
    // beyond it are not read by user space, which knows the length.
    let read = unsafe {
        bpf_probe_read_user_buf(start as *const u8, core::slice::from_raw_parts_mut(into.as_mut_ptr(), part))
    };
    if read.is_ok() { len as u32 } else { 0 }
}
