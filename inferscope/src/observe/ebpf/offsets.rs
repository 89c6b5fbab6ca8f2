//! Field offsets of the running kernel, from its BTF.
//!
//! Owns the list of fields that the kernel program reads. Pure. Called by the loader.

use inferscope_common::Layout;

use super::btf::{Btf, Named};

/// A struct or field that this kernel lacks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OffsetError {
    #[error("this kernel's BTF has no struct {0}")]
    NoStruct(&'static str),
    #[error("this kernel's struct {of} has no field {field}")]
    Missing { of: &'static str, field: &'static str },
    #[error("this kernel's task_struct does not keep {0} side by side")]
    Apart(&'static str),
    /// Older than its mending (6.12, and what took it over), with PREEMPT_RT.
    #[error(
        "this kernel (PREEMPT_RT) may sleep for the lock of the tracker's ring where it must not; 6.12 and later do not"
    )]
    SleepingRing,
}

impl Resolved {
    /// Whether it can be told that a process is in some cgroup.
    pub(crate) const fn tells_ancestors(&self) -> bool {
        self.layout.cgroup_ancestors != 0 || self.layout.cgroup_ancestor_ids != 0
    }
}

/// What the running kernel looks like.
pub(crate) struct Resolved {
    pub(crate) layout: Layout,
    /// `sched_process_exit` tells `group_dead`.
    pub(crate) exit_tells_group_dead: bool,
    /// `mark_victim` tells the task; before 6.9 it told a pid.
    pub(crate) oom_tells_task: bool,
    /// The run queues are as expected, so that it can be told what runs on a CPU; else the first part that is not.
    pub(crate) on_cpu: Result<(), OffsetError>,
}

