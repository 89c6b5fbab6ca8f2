//! The clock that the report's timeline counts on.
//!
//! Owns one reading of CLOCK_MONOTONIC. Called by the test servers, which log with it.

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds.
///
/// # Panics
/// Never: the clock counts from boot.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    let [seconds, nanos] = [t.tv_sec, t.tv_nsec].map(|n| u64::try_from(n).expect("it counts from boot"));
    seconds * 1_000_000_000 + nanos
}
