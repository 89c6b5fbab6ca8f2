//! What the kernel program and user space share: the records in the ring, the constants patched
//! into the program before it is loaded, and the counters that it keeps.
//!
//! Owns the wire layout (`repr(C)`, fixed-width integers, explicit padding, sizes asserted beside each type)
//! and nothing else. A `tgid` is a thread-group id of the tracer's own pid namespace, 0 where the
//! process is not visible there; a `host_tgid` is one of the initial namespace. Times are CLOCK_MONOTONIC
//! nanoseconds but for `start_boottime_ns` (CLOCK_BOOTTIME), which together with the host pid names a
//! process uniquely.

#![no_std]

pub mod event;
pub mod layout;

mod control;
mod on_cpu;
mod totals;
mod usage;

pub use control::{Control, MAX_ROOTS, Settings, mode};
pub use layout::Layout;
pub use on_cpu::OnCpu;
pub use totals::Totals;
pub use usage::{Run, Usage};

/// `TASK_COMM_LEN` (include/linux/sched.h).
pub const COMM_LEN: usize = 16;