pub(crate) fn resolve(btf: &Btf<'_>) -> Result<Resolved, OffsetError> {
    let holder = |of| Holder::find(btf, of);
    if holder("bpf_ringbuf").is_ok_and(|ring| may_sleep(&ring)) {
        return Err(OffsetError::SleepingRing);
    }
    let (task_struct, signal_struct) = (holder("task_struct")?, holder("signal_struct")?);
    let task = |field| task_struct.offset(&[field]);
    let signal = |field| signal_struct.offset(&[field]);
    let (cgroup, mm, upid) = (holder("cgroup")?, holder("mm_struct")?, holder("upid")?);
    let pid = holder("pid")?;
    let (cgroup_ancestors, cgroup_ancestor_ids) = ancestors(&cgroup);
    let mut layout = Layout {
        task_pid: task("pid")?,
        task_tgid: task("tgid")?,
        task_comm: task("comm")?,
        task_group_leader: task("group_leader")?,
        task_real_parent: task("real_parent")?,
        // Renamed in 5.5.
        task_start_boottime: task("start_boottime").or_else(|_| task("real_start_time"))?,
        task_signal: task("signal")?,
        task_mm: task("mm")?,
        task_cgroups: task("cgroups")?,
        task_exit_code: task("exit_code")?,
        task_utime: task("utime")?,
        task_stime: task("stime")?,
        task_sum_exec_runtime: task_struct.offset(&["se", "sum_exec_runtime"])?,
        task_nvcsw: task("nvcsw")?,
        task_nivcsw: task("nivcsw")?,
        task_min_flt: task("min_flt")?,
        task_maj_flt: task("maj_flt")?,
        task_thread_node: task("thread_node")?,
        task_thread_pid: task("thread_pid")?,
        task_state: state(&task_struct)?,
        // Without it, execs of which no run of the program told are not found.
        task_self_exec_id: task("self_exec_id").unwrap_or(0),
        // `atomic_t`, whose only field is its counter.
        signal_live: signal("live")?,
        signal_nr_threads: signal("nr_threads")?,
        signal_flags: signal("flags")?,
        signal_group_exit_code: signal("group_exit_code")?,
        signal_utime: signal("utime")?,
        signal_stime: signal("stime")?,
        signal_sum_sched_runtime: signal("sum_sched_runtime")?,
        signal_maxrss: signal("maxrss")?,
        signal_min_flt: signal("min_flt")?,
        signal_maj_flt: signal("maj_flt")?,
        signal_nvcsw: signal("nvcsw")?,
        signal_nivcsw: signal("nivcsw")?,
        signal_thread_head: signal("thread_head")?,
        // Without it a look at a group that changes meanwhile is not repeated.
        signal_stats_seq: signal_struct
            .offset(&["stats_lock", "seqcount", "seqcount", "sequence"])
            .unwrap_or(0),
        css_set_dfl_cgrp: holder("css_set")?.offset(&["dfl_cgrp"])?,
        cgroup_kn: cgroup.offset(&["kn"])?,
        cgroup_level: cgroup.offset(&["level"])?,
        cgroup_ancestors,
        cgroup_ancestor_ids,
        kernfs_node_id: holder("kernfs_node")?.offset(&["id"])?,
        mm_arg_start: mm.offset(&["arg_start"])?,
        mm_arg_end: mm.offset(&["arg_end"])?,
        binprm_filename: holder("linux_binprm")?.offset(&["filename"])?,
        pid_level: pid.offset(&["level"])?,
        pid_numbers: pid.offset(&["numbers"])?,
        upid_nr: upid.offset(&["nr"])?,
        upid_ns: upid.offset(&["ns"])?,
        upid_size: upid.size_bytes()?,
        pid_namespace_inum: holder("pid_namespace")?.offset(&["ns", "inum"])?,
        ..Layout::default()
    };
    let on_cpu = run_queues(btf, &mut layout);
    // The kernel program reads these in pairs.
    for (of, first, second) in [
        ("utime, stime", layout.task_utime, layout.task_stime),
        ("nvcsw, nivcsw", layout.task_nvcsw, layout.task_nivcsw),
        ("min_flt, maj_flt", layout.task_min_flt, layout.task_maj_flt),
    ] {
        if second != first + 8 {
            return Err(OffsetError::Apart(of));
        }
    }
    Ok(Resolved {
        layout,
        exit_tells_group_dead: parameters(btf, "btf_trace_sched_process_exit").is_some_and(|n| n >= 3),
        oom_tells_task: parameters(btf, "btf_trace_mark_victim").is_some_and(|n| n >= 3),
        on_cpu,
    })
}

/// Pointers since 6.1; before there were only their ids. One of the two is 0, and both on a kernel that can have no
/// cgroup for its target.
fn ancestors(cgroup: &Holder<'_>) -> (u32, u32) {
    match cgroup.offset(&["ancestors"]) {
        Ok(pointers) => (pointers, 0),
        Err(_) => (0, cgroup.offset(&["ancestor_ids"]).unwrap_or(0)),
    }
}

/// Whether the ring's lock is a mutex with PREEMPT_RT, which a scheduler's tracepoint must not wait for. Versions don't
/// tell: the other kind of lock was taken over by older kernels.
fn may_sleep(ring: &Holder<'_>) -> bool {
    ring.offset(&["spinlock", "lock"]).is_ok()
}

/// Renamed in 5.14, when it became 32 bits wide; of its 64 before, the lower ones are read.
fn state(task: &Holder<'_>) -> Result<u32, OffsetError> {
    task.offset(&["__state"]).or_else(|_| task.offset(&["state"]))
}

/// The way from a task to every CPU's run queue leads through its group's, which there are with
/// CONFIG_FAIR_GROUP_SCHED.
fn run_queues(btf: &Btf<'_>, layout: &mut Layout) -> Result<(), OffsetError> {
    let task = Holder::find(btf, "task_struct")?;
    let queue = Holder::find(btf, "rq")?;
    layout.task_exec_start = task.offset(&["se", "exec_start"])?;
    layout.task_sched_task_group = task.offset(&["sched_task_group"])?;
    layout.task_group_cfs_rq = Holder::find(btf, "task_group")?.offset(&["cfs_rq"])?;
    layout.cfs_rq_rq = Holder::find(btf, "cfs_rq")?.offset(&["rq"])?;
    layout.rq_curr = queue.offset(&["curr"])?;
    layout.rq_clock = queue.offset(&["clock"])?;
    layout.rq_clock_task = queue.offset(&["clock_task"])?;
    Ok(())
}

