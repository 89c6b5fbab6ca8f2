//! Membership and the counters.
//!
//! Owns the mark of each member and the per-CPU totals; both are maps of fixed or task-bound size.

use aya_ebpf::{helpers::generated::bpf_task_storage_get, macros::map, maps::PerCpuArray};
use inferscope_common::{Mark, Totals};

use crate::task::Task;

/// `BPF_MAP_TYPE_TASK_STORAGE`, which aya-ebpf 0.2 has no type for. No size: an entry lives in its
/// task and ends with it. When the kernel has no memory for one, `unmarked` counts it.
#[repr(C)]
pub(crate) struct TaskStorage {
    r#type: *const [i32; 29],
    key: *const i32,
    value: *const Mark,
    max_entries: *const [i32; 0],
    /// `BPF_F_NO_PREALLOC`, which the kernel demands here.
    map_flags: *const [i32; 1],
}

// SAFETY: placeholders for the loader; never read.
unsafe impl Sync for TaskStorage {}

#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "MARKS")]
static MARKS: TaskStorage = TaskStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// One entry; per CPU, so that counting needs no atomics. Can't be full.
#[map]
static TOTALS: PerCpuArray<Totals> = PerCpuArray::with_max_entries(1, 0);

const CREATE: u64 = 1;

#[inline(always)]
fn get(task: Task, flags: u64) -> *mut Mark {
    // SAFETY: the verifier checks that `task` is a trusted task and the map a task storage.
    unsafe {
        bpf_task_storage_get(
            (&raw const MARKS).cast_mut().cast(),
            task.as_ptr(),
            core::ptr::null_mut(),
            flags,
        )
    }
    .cast()
}

#[inline(always)]
pub(crate) fn is_member(task: Task) -> bool {
    let mark = get(task, 0);
    if mark.is_null() {
        return false;
    }
    // SAFETY: not null, so it is this task's storage.
    (unsafe { (*mark).member }) != 0
}

/// Makes `task` a member. False when the kernel had no memory for the mark (counted).
#[inline(always)]
pub(crate) fn mark(task: Task) -> bool {
    let mark = get(task, CREATE);
    if mark.is_null() {
        count(|t| t.unmarked += 1);
        return false;
    }
    // SAFETY: not null, so it is this task's storage.
    unsafe { (*mark).member = 1 };
    true
}

/// Takes a mark back, so that the iterator finds the task again.
#[inline(always)]
pub(crate) fn unmark(task: Task) {
    let mark = get(task, 0);
    if !mark.is_null() {
        // SAFETY: not null, so it is this task's storage.
        unsafe { (*mark).member = 0 };
    }
}

/// Remembers in the leader's mark how many threads the group has now.
#[inline(always)]
pub(crate) fn note_threads(leader: Task, threads: u32) {
    let mark = get(leader, 0);
    if mark.is_null() {
        return;
    }
    // SAFETY: not null, so it is the leader's storage.
    let peak = unsafe { &mut (*mark).peak_threads };
    if threads > *peak {
        *peak = threads;
    }
}

/// Notes the end of the leader's group; false if it was noted before. `peak_threads` is at least 1.
#[inline(always)]
pub(crate) fn note_exit(leader: Task, peak_threads: &mut u32) -> bool {
    let mark = get(leader, 0);
    if mark.is_null() {
        return true;
    }
    // SAFETY: not null, so it is the leader's storage.
    let peak = unsafe { (*mark).peak_threads };
    if peak > 1 {
        *peak_threads = peak;
    }
    // SAFETY: as above.
    let before = unsafe { (*mark).exited };
    // SAFETY: as above.
    unsafe { (*mark).exited = 1 };
    before == 0
}

#[inline(always)]
pub(crate) fn count(add: impl FnOnce(&mut Totals)) {
    if let Some(totals) = TOTALS.get_ptr_mut(0) {
        // SAFETY: this CPU's entry; nothing else on this CPU runs in between.
        add(unsafe { &mut *totals });
    }
}
