//! Records into the ring.
//!
//! Owns the ring and the wake-up rule: a record wakes the reader only when much is waiting, since
//! a wake-up costs four times as much as a record; the reader looks by itself
//! before each sample. A full ring loses the record and counts it, never the counters.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::RingBuf,
};
use inferscope_common::event::{Header, WireRecord};

use crate::{members, settings, task::Task};

/// Resized by user space before loading. 20 ms of a fork storm (some 1,000 records) fit in 256 KiB.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Writes a record; `make` is not called where the ring is full.
#[inline(always)]
pub(crate) fn record<R: WireRecord>(make: impl FnOnce() -> R) {
    // SAFETY: the reserved entry has that size.
    in_place(|entry: *mut R| unsafe { entry.write(make()) });
}

/// Reserves a record that the 512-byte stack has no room for, lets `fill` write it in place, and submits it.
#[inline(always)]
pub(crate) fn in_place<R: WireRecord>(fill: impl FnOnce(*mut R)) {
    let Some(mut entry) = EVENTS.reserve::<R>(0) else {
        members::count(R::lost);
        return;
    };
    fill(entry.as_mut_ptr());
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let flags =
        if waiting >= u64::from(settings!(wake_at_bytes)) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(flags));
}

/// The start of a record of the group of that leader, whose id in the tracer's namespace is `tgid`, as of now.
#[inline(always)]
pub(crate) fn header<R: WireRecord>(leader: Task, tgid: u32) -> Header {
    // SAFETY: a helper without arguments.
    header_at::<R>(leader, tgid, unsafe { bpf_ktime_get_ns() })
}

#[inline(always)]
pub(crate) fn header_at<R: WireRecord>(leader: Task, tgid: u32, t_ns: u64) -> Header {
    Header {
        kind: R::KIND,
        tgid,
        host_tgid: leader.tgid(),
        _pad: 0,
        t_ns,
        start_boottime_ns: leader.start_boottime(),
    }
}
