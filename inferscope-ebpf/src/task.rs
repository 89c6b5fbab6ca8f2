//! Typed reads of kernel structs.
//!
//! Owns every offset-based load. A [`Task`] wraps a pointer that the verifier knows as a
//! `task_struct`, so its fields are plain loads; never keeps one across a program run. What the verifier
//! can't type (flexible arrays, list links) is read through the helper that checks the address (some 20 ns); so are
//! pointers that few events need, as for each load of a pointer the verifier searches all of the kernel's types.

use aya_ebpf::{
    bindings::task_struct,
    helpers::{bpf_probe_read_kernel, generated::bpf_probe_read_kernel as bpf_probe_read_kernel_raw},
};
use bytemuck::Pod;
use inferscope_common::COMM_LEN;

/// A field offset of the running kernel. Volatile, so that the compiler does not fold in the
/// placeholder that is patched before loading.
#[macro_export]
macro_rules! layout {
    ($field:ident) => {
        // SAFETY: a static of this program.
        unsafe { core::ptr::read_volatile(&raw const $crate::LAYOUT.$field) }
    };
}

/// A setting, read like [`layout!`].
#[macro_export]
macro_rules! settings {
    ($($field:tt)+) => {
        // SAFETY: a static of this program.
        unsafe { core::ptr::read_volatile(&raw const $crate::SETTINGS.$($field)+) }
    };
}

#[inline(always)]
fn at(base: *const u8, offset: u32) -> *const u8 {
    base.wrapping_add(offset as usize)
}

#[inline(always)]
pub(crate) fn read_ptr(base: *const u8, offset: u32) -> *const u8 {
    // SAFETY: the verifier checks that the field is a pointer of a known type.
    unsafe { core::ptr::read_volatile(at(base, offset).cast::<*const u8>()) }
}

#[inline(always)]
fn read_u64(base: *const u8, offset: u32) -> u64 {
    // SAFETY: the verifier checks that the field lies within the struct.
    unsafe { core::ptr::read_volatile(at(base, offset).cast::<u64>()) }
}

#[inline(always)]
fn read_u32(base: *const u8, offset: u32) -> u32 {
    // SAFETY: as in `read_u64`.
    unsafe { core::ptr::read_volatile(at(base, offset).cast::<u32>()) }
}

/// Reads where the verifier knows no type; `None` where the address can't be read.
#[inline(always)]
pub(crate) fn probe<T>(base: *const u8, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(at(base, offset).cast::<T>()) }.ok()
}

/// The same without a branch, which in a loop would double the verifier's work at each turn: the helper
/// zeroes what it can't read.
#[inline(always)]
pub(crate) fn probe_or_zero<T: Pod>(base: *const u8, offset: u32) -> T {
    let mut value = core::mem::MaybeUninit::<T>::zeroed();
    let from = at(base, offset).cast();
    // SAFETY: the destination has that size; the helper checks the address.
    let _ = unsafe { bpf_probe_read_kernel_raw(value.as_mut_ptr().cast(), size_of::<T>() as u32, from) };
    // SAFETY: all zeroes, and any other bytes, are a `T`.
    unsafe { value.assume_init() }
}

/// A v2 cgroup's id: the inode number of its directory.
#[inline(always)]
pub(crate) fn cgroup_id(cgroup: *const u8) -> u64 {
    let kn = read_ptr(cgroup, layout!(cgroup_kn));
    read_u64(kn, layout!(kernfs_node_id))
}

macro_rules! getters {
    ($($name:ident: $read:ident($field:ident) -> $ty:ty),+ $(,)?) => {
        $(#[inline(always)]
        pub(crate) fn $name(self) -> $ty {
            $read(self.0, layout!($field))
        })+
    };
}

/// A thread group's `signal_struct`. Taken once and kept: for every load of a pointer from a task the verifier
/// searches all of the kernel's types, half a millisecond at a time.
#[derive(Clone, Copy)]
pub(crate) struct Signal(*const u8);

impl Signal {
    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *const u8 {
        self.0
    }

    getters! {
        live: read_u32(signal_live) -> u32,
        nr_threads: read_u32(signal_nr_threads) -> u32,
        utime: read_u64(signal_utime) -> u64,
        stime: read_u64(signal_stime) -> u64,
        sum_sched_runtime: read_u64(signal_sum_sched_runtime) -> u64,
        maxrss: read_u64(signal_maxrss) -> u64,
        min_flt: read_u64(signal_min_flt) -> u64,
        maj_flt: read_u64(signal_maj_flt) -> u64,
        nvcsw: read_u64(signal_nvcsw) -> u64,
        nivcsw: read_u64(signal_nivcsw) -> u64,
        flags: read_u32(signal_flags) -> u32,
        group_exit_code: read_u32(signal_group_exit_code) -> u32,
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

impl Task {
    #[inline(always)]
    pub(crate) fn new(task: *const u8) -> Self {
        Self(task)
    }

    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut task_struct {
        self.0.cast_mut().cast()
    }

    /// Two loads; the helper that copies bytes takes as long as ten.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; COMM_LEN] {
        let halves = [0, 8].map(|more| read_u64(self.0, layout!(task_comm).wrapping_add(more)));
        bytemuck::cast(halves)
    }

    #[inline(always)]
    pub(crate) fn group_leader(self) -> Self {
        Self(read_ptr(self.0, layout!(task_group_leader)))
    }

    #[inline(always)]
    pub(crate) fn real_parent(self) -> Self {
        Self(read_ptr(self.0, layout!(task_real_parent)))
    }

    #[inline(always)]
    pub(crate) fn signal(self) -> Signal {
        Signal(read_ptr(self.0, layout!(task_signal)))
    }

    /// Its cgroup of the default (v2) hierarchy.
    #[inline(always)]
    pub(crate) fn cgroup(self) -> *const u8 {
        let set = read_ptr(self.0, layout!(task_cgroups));
        read_ptr(set, layout!(css_set_dfl_cgrp))
    }

    /// The same, where the verifier need not know what it is.
    #[inline(always)]
    fn probe_cgroup(self) -> *const u8 {
        let set = self.probe_ptr(layout!(task_cgroups));
        probe_or_zero::<u64>(set, layout!(css_set_dfl_cgrp)) as *const u8
    }

    #[inline(always)]
    fn probe_ptr(self, offset: u32) -> *const u8 {
        probe_or_zero::<u64>(self.0, offset) as *const u8
    }

    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        let kn = probe_or_zero::<u64>(self.probe_cgroup(), layout!(cgroup_kn)) as *const u8;
        probe_or_zero(kn, layout!(kernfs_node_id))
    }

