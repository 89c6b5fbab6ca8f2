//! Membership and the counters.
//!
//! Owns the mark of each member, the per-CPU totals and the control word; maps of fixed or task-bound size.

use aya_ebpf::{
    helpers::generated::bpf_task_storage_get,
    macros::map,
    maps::{Array, PerCpuArray},
};
use aya_log_ebpf::warn;
use inferscope_common::{Control, Run, Totals};

use crate::{
    atomic, layout,
    mark::{Mark, ending, member},
    settings,
    task::Task,
    usage::RunSum,
};

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

/// One entry; per CPU, so that no two CPUs wait for each other. Can't be full.
#[map]
static TOTALS: PerCpuArray<Totals> = PerCpuArray::with_max_entries(1, 0);

/// One entry; written by user space, and by the iterator while it identifies the tracer.
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

#[inline(always)]
pub(crate) fn control() -> Control {
    match CONTROL.get(0) {
        Some(control) => *control,
        None => Control {
            mode: 0,
            own_host_tgid: 0,
            ns_level: 0,
            ns_inode: 0,
            own_cgroup_level: 0,
            cgroup_level: 0,
        },
    }
}

/// Stores who the tracer is.
#[inline(always)]
pub(crate) fn set_identity(own_host_tgid: u32, ns_level: u32, ns_inode: u32, own_cgroup_level: u32) {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: the map's one entry; user space waits for the iterator's end before it looks.
        unsafe { (*control).own_host_tgid = own_host_tgid };
        // SAFETY: as above.
        unsafe { (*control).ns_level = ns_level };
        // SAFETY: as above.
        unsafe { (*control).ns_inode = ns_inode };
        // SAFETY: as above.
        unsafe { (*control).own_cgroup_level = own_cgroup_level };
    }
}

/// The id of the task's group in the tracer's namespace; 0 where it has none.
#[inline(always)]
pub(crate) fn visible_tgid(task: Task) -> u32 {
    let control = control();
    if control.ns_level == 0 { task.tgid() } else { task.tgid_in(control.ns_level, control.ns_inode) }
}

/// False where the target is a tree.
#[inline(always)]
pub(crate) fn is_in_target_cgroup(task: Task) -> bool {
    let id = settings!(cgroup_id);
    id != 0 && task.is_below_cgroup(id, control().cgroup_level)
}

const CREATE: u64 = 1;

#[inline(always)]
fn get(task: Task, flags: u64) -> Option<&'static mut Mark> {
    // SAFETY: the verifier checks that `task` is a trusted task and the map a task storage.
    let mark: *mut Mark = unsafe {
        bpf_task_storage_get(
            (&raw const MARKS).cast_mut().cast(),
            task.as_ptr(),
            core::ptr::null_mut(),
            flags,
        )
    }
    .cast();
    if mark.is_null() {
        return None;
    }
    // SAFETY: not null, so it is this task's storage, which outlives the program's run.
    Some(unsafe { &mut *mark })
}

/// A mark that another CPU makes at the same moment, the fork tracepoint's or the iterator's, is refused to the
/// later one, which finds it then.
#[inline(always)]
fn create(task: Task) -> Option<&'static mut Mark> {
    match get(task, CREATE) {
        None => get(task, 0),
        made => made,
    }
}

/// The mark of a member's group, which is its leader's.
#[inline(always)]
pub(crate) fn of_group(task: Task) -> Option<&'static mut Mark> {
    get(task.group_leader(), 0).filter(|mark| mark.member != member::NONE)
}

/// The mark of the task itself, whether or not it leads its group.
#[inline(always)]
pub(crate) fn of_task(task: Task) -> Option<&'static mut Mark> {
    get(task, 0).filter(|mark| mark.member != member::NONE)
}

#[inline(always)]
pub(crate) fn is_member(task: Task) -> bool {
    of_group(task).is_some()
}

/// A group that is a member.
pub(crate) struct Marked {
    pub(crate) tgid: u32,
    /// False where another CPU marked it at the same moment.
    pub(crate) is_new: bool,
}

/// Makes `leader`'s group a member, of that many threads, that had used `base` before. `None` when the kernel had
/// no memory for the mark (counted).
///
/// The iterator can be preempted after it found no mark. Meanwhile another CPU may mark the group, and the group may end
/// and be reported. So only one fills a mark in.
#[inline(always)]
pub(crate) fn mark_group(leader: Task, threads: u32, base: Run) -> Option<Marked> {
    let Some(mark) = create(leader) else {
        count(|t| &mut t.unmarked);
        warn!((), "no memory for the mark of {}", leader.tgid());
        return None;
    };
    let (tgid, execs) = (visible_tgid(leader), leader.exec_id());
    let is_new = begin(mark);
    if is_new {
        mark.tgid = tgid;
        mark.base = base;
        mark.counted = base;
        mark.peak_threads = threads;
        mark.seen_exec_id = execs;
        publish(mark, execs, member::INSIDE);
    }
    Some(Marked { tgid, is_new })
}

