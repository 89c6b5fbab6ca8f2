//! Facts of the machine and of this process, for the report's `host` and `self`.

use std::fs;

use crate::report::model::Host;

pub(super) fn describe() -> Host {
    let line = |path: &str| fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
    let memory = fs::read_to_string("/proc/meminfo").ok();
    Host {
        hostname: line("/proc/sys/kernel/hostname"),
        kernel: line("/proc/sys/kernel/osrelease"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        cpus: std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()),
        memory_bytes: memory.as_deref().and_then(total_bytes),
    }
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// CPU time and peak RSS of this process (getrusage; `ru_maxrss` is in KiB on Linux).
pub(super) fn own_usage() -> (Option<u64>, Option<u64>) {
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to an rusage.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0;
    if failed {
        return (None, None);
    }
    let nanos = |t: libc::timeval| {
        let seconds = u64::try_from(t.tv_sec).ok()?;
        let micros = u64::try_from(t.tv_usec).ok()?;
        Some(seconds.saturating_mul(1_000_000_000).saturating_add(micros.saturating_mul(1_000)))
    };
    let cpu = nanos(usage.ru_utime).zip(nanos(usage.ru_stime)).map(|(u, s)| u.saturating_add(s));
    (cpu, u64::try_from(usage.ru_maxrss).ok().map(|kib| kib.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(total_bytes("MemTotal:  2048 kB\nMemFree: 1 kB\n"), Some(2_097_152));
        assert_eq!(total_bytes("nothing"), None);
    }
}
