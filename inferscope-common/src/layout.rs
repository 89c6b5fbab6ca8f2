//! Byte offsets of the fields that the kernel program reads.
//!
//! Owns the one declaration of each field. [`Layout`], the constants of the program, is made of it, and so is
//! [`FIELDS`], by which user space finds the offsets in the running kernel's BTF and patches them in.

use bytemuck::{Pod, Zeroable};

/// Where an offset comes from.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The kernel's struct.
    pub of: &'static str,
    /// Ways to the field, through structs held by value; the first that this kernel has counts. None: the struct's size.
    pub paths: &'static [&'static [&'static str]],
    pub need: Need,
}

/// What a kernel without the field can't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The tracker.
    Tracker,
    /// What runs on each CPU ([`OnCpu`](crate::OnCpu)).
    OnCpu,
    /// Nothing that the program does not do without: the offset is 0.
    Optional,
}

macro_rules! layout {
    ($($(#[$doc:meta])* $name:ident: $need:ident $of:ident $(. $first:ident)* $(| $($other:ident).+)?;)+) => {
        /// An offset each, in the order of [`FIELDS`].
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
        pub struct Layout {
            $($(#[$doc])* pub $name: u32,)+
        }

        impl Layout {
            /// What stands in the program until user space patches it.
            pub const PLACEHOLDER: Self = Self { $($name: 0,)+ };
        }

        /// What [`Layout`] holds.
        pub const FIELDS: [Field; size_of::<Layout>() / size_of::<u32>()] = [
            $(Field {
                of: stringify!($of),
                paths: &[&[$(stringify!($first)),*] $(, &[$(stringify!($other)),+])?],
                need: Need::$need,
            },)+
        ];
    };
}

layout! {
    task_pid: Tracker task_struct.pid;
    task_tgid: Tracker task_struct.tgid;
    task_comm: Tracker task_struct.comm;
    task_group_leader: Tracker task_struct.group_leader;
    task_real_parent: Tracker task_struct.real_parent;
    /// Renamed in 5.5.
    task_start_boottime: Tracker task_struct.start_boottime | real_start_time;
    task_signal: Tracker task_struct.signal;
    task_mm: Tracker task_struct.mm;
    task_cgroups: Tracker task_struct.cgroups;
    task_exit_code: Tracker task_struct.exit_code;
    task_utime: Tracker task_struct.utime;
    task_stime: Tracker task_struct.stime;
    task_sum_exec_runtime: Tracker task_struct.se.sum_exec_runtime;
    task_nvcsw: Tracker task_struct.nvcsw;
    task_nivcsw: Tracker task_struct.nivcsw;
    task_min_flt: Tracker task_struct.min_flt;
    task_maj_flt: Tracker task_struct.maj_flt;
    task_thread_node: Tracker task_struct.thread_node;
    task_thread_pid: Tracker task_struct.thread_pid;
    /// Renamed in 5.14, when it became 32 bits wide; of its 64 before, the lower ones are read.
    task_state: Tracker task_struct.__state | state;
    /// Without it, execs for which the program did not run are not found.
    task_self_exec_id: Optional task_struct.self_exec_id;
    /// `atomic_t`, whose only field is its counter.
    signal_live: Tracker signal_struct.live;
    signal_nr_threads: Tracker signal_struct.nr_threads;
    signal_flags: Tracker signal_struct.flags;
    signal_group_exit_code: Tracker signal_struct.group_exit_code;
    signal_utime: Tracker signal_struct.utime;
    signal_stime: Tracker signal_struct.stime;
    signal_sum_sched_runtime: Tracker signal_struct.sum_sched_runtime;
    signal_maxrss: Tracker signal_struct.maxrss;
    signal_min_flt: Tracker signal_struct.min_flt;
    signal_maj_flt: Tracker signal_struct.maj_flt;
    signal_nvcsw: Tracker signal_struct.nvcsw;
    signal_nivcsw: Tracker signal_struct.nivcsw;
    signal_thread_head: Tracker signal_struct.thread_head;
    /// Without it a look at a group that changes meanwhile is not repeated.
    signal_stats_seq: Optional signal_struct.stats_lock.seqcount.seqcount.sequence;
    css_set_dfl_cgrp: Tracker css_set.dfl_cgrp;
    cgroup_kn: Tracker cgroup.kn;
    cgroup_level: Tracker cgroup.level;
    /// Cgroups from the root down: pointers, since 6.1.
    cgroup_ancestors: Optional cgroup.ancestors;
    /// The same before, where there were only their ids.
    cgroup_ancestor_ids: Optional cgroup.ancestor_ids;
    kernfs_node_id: Tracker kernfs_node.id;
    mm_arg_start: Tracker mm_struct.arg_start;
    mm_arg_end: Tracker mm_struct.arg_end;
    binprm_filename: Tracker linux_binprm.filename;
    pid_level: Tracker pid.level;
    pid_numbers: Tracker pid.numbers;
    upid_nr: Tracker upid.nr;
    upid_ns: Tracker upid.ns;
    upid_size: Tracker upid;
    pid_namespace_inum: Tracker pid_namespace.ns.inum;
    // The way from a task to every CPU's run queue leads through its group's, which there are with
    // CONFIG_FAIR_GROUP_SCHED.
    task_exec_start: OnCpu task_struct.se.exec_start;
    task_sched_task_group: OnCpu task_struct.sched_task_group;
    task_group_cfs_rq: OnCpu task_group.cfs_rq;
    cfs_rq_rq: OnCpu cfs_rq.rq;
    rq_curr: OnCpu rq.curr;
    rq_clock: OnCpu rq.clock;
    rq_clock_task: OnCpu rq.clock_task;
}
