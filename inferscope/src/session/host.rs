//! Facts of the machine and of this process, for the report's `host` and `self`.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::cpus;
use crate::observe::proc::text;
use crate::report::model::Host;

pub(super) fn describe() -> Host {
    let line = |path: &str| fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
    let memory = fs::read_to_string("/proc/meminfo").ok();
    Host {
        hostname: line("/proc/sys/kernel/hostname"),
        kernel: line("/proc/sys/kernel/osrelease"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        cpus: cpus::online(),
        cpus_allowed: cpus::allowed(),
        cpu_quota: cpus::quota(),
        memory_bytes: memory.as_deref().and_then(|m| field(m, "MemTotal:")?.checked_mul(1024)),
    }
}

/// Notes how much CPU time the process had used before: whoever executed this program under the same pid.
pub(super) fn begin() {
    CPU_BEFORE.store(cpu_clock_ns(), Ordering::Relaxed);
}

/// CPU time of this process, all threads, since [`begin`].
pub(super) fn own_cpu_ns() -> u64 {
    cpu_clock_ns().saturating_sub(CPU_BEFORE.load(Ordering::Relaxed))
}

fn cpu_clock_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = t.tv_sec.unsigned_abs();
    seconds.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec.unsigned_abs())
}

/// The peak of this process's resident memory since it was executed: getrusage's `ru_maxrss` is that of whatever ran
/// under this pid before, too.
pub(super) fn own_peak_rss_bytes() -> Option<u64> {
    field(&own_status()?, "VmHWM:")?.checked_mul(1024)
}

/// Looks at how many threads there are, for the most of all looks.
pub(super) fn look_at_threads() {
    if let Some(now) = own_status().and_then(|status| field(&status, "Threads:")) {
        MOST_THREADS.fetch_max(now, Ordering::Relaxed);
    }
}

/// The most threads that any look saw; `None`: none could be taken.
pub(super) fn most_threads() -> Option<u64> {
    Some(MOST_THREADS.load(Ordering::Relaxed)).filter(|n| *n > 0)
}

/// Of the process, as its CPU clock and its threads are.
static CPU_BEFORE: AtomicU64 = AtomicU64::new(0);
static MOST_THREADS: AtomicU64 = AtomicU64::new(0);

fn own_status() -> Option<String> {
    text("/proc/self/status")
}

/// The number of a line `NAME: NUMBER [kB]`.
fn field(table: &str, name: &str) -> Option<u64> {
    table.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_by_its_whole_name() {
        let status = "VmPeak:\t  9 kB\nVmHWM:\t  2048 kB\nThreads:\t3\n";
        assert_eq!((field(status, "VmHWM:"), field(status, "Threads:")), (Some(2_048), Some(3)));
        assert_eq!(field(status, "VmRSS:"), None);
    }
}
