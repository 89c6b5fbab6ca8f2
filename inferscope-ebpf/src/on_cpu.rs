//! What runs on each CPU at this moment, and up to when its run time is charged.
//!
//! Owns the look at the CPUs' run queues. Attached to nothing: user space runs it when it wants to know
//! (`BPF_PROG_TEST_RUN`), so that it costs the followed processes nothing. Never marks or counts anything, never
//! follows a pointer but through the helper that checks it: another CPU changes what is read here meanwhile.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};
use inferscope_common::OnCpu;

use crate::{layout, looped, settings, task::probe_or_zero};

/// `BPF_F_MMAPABLE`: user space reads it without a call.
const MMAPABLE: u32 = 1 << 10;

/// An entry a CPU and the looker's own, by which user space knows what the scheduler's clock shows. Resized by user
/// space before loading; a CPU beyond it is not looked at.
#[map]
static ON_CPU: Array<OnCpu> = Array::with_max_entries(1, MMAPABLE);

/// Looks at one CPU that changes meanwhile.
const MAX_LOOKS: u32 = 3;

/// The run queues of any task group: an array of pointers, by CPU.
#[repr(C)]
struct Queues {
    by_cpu: u64,
}

/// The looker itself comes first: user space has just had its run time charged, and knows when.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/on_cpu")]
extern "C" fn on_cpu(_ctx: *const c_void) -> i32 {
    // SAFETY: a helper without arguments.
    let t_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: as above.
    let current = unsafe { bpf_get_current_task() };
    let group = pointer(current, layout!(task_sched_task_group));
    let mut queues = Queues { by_cpu: pointer(group, layout!(task_group_cfs_rq)) };
    let cpus = settings!(cpus);
    // SAFETY: as above.
    let own = unsafe { bpf_get_smp_processor_id() };
    if let Some(entry) = ON_CPU.get_ptr_mut(cpus) {
        // It moves from CPU to CPU.
        // SAFETY: an entry of the map; one look is made at a time.
        unsafe { (*entry).queue = 0 };
        // SAFETY: as above.
        unsafe { (*entry).t_ns = t_ns };
        look(own, entry, &queues);
    }
    looped::over(&ON_CPU, look_at, &mut queues);
    0
}

extern "C" fn look_at(_: *const c_void, cpu: *const u32, entry: *mut OnCpu, queues: *mut Queues) -> i64 {
    // SAFETY: the helper hands over the entry's index.
    let cpu = unsafe { *cpu };
    // The last one is the looker's own.
    if cpu >= settings!(cpus) {
        return looped::STOP;
    }
    // SAFETY: the pointer that `on_cpu` hands over.
    look(cpu, entry, unsafe { &*queues });
    looped::GO_ON
}

#[inline(always)]
fn look(cpu: u32, entry: *mut OnCpu, queues: &Queues) {
    // SAFETY: an entry of the map; one look is made at a time.
    let entry = unsafe { &mut *entry };
    entry.host_tid = 0;
    if entry.queue == 0 {
        let of_group = pointer(queues.by_cpu, cpu.wrapping_mul(8));
        entry.queue = pointer(of_group, layout!(cfs_rq_rq));
    }
    let queue = entry.queue;
    let task = pointer(queue, layout!(rq_curr));
    // Every CPU's idle task has the id 0.
    let tid: u32 = number(task, layout!(task_pid));
    if queue == 0 || tid == 0 {
        return;
    }
    entry.host_tgid = number(task, layout!(task_tgid));
    entry.start_boottime_ns = number(pointer(task, layout!(task_group_leader)), layout!(task_start_boottime));
    let mut turn = 0;
    while turn < MAX_LOOKS {
        let charged_at: u64 = number(task, layout!(task_exec_start));
        let clock: u64 = number(queue, layout!(rq_clock));
        let clock_task: u64 = number(queue, layout!(rq_clock_task));
        let same = number::<u64>(queue, layout!(rq_clock)) == clock
            && number::<u64>(task, layout!(task_exec_start)) == charged_at
            && pointer(queue, layout!(rq_curr)) == task;
        if same {
            entry.charged_at = charged_at;
            entry.behind = clock.wrapping_sub(clock_task);
            entry.host_tid = tid;
            return;
        }
        turn += 1;
    }
}

#[inline(always)]
fn pointer(base: u64, offset: u32) -> u64 {
    number(base, offset)
}

#[inline(always)]
fn number<T: bytemuck::Pod>(base: u64, offset: u32) -> T {
    probe_or_zero(base as *const u8, offset)
}