/// A struct and its name.
struct Holder<'a> {
    btf: &'a Btf<'a>,
    of: &'static str,
    id: u32,
}

impl<'a> Holder<'a> {
    fn find(btf: &'a Btf<'a>, of: &'static str) -> Result<Self, OffsetError> {
        let id = btf.find(Named::Struct, of).ok_or(OffsetError::NoStruct(of))?;
        Ok(Self { btf, of, id })
    }

    fn size_bytes(&self) -> Result<u32, OffsetError> {
        self.btf.size_bytes(self.id).ok_or(OffsetError::NoStruct(self.of))
    }

    /// Byte offset of the field that `path` leads to, through structs held by value.
    fn offset(&self, path: &[&'static str]) -> Result<u32, OffsetError> {
        let mut bytes = 0_u32;
        let mut holder = self.id;
        for &field in path {
            let missing = OffsetError::Missing { of: self.of, field };
            let member = self.btf.member(holder, field).ok_or(missing)?;
            bytes = bytes.saturating_add(member.offset_bytes);
            holder = member.ty;
        }
        Ok(bytes)
    }
}

/// A tracepoint's `btf_trace_…` is a typedef of a pointer to the function; its first parameter is the
/// tracepoint's private data. `None`: this kernel has no such tracepoint.
fn parameters(btf: &Btf<'_>, tracepoint: &str) -> Option<usize> {
    btf.parameters(btf.find(Named::Typedef, tracepoint)?)
}

#[cfg(test)]
mod tests {
    use super::super::btf::tests::Writer;
    use super::*;

    /// A struct with these members, 8 bytes each.
    fn asked<T>(name: &'static str, members: &[&str], ask: impl FnOnce(&Holder<'_>) -> T) -> T {
        let mut writer = Writer::default();
        writer.plain_struct(name, members);
        let bytes = writer.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        ask(&Holder::find(&btf, name).unwrap())
    }

    #[test]
    fn a_cgroups_ancestors_are_pointers_or_before_6_1_ids_or_not_asked_for() {
        assert_eq!(asked("cgroup", &["kn", "level", "ancestors"], ancestors), (16, 0));
        assert_eq!(asked("cgroup", &["kn", "level", "x", "ancestor_ids"], ancestors), (0, 24));
        assert_eq!(asked("cgroup", &["kn", "level"], ancestors), (0, 0));
    }

    #[test]
    fn a_ring_whose_lock_may_sleep_is_told_from_one_whose_lock_spins() {
        // A lock with the first member of that name: PREEMPT_RT's spinlock_t has `lock`, raw_spinlock_t `raw_lock`.
        let sleeps = |lock: &str| {
            let mut writer = Writer::default();
            let of = writer.plain_struct("a_lock", &[lock]);
            writer.struct_of("bpf_ringbuf", &[("mask", of), ("spinlock", of)]);
            let bytes = writer.bytes();
            may_sleep(&Holder::find(&Btf::parse(&bytes).unwrap(), "bpf_ringbuf").unwrap())
        };
        assert_eq!(["lock", "raw_lock", "rlock", "val"].map(sleeps), [true, false, false, false]);
    }

    #[test]
    fn a_tasks_state_is_found_by_its_old_name_too() {
        assert_eq!(asked("task_struct", &["a", "__state"], |task| state(task).ok()), Some(8));
        assert_eq!(asked("task_struct", &["a", "b", "state"], |task| state(task).ok()), Some(16));
        assert_eq!(asked("task_struct", &["a"], |task| state(task).ok()), None);
    }
}
