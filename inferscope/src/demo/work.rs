//! Simulated work: memory that is really touched, and CPU time that is really used.
//!
//! Owns the ways of using memory and CPU time, and the names of threads; never decides how much. Called by the arbiter,
//! the workers and the helper.

use std::ffi::CStr;
use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Names the calling thread, which also names a process of one thread in /proc.
pub(super) fn name_thread(name: &CStr) {
    // A failure changes only the name that is shown.
    let _ = rustix::thread::set_name(name);
}

/// Resident memory of this size. Every byte is written, so no page stays the kernel's shared zero page.
pub(super) fn touched(bytes: usize) -> Vec<u8> {
    black_box(vec![0xa5; bytes])
}

/// Keeps the calling thread busy until it has used this much CPU time, however long that takes.
pub(super) fn burn(cpu: Duration) {
    let end = thread_cpu() + cpu;
    let mut state = 1_u64;
    while thread_cpu() < end {
        for _ in 0..1_000 {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

fn thread_cpu() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    // A CPU clock counts from zero.
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_uses_the_cpu_time_it_was_told_to() {
        let before = thread_cpu();
        burn(Duration::from_millis(3));
        let used = thread_cpu() - before;
        assert!(used >= Duration::from_millis(3), "{used:?}");
    }
}