    /// The depth of its cgroup below the hierarchy's root.
    #[inline(always)]
    pub(crate) fn cgroup_level(self) -> u32 {
        probe_or_zero(self.probe_cgroup(), layout!(cgroup_level))
    }

    /// Its count of execs; always 0 where the kernel has none.
    #[inline(always)]
    pub(crate) fn exec_id(self) -> u32 {
        match layout!(task_self_exec_id) {
            0 => 0,
            offset => read_u32(self.0, offset),
        }
    }

    /// Whether it is in the cgroup of that id and depth, or below. A cgroup's list of ancestors ends in itself.
    #[inline(always)]
    pub(crate) fn is_below_cgroup(self, id: u64, level: u32) -> bool {
        let cgroup = self.cgroup();
        if read_u32(cgroup, layout!(cgroup_level)) < level {
            return false;
        }
        // Of a branch that constants close the verifier sees nothing.
        let below = level.wrapping_mul(8);
        if layout!(cgroup_ancestors) == 0 {
            return probe::<u64>(cgroup, layout!(cgroup_ancestor_ids).wrapping_add(below)) == Some(id);
        }
        let at = layout!(cgroup_ancestors).wrapping_add(below);
        let Some(ancestor) = probe::<*const u8>(cgroup, at) else { return false };
        let Some(kn) = probe::<*const u8>(ancestor, layout!(cgroup_kn)) else { return false };
        probe::<u64>(kn, layout!(kernfs_node_id)) == Some(id)
    }

    /// Its group's id in the pid namespace of that depth and inode; 0 where it has none there. A freed task
    /// has none anywhere.
    #[inline(always)]
    pub(crate) fn tgid_in(self, level: u32, inode: u32) -> u32 {
        let leader = Self(self.probe_ptr(layout!(task_group_leader)));
        let Some((pid, depth)) = leader.pid_struct() else { return 0 };
        // Nesting deeper than the kernel's MAX_PID_NS_LEVEL does not exist.
        if depth < level || level > 32 {
            return 0;
        }
        let numbers = layout!(pid_numbers) + level * layout!(upid_size);
        let Some(ns) = probe::<*const u8>(pid, numbers + layout!(upid_ns)) else { return 0 };
        if probe::<u32>(ns, layout!(pid_namespace_inum)) != Some(inode) {
            return 0;
        }
        probe::<u32>(pid, numbers + layout!(upid_nr)).unwrap_or(0)
    }

    /// Depth and inode of its own pid namespace.
    #[inline(always)]
    pub(crate) fn pid_namespace(self) -> Option<(u32, u32)> {
        let (pid, depth) = self.pid_struct()?;
        if depth > 32 {
            return None;
        }
        let numbers = layout!(pid_numbers) + depth * layout!(upid_size);
        let ns = probe::<*const u8>(pid, numbers + layout!(upid_ns))?;
        Some((depth, probe::<u32>(ns, layout!(pid_namespace_inum))?))
    }

    #[inline(always)]
    fn pid_struct(self) -> Option<(*const u8, u32)> {
        let pid = self.probe_ptr(layout!(task_thread_pid));
        if pid.is_null() {
            return None;
        }
        Some((pid, probe::<u32>(pid, layout!(pid_level))?))
    }

    /// User address and length of the command line.
    #[inline(always)]
    pub(crate) fn argv(self) -> (u64, u64) {
        let mm = read_ptr(self.0, layout!(task_mm));
        if mm.is_null() {
            return (0, 0);
        }
        let start = read_u64(mm, layout!(mm_arg_start));
        let end = read_u64(mm, layout!(mm_arg_end));
        (start, end.saturating_sub(start))
    }

    /// The status that wait(2) will report for a dying leader (kernel/exit.c, `wait_task_zombie`).
    #[inline(always)]
    pub(crate) fn wait_status(self, signal: Signal) -> u32 {
        const SIGNAL_GROUP_EXIT: u32 = 4;
        if signal.flags() & SIGNAL_GROUP_EXIT != 0 {
            signal.group_exit_code()
        } else {
            read_u32(self.0, layout!(task_exit_code))
        }
    }

    getters! {
        pid: read_u32(task_pid) -> u32,
        tgid: read_u32(task_tgid) -> u32,
        state: read_u32(task_state) -> u32,
        start_boottime: read_u64(task_start_boottime) -> u64,
        utime: read_u64(task_utime) -> u64,
        stime: read_u64(task_stime) -> u64,
        sum_exec_runtime: read_u64(task_sum_exec_runtime) -> u64,
        nvcsw: read_u64(task_nvcsw) -> u64,
        nivcsw: read_u64(task_nivcsw) -> u64,
        min_flt: read_u64(task_min_flt) -> u64,
        maj_flt: read_u64(task_maj_flt) -> u64,
    }
}
