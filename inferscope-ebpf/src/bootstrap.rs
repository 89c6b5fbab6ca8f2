//! Marks what lives when observation begins.
//!
//! Owns the task iterator. User space attaches the tracepoints first and then runs the iterator
//! until a pass marks nothing new. Meanwhile a member-to-be that is not yet marked may fork; the fork
//! tracepoint then looks up the chain of parents for a member, so that there is no hole between the
//! snapshot and the events.

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_buf, generated::bpf_seq_write},
    macros::map,
    maps::Array,
};
use inferscope_common::{COMM_LEN, Header, MAX_ROOTS, TaskRecord, kind};

use crate::{members, settings, task::Task};

/// Not zero while the snapshot is being taken.
#[map]
static BOOTSTRAPPING: Array<u32> = Array::with_max_entries(1, 0);

/// Deeper nesting than any server has; the verifier wants a bound.
const MAX_DEPTH: u32 = 24;

#[repr(C)]
struct IterMeta {
    seq: *mut seq_file,
    session_id: u64,
    seq_num: u64,
}

#[repr(C)]
struct IterTask {
    meta: *const IterMeta,
    task: *const u8,
}

#[inline(always)]
fn is_root(tgid: u32) -> bool {
    let mut i = 0;
    while i < MAX_ROOTS {
        let root = settings!(roots[i]);
        if root == 0 {
            return false;
        }
        if root == tgid {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether an ancestor of `task` is a member or a root; false outside the bootstrap, when every
/// member is marked.
#[inline(always)]
pub(crate) fn descends_from_member(task: Task) -> bool {
    match BOOTSTRAPPING.get(0) {
        Some(&on) if on != 0 => {}
        _ => return false,
    }
    let mut at = task.group_leader();
    let mut depth = 0;
    while depth < MAX_DEPTH {
        if at.tgid() == settings!(own_tgid) {
            return false;
        }
        if is_root(at.tgid()) || members::is_member(at) {
            return true;
        }
        if at.pid() <= 1 {
            return false;
        }
        at = at.real_parent().group_leader();
        depth += 1;
    }
    false
}

/// `iter/task`: for every thread of the system, in the order of pids.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn snapshot(ctx: *const IterTask) -> i32 {
    // SAFETY: the kernel's context of a task iterator; the verifier knows its layout.
    let task = unsafe { (*ctx).task };
    if task.is_null() {
        return 0;
    }
    // SAFETY: as above.
    let meta = unsafe { (*ctx).meta };
    // SAFETY: as above.
    let seq = unsafe { (*meta).seq };
    let task = Task::new(task);
    // A tracer below its own target would measure itself: a harness that serves and starts it.
    if task.tgid() == settings!(own_tgid) {
        return 0;
    }
    // A zombie has told its end already.
    if task.signal_live() == 0 || members::is_member(task) {
        return 0;
    }
    let leader = task.group_leader();
    let parent = task.real_parent();
    let belongs = is_root(task.tgid())
        || members::is_member(leader)
        || members::is_member(parent)
        || members::is_member(parent.group_leader());
    if !belongs || !members::mark(task) {
        return 0;
    }
    members::note_threads(leader, task.signal_nr_threads());
    let mut record = TaskRecord {
        header: Header {
            kind: kind::TASK,
            tgid: task.tgid(),
            // SAFETY: a helper without arguments.
            t_ns: unsafe { bpf_ktime_get_ns() },
            start_boottime_ns: task.start_boottime(),
        },
        tid: task.pid(),
        parent_tgid: parent.tgid(),
        cgroup_id: task.cgroup_id(),
        comm: [0; COMM_LEN],
    };
    // SAFETY: the helper checks the address.
    let _ = unsafe { bpf_probe_read_kernel_buf(task.comm_ptr(), &mut record.comm) };
    // SAFETY: `record` is on the stack and of that size. A full seq buffer makes the kernel call
    // again for the same task, which is a member by then: the leader would be missed, so unmark.
    let wrote = unsafe { bpf_seq_write(seq, (&raw mut record).cast(), size_of::<TaskRecord>() as u32) };
    if wrote < 0 {
        members::unmark(task);
    }
    0
}
