//! What a thread group used since its birth.

use bytemuck::{Pod, Zeroable};

/// CPU of a thread group since its birth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Run {
    /// What the scheduler has charged: all of it once a thread has left the CPU, up to the last tick while it runs.
    pub exec_ns: u64,
    /// Sampled by the tick; only the ratio of the two is meaningful (see `cputime_adjust`).
    pub utime_ns: u64,
    pub stime_ns: u64,
}

/// What a thread group used since its birth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Usage {
    pub run: Run,
    pub maxrss_pages: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

const _: () = {
    assert!(size_of::<Run>() == 24);
    assert!(size_of::<Usage>() == 64);
};
