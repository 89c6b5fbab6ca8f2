//! Records into the ring.
//!
//! Owns the ring and the wake-up rule: a record wakes the reader only when much is waiting, since
//! a wake-up a record costs four times as much as the record (FACTS.md); the reader looks by itself
//! every 20 ms. A full ring loses the record and counts it, never the counters.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_buf},
    macros::map,
    maps::RingBuf,
};
use inferscope_common::{COMM_LEN, Header, Usage};

use crate::{members, settings, task::Task};

/// Resized by user space before loading. 20 ms of a fork storm (some 1,000 records) fit in 256 KiB.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// The address of a record's field.
#[macro_export]
macro_rules! record_field {
    ($record:expr, $field:ident) => {
        // SAFETY: an address within the reserved entry; nothing is read.
        unsafe { &raw mut (*$record).$field }
    };
}

/// Reserves a record, lets `fill` write it in place (the 512-byte stack has no room) and submits it.
#[inline(always)]
pub(crate) fn record<T: 'static>(fill: impl FnOnce(*mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        members::count(|t| t.ring_full += 1);
        return;
    };
    fill(entry.as_mut_ptr());
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let flags =
        if waiting >= u64::from(settings!(wake_at_bytes)) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(flags));
}

/// Every record begins with a [`Header`].
#[inline(always)]
pub(crate) fn header<T>(record: *mut T, kind: u32, task: Task) {
    let header = record.cast::<Header>();
    // SAFETY: within the reserved entry.
    unsafe { (*header).kind = kind };
    // SAFETY: as above.
    unsafe { (*header).tgid = task.tgid() };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: within the reserved entry.
    unsafe { (*header).t_ns = now };
    // SAFETY: as above.
    unsafe { (*header).start_boottime_ns = task.start_boottime() };
}

#[inline(always)]
pub(crate) fn comm(into: *mut [u8; COMM_LEN], task: Task) {
    // SAFETY: within the reserved entry.
    let into = unsafe { &mut *into };
    // SAFETY: the helper checks the address and zeroes the buffer where it can't read.
    let _ = unsafe { bpf_probe_read_kernel_buf(task.comm_ptr(), into) };
}

/// What the group's `signal_struct` holds: at free, everything.
#[inline(always)]
pub(crate) fn usage_of_group(into: *mut Usage, task: Task) {
    let usage = Usage {
        utime_ns: task.signal_utime(),
        stime_ns: task.signal_stime(),
        sum_exec_ns: task.signal_sum_sched_runtime(),
        maxrss_pages: task.signal_maxrss(),
        minor_faults: task.signal_min_flt(),
        major_faults: task.signal_maj_flt(),
        voluntary_switches: task.signal_nvcsw(),
        involuntary_switches: task.signal_nivcsw(),
    };
    // SAFETY: within the reserved entry.
    unsafe { into.write(usage) };
}

/// At exit the group's struct lacks the last thread, and the leader where that ended before it.
#[inline(always)]
pub(crate) fn usage_at_exit(into: *mut Usage, last: Task, leader: Task) {
    usage_of_group(into, last);
    add(into, last);
    if leader.pid() != last.pid() {
        add(into, leader);
    }
}

#[inline(always)]
fn add(into: *mut Usage, task: Task) {
    // SAFETY: within the reserved entry, written before.
    let usage = unsafe { &mut *into };
    usage.utime_ns += task.utime();
    usage.stime_ns += task.stime();
    usage.sum_exec_ns += task.sum_exec_runtime();
    usage.minor_faults += task.min_flt();
    usage.major_faults += task.maj_flt();
    usage.voluntary_switches += task.nvcsw();
    usage.involuntary_switches += task.nivcsw();
}
