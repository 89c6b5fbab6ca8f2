//! Field offsets of the running kernel, from its BTF.
//!
//! Owns the list of fields that the kernel program reads. Pure but for the BTF file that
//! [`resolve`] is handed. Called by the loader. Takes about 0.2 s (FACTS.md).

use btf_rs::{Btf, Type};
use inferscope_common::Layout;

/// A field that this kernel lacks or BTF that can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OffsetError {
    #[error("the kernel's BTF can't be read: {0}")]
    Btf(String),
    #[error("this kernel's struct {of} has no field {field}")]
    Missing { of: &'static str, field: &'static str },
    #[error("this kernel's task_struct does not keep {0} side by side")]
    Apart(&'static str),
}

/// What the running kernel looks like.
pub(crate) struct Resolved {
    pub(crate) layout: Layout,
    /// `sched_process_exit` tells `group_dead`.
    pub(crate) exit_tells_group_dead: bool,
    /// `mark_victim` tells the task; before 6.9 it told a pid.
    pub(crate) oom_tells_task: bool,
    /// `sched_switch` tells `prev_state`; before 5.18 the task's own field did.
    pub(crate) switch_tells_state: bool,
}

pub(crate) fn resolve(btf: &Btf) -> Result<Resolved, OffsetError> {
    let task = |field| offset(btf, "task_struct", &[field]);
    let signal = |field| offset(btf, "signal_struct", &[field]);
    let layout = Layout {
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
        task_sum_exec_runtime: offset(btf, "task_struct", &["se", "sum_exec_runtime"])?,
        task_nvcsw: task("nvcsw")?,
        task_nivcsw: task("nivcsw")?,
        task_min_flt: task("min_flt")?,
        task_maj_flt: task("maj_flt")?,
        task_thread_node: task("thread_node")?,
        task_thread_pid: task("thread_pid")?,
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
        signal_stats_seq: offset(btf, "signal_struct", &["stats_lock", "seqcount", "seqcount", "sequence"])
            .unwrap_or(0),
        css_set_dfl_cgrp: offset(btf, "css_set", &["dfl_cgrp"])?,
        cgroup_kn: offset(btf, "cgroup", &["kn"])?,
        cgroup_level: offset(btf, "cgroup", &["level"])?,
        // Pointers since 6.1; before there were only their ids.
        cgroup_ancestors: offset(btf, "cgroup", &["ancestors"])?,
        kernfs_node_id: offset(btf, "kernfs_node", &["id"])?,
        mm_arg_start: offset(btf, "mm_struct", &["arg_start"])?,
        mm_arg_end: offset(btf, "mm_struct", &["arg_end"])?,
        binprm_filename: offset(btf, "linux_binprm", &["filename"])?,
        pid_level: offset(btf, "pid", &["level"])?,
        pid_numbers: offset(btf, "pid", &["numbers"])?,
        upid_nr: offset(btf, "upid", &["nr"])?,
        upid_ns: offset(btf, "upid", &["ns"])?,
        upid_size: size(btf, "upid")?,
        pid_namespace_inum: offset(btf, "pid_namespace", &["ns", "inum"])?,
    };
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
        switch_tells_state: parameters(btf, "btf_trace_sched_switch").is_some_and(|n| n >= 5),
    })
}

fn size(btf: &Btf, of: &'static str) -> Result<u32, OffsetError> {
    let types = btf.resolve_types_by_name(of).map_err(|e| OffsetError::Btf(e.to_string()))?;
    let found = types.into_iter().find_map(|t| if let Type::Struct(s) = t { Some(s) } else { None });
    let size = found.map(|s| s.size()).ok_or_else(|| OffsetError::Btf(format!("no struct {of}")))?;
    u32::try_from(size).map_err(|e| OffsetError::Btf(e.to_string()))
}

/// Byte offset of the field that `path` leads to, through structs held by value.
fn offset(btf: &Btf, of: &'static str, path: &[&'static str]) -> Result<u32, OffsetError> {
    let types = btf.resolve_types_by_name(of).map_err(|e| OffsetError::Btf(e.to_string()))?;
    let mut holder = types
        .into_iter()
        .find(|t| matches!(t, Type::Struct(_)))
        .ok_or_else(|| OffsetError::Btf(format!("no struct {of}")))?;
    let mut bytes = 0;
    for &field in path {
        let missing = OffsetError::Missing { of, field };
        let (at, inner) = find(btf, &holder, field, 0).ok_or(missing)?;
        bytes += at;
        holder = inner;
    }
    Ok(bytes)
}

/// A member by name, looked for in anonymous structs and unions too; with its type.
fn find(btf: &Btf, holder: &Type, field: &str, depth: u32) -> Option<(u32, Type)> {
    let members = match holder {
        Type::Struct(s) | Type::Union(s) => &s.members,
        _ => return None,
    };
    for member in members {
        let name = btf.resolve_name(member).unwrap_or_default();
        let at = member.bit_offset() / 8;
        if name == field {
            return Some((at, strip(btf, btf.resolve_chained_type(member).ok()?)));
        }
        if name.is_empty() && depth < 8 {
            let inner = strip(btf, btf.resolve_chained_type(member).ok()?);
            if let Some((within, ty)) = find(btf, &inner, field, depth + 1) {
                return Some((at + within, ty));
            }
        }
    }
    None
}

/// The type behind typedefs and qualifiers.
fn strip(btf: &Btf, mut ty: Type) -> Type {
    for _ in 0..8 {
        let next = match &ty {
            Type::Typedef(t) | Type::TypeTag(t) => btf.resolve_chained_type(t),
            Type::Volatile(t) | Type::Const(t) => btf.resolve_chained_type(t),
            _ => return ty,
        };
        match next {
            Ok(next) => ty = next,
            Err(_) => return ty,
        }
    }
    ty
}

/// A tracepoint's `btf_trace_…` is a typedef of a pointer to the function; its first parameter is the
/// tracepoint's private data. `None`: this kernel has no such tracepoint.
fn parameters(btf: &Btf, tracepoint: &str) -> Option<usize> {
    let typedef = btf
        .resolve_types_by_name(tracepoint)
        .ok()?
        .into_iter()
        .find_map(|t| if let Type::Typedef(t) = t { Some(t) } else { None })?;
    let Type::Ptr(pointer) = btf.resolve_chained_type(&typedef).ok()? else { return None };
    let Type::FuncProto(function) = btf.resolve_chained_type(&pointer).ok()? else { return None };
    Some(function.parameters.len())
}
