//! What lives: who the tracer is, who belongs to the target when observation begins, who is a member.
//!
//! Owns the task iterator and its uses ([`mode`]). User space attaches the tracepoints first and then
//! marks until a pass marks nothing new. Meanwhile a member-to-be that is not yet marked may fork; the fork
//! tracepoint then looks up the chain of parents for a member, so that there is no hole between the
//! snapshot and the events.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write},
};
use aya_log_ebpf::debug;
use inferscope_common::{MAX_ROOTS, event::alive::AliveRecord, mode};

use crate::{
    event::alive,
    looped,
    mark::{Mark, ending},
    members, settings,
    task::Task,
};

/// Deeper nesting than any server has.
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

/// Roots are named as the tracer sees them.
#[inline(always)]
fn is_root(leader: Task) -> bool {
    let tgid = members::visible_tgid(leader);
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

/// Whether `task`, which is no member, has to become one: it is in the target's cgroup, or one of its ancestors is a
/// member or a root. False outside the bootstrap, when every member is marked.
#[inline(always)]
pub(crate) fn belongs(task: Task) -> bool {
    let control = members::control();
    if control.mode != mode::MARK || task.tgid() == control.own_host_tgid {
        return false;
    }
    members::is_in_target_cgroup(task) || descends_from_member(task, control.own_host_tgid)
}

#[inline(always)]
fn descends_from_member(task: Task, own: u32) -> bool {
    if settings!(roots[0]) == 0 {
        return false;
    }
    let mut climb = Climb { at: task.group_leader(), own, found: 0 };
    looped::turns(step, &mut climb);
    climb.found != 0
}

/// A way up the chain of parents, from leader to leader; a callback, as the verifier would unroll a plain loop
/// and search all kernel types at each turn.
#[repr(C)]
struct Climb {
    at: Task,
    own: u32,
    found: u32,
}

extern "C" fn step(_: *const c_void, turn: *const u32, _: *mut u32, climb: *mut Climb) -> i64 {
    // SAFETY: the helper hands over the turn's number. A count of one's own would make each turn another to the verifier.
    let turn = unsafe { *turn };
    // SAFETY: the pointer that `descends_from_member` hands over.
    let climb = unsafe { &mut *climb };
    let at = climb.at;
    if at.tgid() == climb.own || turn >= MAX_DEPTH {
        return looped::STOP;
    }
    if is_root(at) || members::of_task(at).is_some() {
        climb.found = 1;
        return looped::STOP;
    }
    if at.pid() <= 1 {
        return looped::STOP;
    }
    climb.at = at.real_parent().group_leader();
    looped::GO_ON
}

/// `iter/task`: for every thread of the tracer's pid namespace, each group's leader first.
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
    let control = members::control();
    let alive = match control.mode {
        mode::IDENTIFY => {
            identify(task);
            None
        }
        mode::MARK => mark(task, control.own_host_tgid),
        mode::SWEEP => sweep(task),
        mode::EXECS => {
            find_late_execs(task);
            None
        }
        _ => None,
    };
    // One place that writes: the verifier looks at each anew.
    if let Some((group, parent)) = alive
        && !write(seq, task, &group, parent)
        && control.mode == mode::MARK
        && let Some(mark) = members::of_task(task)
    {
        // A full buffer makes the kernel call again for the same task, which must not be a member by then.
        members::unmark(mark);
    }
    0
}

/// The iterator runs in the process that reads it, and the helper gives its id in the initial namespace.
#[inline(always)]
fn identify(task: Task) {
    let own = (bpf_get_current_pid_tgid() >> 32) as u32;
    if task.pid() != own {
        return;
    }
    if let Some((level, inode)) = task.pid_namespace() {
        debug!(
            (),
            "the tracer is {}, its pid namespace at depth {}, its cgroup at {}",
            own,
            level,
            task.cgroup_level()
        );
        members::set_identity(own, level, inode, task.cgroup_level());
    }
}

/// The mark of the task's group, where the task was not marked before, and the id of its parent: the one by which it
/// belongs, which may end, and leave it to another, at any moment.
#[inline(always)]
fn mark(task: Task, own: u32) -> Option<(Mark, u32)> {
    // A tracer below its own target would measure itself: a harness that serves and starts it.
    // A zombie's end is reported already.
    let signal = task.signal();
    if task.tgid() == own || signal.live() == 0 {
        return None;
    }
    // The leader is looked at before its threads; one that belongs is a member by now.
    if task.pid() != task.tgid() {
        let group = *members::of_group(task)?;
        return if members::mark_thread(task, &group)? { Some((group, 0)) } else { None };
    }
    if members::of_task(task).is_some() {
        return None;
    }
    let parent = task.real_parent();
    let parent_tgid = members::visible_tgid(parent);
    let belongs = if settings!(cgroup_id) != 0 {
        members::is_in_target_cgroup(task)
    } else {
        is_root(task) || members::is_member(parent)
    };
    if !belongs {
        return None;
    }
    let used = signal.group_usage(task).run;
    // The end of one that ends meanwhile is reported at its last switch, even if its exit has passed.
    if !members::mark_group(task, signal.nr_threads(), used)?.is_new {
        return None;
    }
    members::of_task(task).map(|group| (*group, parent_tgid))
}

/// The mark of a member that lives, by its leader, and the id of its parent.
#[inline(always)]
fn sweep(task: Task) -> Option<(Mark, u32)> {
    let group = living(task)?;
    Some((*group, members::visible_tgid(task.real_parent())))
}

/// Only at the window's end: a thread that is not the leader goes on from the group's account when it was born.
#[inline(always)]
fn find_late_execs(task: Task) {
    if let Some(group) = living(task) {
        members::note_late_execs(group, task);
    }
}

/// By its leader.
#[inline(always)]
fn living(task: Task) -> Option<&'static mut Mark> {
    if task.pid() != task.tgid() {
        return None;
    }
    members::of_task(task).filter(|group| group.ending == ending::LIVES)
}

#[inline(always)]
fn write(seq: *mut seq_file, task: Task, group: &Mark, parent_tgid: u32) -> bool {
    let leader = task.group_leader();
    let living = alive::living(leader, parent_tgid, group.base, leader.cgroup_id());
    let mut record = alive::record(leader, group.tgid, task.pid() == task.tgid(), living);
    // SAFETY: `record` is on the stack and of that size.
    let wrote = unsafe { bpf_seq_write(seq, (&raw mut record).cast(), size_of::<AliveRecord>() as u32) };
    wrote >= 0
}
