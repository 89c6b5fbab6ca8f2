//! What the driver sampled between two polls, put on the one clock.
//!
//! Owns the mapping of the driver's stamps and its uncertainty, and that no sample is taken twice. Pure. Used by `device`.

use crate::clock::{Mono, Origin};
use crate::units::Nanos;

/// A stamp further away than this from now is of no clock that is known.
const FARTHEST_NS: u64 = 60_000_000_000;
/// Stamps are whole microseconds.
const ROUNDING: Nanos = Nanos(1_000);

/// The driver's clock, which the header only calls a CPU timestamp in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamps {
    /// CLOCK_REALTIME, as drivers do.
    Unix,
    Monotonic,
}

/// Where the clocks stood at a fetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetch {
    pub(super) before: Mono,
    pub(super) clocks: Origin,
}

/// One buffer's state: what was seen of it, and how its stamps are read.
#[derive(Debug, Default)]
pub(super) struct DriverSamples {
    stamps: Option<Stamps>,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC at the first fetch: a step of the clock moves samples.
    first_ahead: Option<u64>,
    pub(super) last_seen_us: u64,
    pub(super) error: Nanos,
    /// Stamps of no known clock.
    pub(super) unmapped: u64,
}

impl DriverSamples {
    /// The samples that are new, on the one clock.
    pub(super) fn take<T>(
        &mut self,
        samples: impl IntoIterator<Item = (u64, T)>,
        fetch: Fetch,
    ) -> Vec<(Mono, T)> {
        let seen = self.last_seen_us;
        let newer: Vec<_> = samples.into_iter().filter(|(us, _)| *us > seen).collect();
        let Some(newest) = newer.iter().map(|(us, _)| *us).max() else { return Vec::new() };
        let now = fetch.clocks.mono;
        let ahead = fetch.clocks.unix_ns.saturating_sub(now.0);
        if self.stamps.is_none() {
            self.stamps = read_as(newest, fetch);
        }
        let Some(stamps) = self.stamps else {
            self.unmapped += newer.len() as u64;
            return Vec::new();
        };
        self.last_seen_us = newest;
        let first = *self.first_ahead.get_or_insert(ahead);
        let offset = match stamps {
            Stamps::Unix => ahead,
            Stamps::Monotonic => 0,
        };
        let map = |us: u64| Mono(us.saturating_mul(1_000).saturating_sub(offset));
        // The stamp was taken before the fetch ended: what lies beyond shows how far off the mapping is.
        let beyond = map(newest).since(now);
        let moved = if stamps == Stamps::Unix { Nanos(first.abs_diff(ahead)) } else { Nanos::ZERO };
        self.error = self.error.max(ROUNDING + now.since(fetch.before) + beyond + moved);
        let mut mapped: Vec<_> = newer.into_iter().map(|(us, value)| (map(us), value)).collect();
        mapped.sort_by_key(|(t, _)| *t);
        mapped
    }
}

/// The clock on which the newest sample is not long ago.
fn read_as(newest_us: u64, fetch: Fetch) -> Option<Stamps> {
    let ns = newest_us.saturating_mul(1_000);
    let unix = ns.abs_diff(fetch.clocks.unix_ns);
    let monotonic = ns.abs_diff(fetch.clocks.mono.0);
    let (distance, stamps) =
        if unix <= monotonic { (unix, Stamps::Unix) } else { (monotonic, Stamps::Monotonic) };
    (distance < FARTHEST_NS).then_some(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: u64 = 1_760_000_000_000_000_000;

    fn fetch(mono_ms: u64, ahead: u64) -> Fetch {
        let mono = Mono(mono_ms * 1_000_000);
        let clocks = Origin { mono, unix_ns: mono.0 + ahead, boottime_ahead_ns: 0 };
        Fetch { before: Mono(mono.0 - 20_000), clocks }
    }

    #[test]
    fn stamps_of_either_clock_are_mapped_and_none_is_taken_twice() {
        for ahead in [UNIX, 0] {
            let mut buffered = DriverSamples::default();
            let stamp = |ms: u64| (ms * 1_000_000 + ahead) / 1_000;
            let first = buffered.take([(stamp(980), 1), (stamp(990), 2)], fetch(1_000, ahead.max(UNIX)));
            assert_eq!(first, [(Mono(980_000_000), 1), (Mono(990_000_000), 2)]);
            let second = buffered.take([(stamp(990), 2), (stamp(1_010), 3)], fetch(1_020, ahead.max(UNIX)));
            assert_eq!(second, [(Mono(1_010_000_000), 3)]);
            assert_eq!(buffered.error, Nanos(21_000));
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_widens_the_error() {
        let mut buffered = DriverSamples::default();
        let stamp = |ms: u64, ahead: u64| (ms * 1_000_000 + ahead) / 1_000;
        buffered.take([(stamp(990, UNIX), 1)], fetch(1_000, UNIX));
        let moved = UNIX + 5_000_000;
        buffered.take([(stamp(1_090, moved), 1)], fetch(1_100, moved));
        assert_eq!(buffered.error, Nanos(5_021_000));
    }

    #[test]
    fn stamps_of_no_known_clock_are_dropped_and_counted() {
        let mut buffered = DriverSamples::default();
        assert_eq!(buffered.take([(77, 1)], fetch(100_000_000, UNIX)), []);
        assert_eq!(buffered.unmapped, 1);
    }
}
