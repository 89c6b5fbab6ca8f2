//! When a started `inferscope` sees everything.
//!
//! Owns the one sign of it that can be seen from outside: the thread `observer` (`observe::Observer::start`)
//! is started when the kernel program is attached, the living are in the set and the first sample is taken.
//! Called by whoever starts a load of its own beside `inferscope observe`.

use std::fs;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// Waits until the process observes.
///
/// # Panics
/// When it does not within 30 seconds, or ends.
pub fn wait_until_observing(pid: u32) {
    let deadline = Instant::now() + LIMIT;
    while !has_thread(pid, "observer") {
        assert!(Instant::now() < deadline, "inferscope ({pid}) does not observe after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn has_thread(pid: u32, name: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let comms = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    comms.into_iter().any(|comm| comm.trim() == name)
}
