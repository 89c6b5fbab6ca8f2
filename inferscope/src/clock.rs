//! The one clock: CLOCK_MONOTONIC, as the kernel's `bpf_ktime_get_ns` stamps it.
//!
//! Owns the stamp type, stretches of time, the run's origin, and the only call of `clock_gettime` for stamps. Never
//! formats times. The edges (`load`, `observe`, `session`) call [`Mono::now`]; everything else gets the time as an
//! argument.

use rustix::time::{ClockId, clock_gettime};

use crate::units::Nanos;

/// A point on CLOCK_MONOTONIC, in nanoseconds since boot (time asleep not counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    #[must_use]
    pub fn now() -> Self {
        Self(read_ns(ClockId::Monotonic))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub const fn plus(self, n: Nanos) -> Self {
        Self(self.0.saturating_add(n.0))
    }
}

/// A stretch of time: of a load, a phase, a step, a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    pub from: Mono,
    pub to: Mono,
}

impl Window {
    #[must_use]
    pub const fn length(self) -> Nanos {
        self.to.since(self.from)
    }

    #[must_use]
    pub fn holds(self, t: Mono) -> bool {
        (self.from..=self.to).contains(&t)
    }

    /// Some of it lies between the two.
    #[must_use]
    pub fn meets(self, from: Mono, to: Mono) -> bool {
        from <= self.to && to >= self.from
    }
}

/// The run's zero: every `…_ns` on the report's timeline counts from `mono`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub mono: Mono,
    /// CLOCK_REALTIME at the same moment, nanoseconds since 1970.
    pub unix_ns: u64,
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC: the time that the machine was asleep. The kernel keeps a process's start
    /// on CLOCK_BOOTTIME; this offset brings it onto the timeline.
    pub boottime_ahead_ns: u64,
}

impl Origin {
    /// Reads the three clocks together. The monotonic reads bracket the others, and the tightest of a few brackets is
    /// kept, so the origin is right to about a microsecond.
    #[must_use]
    pub fn now() -> Self {
        let take = || {
            let before = Mono::now();
            let unix_ns = read_ns(ClockId::Realtime);
            let boot_ns = read_ns(ClockId::Boottime);
            let after = Mono::now();
            let mid = Mono(before.0 + after.since(before).0 / 2);
            let boottime_ahead_ns = boot_ns.saturating_sub(mid.0);
            (after.since(before), Self { mono: mid, unix_ns, boottime_ahead_ns })
        };
        let mut best = take();
        for _ in 0..4 {
            let next = take();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// `t` on the run's timeline. A time before the origin becomes zero.
    #[must_use]
    pub const fn at(self, t: Mono) -> Nanos {
        t.since(self.mono)
    }

    /// A CLOCK_BOOTTIME stamp on the one clock, as if the machine had not slept since; zero before its boot.
    #[must_use]
    pub const fn of_boottime(self, boottime_ns: u64) -> Mono {
        Mono(boottime_ns.saturating_sub(self.boottime_ahead_ns))
    }

    /// A CLOCK_BOOTTIME stamp on the run's timeline; negative before the origin.
    #[must_use]
    pub fn at_boottime(self, boottime_ns: u64) -> i64 {
        let zero = i128::from(self.mono.0) + i128::from(self.boottime_ahead_ns);
        let ns = i128::from(boottime_ns) - zero;
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }
}

/// CLOCK_MONOTONIC and CLOCK_REALTIME at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BothClocks {
    pub mono: Mono,
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
}

impl BothClocks {
    /// Longest time between the reads.
    pub const APART: Nanos = Nanos(20_000);

    /// Reads both clocks at most [`Self::APART`] from each other. `None`: the thread was descheduled between the reads
    /// in each attempt.
    #[must_use]
    pub fn now() -> Option<Self> {
        (0..4).find_map(|_| {
            let mono = Mono::now();
            let unix_ns = read_ns(ClockId::Realtime);
            (Mono::now().since(mono) <= Self::APART).then_some(Self { mono, unix_ns })
        })
    }
}

fn read_ns(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    // Kernel clocks since boot or 1970 are never negative.
    u64::try_from(t.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + u64::try_from(t.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boottime_before_the_origin_is_negative() {
        let origin = Origin { mono: Mono(1_000), unix_ns: 0, boottime_ahead_ns: 50 };
        assert_eq!(origin.at_boottime(1_050), 0);
        assert_eq!(origin.at_boottime(1_000), -50);
        assert_eq!(origin.at(Mono(900)), Nanos::ZERO);
    }

    #[test]
    fn the_monotonic_clock_is_the_one_rust_and_the_kernel_use() {
        let before = std::time::Instant::now();
        let a = Mono::now();
        let b = Mono::now();
        assert!(b >= a);
        assert!(b.since(a).to_duration() <= before.elapsed());
    }
}
