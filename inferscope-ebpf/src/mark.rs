//! The mark that makes a task a member.
//!
//! Owns what the program keeps of a group; user space never sees it. Filled in and changed by `members`.

use inferscope_common::Run;

/// A group's membership.
pub(crate) mod member {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const INSIDE: u32 = 1;
    /// A member that was moved out of the target's cgroup.
    pub(crate) const OUTSIDE: u32 = 2;
}

/// How far a group's end has been reported.
pub(crate) mod ending {
    /// As the kernel makes a mark: not filled in yet.
    pub(crate) const UNMARKED: u64 = 0;
    pub(crate) const LIVES: u64 = 1;
    /// Its end is counted; the record and its CPU wait for the leader to leave the CPU for good.
    pub(crate) const PENDING: u64 = 2;
    /// The record is written with figures that may grow.
    pub(crate) const PROVISIONAL: u64 = 3;
    pub(crate) const FINAL: u64 = 4;
}

/// The mark that makes a task a member. It lives in the task's own storage: it ends with the task
/// and is immune to pid reuse. The leader's counts for its group; those of further threads are there
/// for the day on which one of them takes the leader's place by an exec.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    /// One of [`ending`]'s; of a thread that does not lead its group one of the first two.
    pub(crate) ending: u64,
    /// The task's count of its execs (`self_exec_id`, and what it inherited) up to which they are accounted for.
    pub(crate) exec_id: u64,
    /// That count at the last exec for which the program ran.
    pub(crate) seen_exec_id: u32,
    /// One of [`member`]'s.
    pub(crate) member: u32,
    /// The leader's: most threads that the group had when one was created.
    pub(crate) peak_threads: u32,
    /// The group's id in the tracer's pid namespace: a freed task can't be asked any more.
    pub(crate) tgid: u32,
    /// What the group had used before it came into the set.
    pub(crate) base: Run,
    /// The leader's: its group's figure that was added to [`Totals::ended`](inferscope_common::Totals::ended).
    pub(crate) counted: Run,
    /// The leader's, while its end is [`ending::PENDING`]: when it was.
    pub(crate) ended_ns: u64,
}

const _: () = assert!(size_of::<Mark>() == 88);
