//! Records into the ring.
//!
//! Owns the ring and the wake-up rule: a record wakes the reader only when much is waiting, since
//! a wake-up a record costs four times as much as the record (FACTS.md); the reader looks by itself
//! before each sample. A full ring loses the record and counts it, never the counters.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_buf},
    macros::map,
    maps::RingBuf,
};
use inferscope_common::{COMM_LEN, Header, Totals};

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
pub(crate) fn record<T: 'static>(lost: impl FnOnce(&mut Totals) -> &mut u64, fill: impl FnOnce(*mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        members::count(lost);
        return;
    };
    fill(entry.as_mut_ptr());
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let flags =
        if waiting >= u64::from(settings!(wake_at_bytes)) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(flags));
}

/// Every record begins with a [`Header`], of a group by its leader and its id in the tracer's namespace.
#[inline(always)]
pub(crate) fn header<T>(record: *mut T, kind: u32, leader: Task, tgid: u32) {
    let header = Header {
        kind,
        tgid,
        host_tgid: leader.tgid(),
        _pad: 0,
        // SAFETY: a helper without arguments.
        t_ns: unsafe { bpf_ktime_get_ns() },
        start_boottime_ns: leader.start_boottime(),
    };
    // SAFETY: within the reserved entry.
    unsafe { record.cast::<Header>().write(header) };
}

#[inline(always)]
pub(crate) fn comm(into: *mut [u8; COMM_LEN], task: Task) {
    // SAFETY: within the reserved entry.
    let into = unsafe { &mut *into };
    // SAFETY: the helper checks the address and zeroes the buffer where it can't read.
    let _ = unsafe { bpf_probe_read_kernel_buf(task.comm_ptr(), into) };
}
