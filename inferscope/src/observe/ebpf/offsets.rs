//! Field offsets of the running kernel, from its BTF.
//!
//! Owns the look-up; which fields, `inferscope_common::layout` declares. Pure. Called by `programs`.

use inferscope_common::Layout;
use inferscope_common::layout::{FIELDS, Field, Need};

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
    /// Whether the kernel has what is needed to find a process in some cgroup.
    pub(crate) const fn has_ancestors(&self) -> bool {
        self.layout.cgroup_ancestors != 0 || self.layout.cgroup_ancestor_ids != 0
    }
}

/// What the running kernel looks like.
pub(crate) struct Resolved {
    pub(crate) layout: Layout,
    /// `sched_process_exit` has the argument `group_dead`.
    pub(crate) exit_has_group_dead: bool,
    /// `mark_victim` has the task as its argument; before 6.9 it had a pid.
    pub(crate) oom_has_task: bool,
    /// The run queues are as expected, so that what runs on a CPU can be seen; else the first part that is not.
    pub(crate) on_cpu: Result<(), OffsetError>,
}

pub(crate) fn resolve(btf: &Btf<'_>) -> Result<Resolved, OffsetError> {
    if Holder::find(btf, "bpf_ringbuf").is_ok_and(|ring| may_sleep(&ring)) {
        return Err(OffsetError::SleepingRing);
    }
    let mut offsets = [0_u32; FIELDS.len()];
    let mut on_cpu = Ok(());
    let mut holder = None;
    for (offset, field) in offsets.iter_mut().zip(&FIELDS) {
        // Fields of a struct stand together, and looking for one by name takes a while.
        let found = match holder.take_if(|holder: &mut Holder<'_>| holder.of == field.of) {
            Some(same) => Ok(same),
            None => Holder::find(btf, field.of),
        };
        let found = found.and_then(|of| {
            let offset = of.resolve(field);
            holder = Some(of);
            offset
        });
        match (found, field.need) {
            (Ok(found), _) => *offset = found,
            (Err(_), Need::Optional) => {}
            (Err(e), Need::OnCpu) => on_cpu = on_cpu.and(Err(e)),
            (Err(e), Need::Tracker) => return Err(e),
        }
    }
    let layout: Layout = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&offsets));
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
        exit_has_group_dead: parameters(btf, "btf_trace_sched_process_exit").is_some_and(|n| n >= 3),
        oom_has_task: parameters(btf, "btf_trace_mark_victim").is_some_and(|n| n >= 3),
        on_cpu,
    })
}

/// Whether the ring's lock is a mutex with PREEMPT_RT, which a scheduler's tracepoint must not wait for. The version
/// does not decide it: the other kind of lock was taken over by older kernels.
fn may_sleep(ring: &Holder<'_>) -> bool {
    ring.offset(&["spinlock", "lock"]).is_ok()
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

    /// The first way to the field that there is; the error is the last one's.
    fn resolve(&self, field: &Field) -> Result<u32, OffsetError> {
        let mut found = self.size_bytes();
        for path in field.paths.iter().filter(|path| !path.is_empty()) {
            found = self.offset(path);
            if found.is_ok() {
                break;
            }
        }
        found
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
    fn with_struct<T>(name: &'static str, members: &[&str], ask: impl FnOnce(&Holder<'_>) -> T) -> T {
        let mut writer = Writer::default();
        writer.plain_struct(name, members);
        let bytes = writer.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        ask(&Holder::find(&btf, name).unwrap())
    }

    /// The place of the field that is declared with that first way.
    fn place(of: &str, first: &[&str]) -> usize {
        FIELDS.iter().position(|field| field.of == of && field.paths[0] == first).expect("it is declared")
    }

    fn resolved(of: &'static str, first: &[&str], members: &[&str]) -> Result<u32, String> {
        let field = FIELDS[place(of, first)];
        with_struct(of, members, |holder| holder.resolve(&field).map_err(|e| e.to_string()))
    }

    #[test]
    fn the_layout_is_the_declared_fields_in_their_order() {
        let numbers: Vec<u32> = (0..).take(FIELDS.len()).collect();
        let layout: Layout = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&numbers));
        let at = |of, first: &[&str]| u32::try_from(place(of, first)).unwrap();
        assert_eq!(layout.task_pid, at("task_struct", &["pid"]));
        assert_eq!(layout.task_sum_exec_runtime, at("task_struct", &["se", "sum_exec_runtime"]));
        assert_eq!(layout.cgroup_kn, at("cgroup", &["kn"]));
        assert_eq!(layout.upid_size, at("upid", &[]));
        assert_eq!(layout.rq_clock_task, at("rq", &["clock_task"]));
    }

    #[test]
    fn a_cgroups_ancestors_are_pointers_or_before_6_1_ids_or_not_asked_for() {
        let both = |members: &[&str]| {
            ["ancestors", "ancestor_ids"].map(|name| resolved("cgroup", &[name], members).unwrap_or(0))
        };
        assert_eq!(both(&["kn", "level", "ancestors"]), [16, 0]);
        assert_eq!(both(&["kn", "level", "x", "ancestor_ids"]), [0, 24]);
        assert_eq!(both(&["kn", "level"]), [0, 0]);
        let needs = ["ancestors", "ancestor_ids"].map(|name| FIELDS[place("cgroup", &[name])].need);
        assert_eq!(needs, [Need::Optional; 2]);
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
        let state = |members: &[&str]| resolved("task_struct", &["__state"], members);
        assert_eq!(state(&["a", "__state"]), Ok(8));
        assert_eq!(state(&["a", "b", "state"]), Ok(16));
        assert_eq!(state(&["a"]), Err("this kernel's struct task_struct has no field state".to_owned()));
    }

    #[test]
    fn a_struct_that_is_asked_for_without_a_field_has_its_size() {
        // As the writer of the types says.
        assert_eq!(resolved("upid", &[], &["nr", "ns"]), Ok(64));
    }
}
