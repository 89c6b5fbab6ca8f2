//! How much CPU time a process has used, to the nanosecond.
//!
//! Owns the one reading. Called by benches, for the cost of what measures.

/// All threads and the ended ones included; `None` once it is gone.
#[must_use]
pub fn used_ns(pid: u32) -> Option<u64> {
    let mut clock = 0;
    // SAFETY: `clock` outlives the call.
    let failed = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(pid).ok()?, &raw mut clock) };
    if failed != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call; the clock of a process that is gone is an error.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some(u64::try_from(time.tv_sec).ok()? * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?)
}
