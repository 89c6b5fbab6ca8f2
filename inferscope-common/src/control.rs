//! What user space sets in the kernel program, before it is loaded and while it runs.

use bytemuck::{Pod, Zeroable};

/// Roots that one run can watch.
pub const MAX_ROOTS: usize = 16;

/// What the task iterator does; see [`Control`].
pub mod mode {
    /// Nothing: the tracepoints have the set to themselves.
    pub const TRACK: u32 = 0;
    /// Finds the tracer itself and fills in [`super::Control`].
    pub const IDENTIFY: u32 = 1;
    /// Marks what belongs to the target and lives; the fork tracepoint helps meanwhile.
    pub const MARK: u32 = 2;
    /// Writes a record of every living member.
    pub const SWEEP: u32 = 3;
    /// The window is over: no further birth or end counts, only the final figures of those that ended.
    pub const CLOSED: u32 = 4;
    /// Counts the living members' execs for which the program did not run.
    pub const EXECS: u32 = 5;
}

/// What user space decides before loading.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Settings {
    /// Thread-group ids, of the tracer's namespace, that begin the tree; 0 ends the list.
    pub roots: [u32; MAX_ROOTS],
    /// The target's cgroup; 0 where it is a tree.
    pub cgroup_id: u64,
    /// What is moved out of the cgroup is left, and what a member forks elsewhere is none.
    pub strict: u32,
    /// Bytes waiting in the ring from which a record wakes the reader.
    pub wake_at_bytes: u32,
    /// `sched_process_exit` has the argument `group_dead` (Linux 6.17 and later).
    pub exit_has_group_dead: u32,
    /// CPUs of which an [`OnCpu`](crate::OnCpu) is written; the entry after them is the looker's own.
    pub cpus: u32,
}

/// What changes while the program runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Control {
    /// See [`mode`].
    pub mode: u32,
    /// The tracer's own thread group in the initial pid namespace: never a member, nor is what it forks.
    pub own_host_tgid: u32,
    /// Depth of the tracer's pid namespace; 0 is the initial one.
    pub ns_level: u32,
    /// That namespace's inode number.
    pub ns_inode: u32,
    /// Depth of the tracer's own cgroup below the root of the v2 hierarchy.
    pub own_cgroup_level: u32,
    /// Depth of the target's cgroup, set by user space.
    pub cgroup_level: u32,
}

const _: () = {
    assert!(size_of::<Settings>() == 88);
    assert!(size_of::<Control>() == 24);
};
