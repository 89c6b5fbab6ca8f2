//! Typed reads of kernel structs.
//!
//! Owns every offset-based load. A [`Task`] wraps a pointer that the verifier knows as a
//! `task_struct`, so its fields are plain loads; never keeps one across a program run.

use aya_ebpf::bindings::task_struct;

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

macro_rules! signal_getters {
    ($($name:ident: $read:ident($field:ident) -> $ty:ty),+ $(,)?) => {
        $(#[inline(always)]
        pub(crate) fn $name(self) -> $ty {
            $read(self.signal(), layout!($field))
        })+
    };
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

    #[inline(always)]
    pub(crate) fn comm_ptr(self) -> *const u8 {
        at(self.0, layout!(task_comm))
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
    fn signal(self) -> *const u8 {
        read_ptr(self.0, layout!(task_signal))
    }

    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        let set = read_ptr(self.0, layout!(task_cgroups));
        cgroup_id(read_ptr(set, layout!(css_set_dfl_cgrp)))
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
    pub(crate) fn wait_status(self) -> u32 {
        const SIGNAL_GROUP_EXIT: u32 = 4;
        let signal = self.signal();
        if read_u32(signal, layout!(signal_flags)) & SIGNAL_GROUP_EXIT != 0 {
            read_u32(signal, layout!(signal_group_exit_code))
        } else {
            read_u32(self.0, layout!(task_exit_code))
        }
    }

    getters! {
        pid: read_u32(task_pid) -> u32,
        tgid: read_u32(task_tgid) -> u32,
        start_boottime: read_u64(task_start_boottime) -> u64,
        utime: read_u64(task_utime) -> u64,
        stime: read_u64(task_stime) -> u64,
        sum_exec_runtime: read_u64(task_sum_exec_runtime) -> u64,
        nvcsw: read_u64(task_nvcsw) -> u64,
        nivcsw: read_u64(task_nivcsw) -> u64,
        min_flt: read_u64(task_min_flt) -> u64,
        maj_flt: read_u64(task_maj_flt) -> u64,
    }

    signal_getters! {
        signal_live: read_u32(signal_live) -> u32,
        signal_nr_threads: read_u32(signal_nr_threads) -> u32,
        signal_utime: read_u64(signal_utime) -> u64,
        signal_stime: read_u64(signal_stime) -> u64,
        signal_sum_sched_runtime: read_u64(signal_sum_sched_runtime) -> u64,
        signal_maxrss: read_u64(signal_maxrss) -> u64,
        signal_min_flt: read_u64(signal_min_flt) -> u64,
        signal_maj_flt: read_u64(signal_maj_flt) -> u64,
        signal_nvcsw: read_u64(signal_nvcsw) -> u64,
        signal_nivcsw: read_u64(signal_nivcsw) -> u64,
    }
}