/// Marks a further thread of a member's group, for the day on which it takes the leader's place: then its execs go on
/// from where the group's are accounted for. Whether it is new, or `None` when the kernel had no memory (counted).
#[inline(always)]
pub(crate) fn mark_thread(thread: Task, group: &Mark) -> Option<bool> {
    let Some(mark) = create(thread) else {
        count(|t| &mut t.unmarked);
        return None;
    };
    let is_new = begin(mark);
    // Of a group that left and came back the threads' marks are of the first time.
    if is_new || mark.base.exec_ns != group.base.exec_ns {
        mark.tgid = group.tgid;
        mark.base = group.base;
        mark.counted = group.base;
        mark.seen_exec_id = group.seen_exec_id;
        publish(mark, group.exec_id as u32, group.member);
    }
    Some(is_new)
}

/// Whether it is the caller's to fill in the mark.
#[inline(always)]
fn begin(mark: &mut Mark) -> bool {
    atomic::replace(&mut mark.ending, ending::UNMARKED, ending::LIVES)
}

/// Until here the mark counts for nothing. The exchange orders what is written before it and after.
#[inline(always)]
fn publish(mark: &mut Mark, execs: u32, member: u32) {
    atomic::swap(&mut mark.exec_id, u64::from(execs));
    mark.member = member;
}

/// Ends a group's membership unless its end is reported already. Returns whether it did.
#[inline(always)]
pub(crate) fn unmark(mark: &mut Mark) -> bool {
    let was = mark.member;
    mark.member = member::NONE;
    let lived = atomic::replace(&mut mark.ending, ending::LIVES, ending::UNMARKED);
    if !lived {
        mark.member = was;
    }
    lived
}

/// Remembers how many threads the group has now.
#[inline(always)]
pub(crate) fn note_threads(mark: &mut Mark, threads: u32) {
    if threads > mark.peak_threads {
        mark.peak_threads = threads;
    }
}

/// Notes that the program runs for an exec; false where it has run for this one already, as a second of the same kind.
#[inline(always)]
pub(crate) fn note_exec(mark: &mut Mark, leader: Task) -> bool {
    if layout!(task_self_exec_id) == 0 {
        return true;
    }
    let execs = leader.exec_id();
    if mark.seen_exec_id == execs {
        return false;
    }
    mark.seen_exec_id = execs;
    account(mark, execs, 1);
    true
}

/// Counts the task's execs for which the program did not run.
#[inline(always)]
pub(crate) fn note_late_execs(mark: &mut Mark, leader: Task) {
    account(mark, leader.exec_id(), 0);
}

/// Adds to the late execs those up to `execs` that are not accounted for, except for `seen` of them.
#[inline(always)]
fn account(mark: &mut Mark, execs: u32, seen: u32) {
    let before = atomic::swap(&mut mark.exec_id, u64::from(execs)) as u32;
    let late = execs.wrapping_sub(before).wrapping_sub(seen);
    if late != 0 {
        // May be -1.
        totals(|t| atomic::add(&mut t.late_execs, late.cast_signed() as u64));
    }
}

/// Sets the group's state to `ending` if it lives. Returns whether it did: then the caller, and nobody else, reports the end.
#[inline(always)]
pub(crate) fn claim(mark: &mut Mark, ending: u64) -> bool {
    atomic::replace(&mut mark.ending, ending::LIVES, ending)
}

/// Counts the group's end, and its execs for which the program did not run.
#[inline(always)]
pub(crate) fn count_end(mark: &mut Mark, leader: Task) {
    count(|t| &mut t.exits);
    note_late_execs(mark, leader);
}

/// Adds to the totals what the group used since this was last called for it.
#[inline(always)]
pub(crate) fn add_run(mark: &mut Mark, run: Run) {
    let news = run.minus(mark.counted);
    mark.counted = run;
    totals(|t| {
        atomic::add(&mut t.ended.exec_ns, news.exec_ns);
        atomic::add(&mut t.ended.utime_ns, news.utime_ns);
        atomic::add(&mut t.ended.stime_ns, news.stime_ns);
    });
}

#[inline(always)]
pub(crate) fn count(which: impl FnOnce(&mut Totals) -> &mut u64) {
    totals(|t| atomic::add(which(t), 1));
}

#[inline(always)]
fn totals(change: impl FnOnce(&mut Totals)) {
    if let Some(totals) = TOTALS.get_ptr_mut(0) {
        // SAFETY: this CPU's entry; what changes it changes one number at a time, in one instruction.
        change(unsafe { &mut *totals });
    }
}
