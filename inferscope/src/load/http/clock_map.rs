//! The mapping of the kernel's receive times to CLOCK_MONOTONIC.
//!
//! Owns the offset between CLOCK_REALTIME and CLOCK_MONOTONIC, and refuses a stamp that can't be mapped. Pure: both
//! clocks are arguments. Used by `read_stats`.
//!
//! The kernel slews both clocks together, so their offset changes only when somebody sets the wall clock. A stamp from
//! before such a step looks like one from after it. All stamps from before the step was noticed are therefore refused.

use crate::clock::{BothClocks, Mono};

/// Two readings of both clocks differ by less than this, unless the wall clock was set between them.
const STEP_NS: u64 = 4 * BothClocks::APART.0;

#[derive(Debug)]
pub(super) struct ClockMap {
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC.
    ahead_ns: i64,
    /// When this offset was first seen.
    since: Mono,
}

impl ClockMap {
    /// `None`: the two clocks could not be read together. The first stamp then sets the offset.
    pub(super) fn new(both: Option<BothClocks>) -> Self {
        let since = Mono(0);
        both.map_or(Self { ahead_ns: 0, since }, |both| Self { ahead_ns: ahead(both), since })
    }

    /// The receive time of a packet that the kernel stamped with `kernel_ns` and that was read at `now`. `None`:
    /// unknown.
    pub(super) fn mono(&mut self, kernel_ns: u64, now: BothClocks) -> Option<Mono> {
        let ahead_ns = ahead(now);
        if ahead_ns.abs_diff(self.ahead_ns) > STEP_NS {
            *self = Self { ahead_ns, since: now.mono };
            return None;
        }
        let mono = i64::try_from(kernel_ns).ok()?.checked_sub(self.ahead_ns)?;
        let received = Mono(u64::try_from(mono).ok()?);
        if received < self.since || received.since(now.mono) > BothClocks::APART {
            return None;
        }
        // The two clocks are read one after the other, so a stamp may be a little later than `now`.
        Some(received.min(now.mono))
    }
}

fn ahead(both: BothClocks) -> i64 {
    let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    signed(both.unix_ns) - signed(both.mono.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: u64 = 1_790_000_000_000_000_000;

    /// Both clocks at `mono`, the wall clock having been set by `step`.
    fn both(mono: u64, step: i64) -> BothClocks {
        BothClocks { mono: Mono(mono), unix_ns: (UNIX + mono).checked_add_signed(step).unwrap() }
    }

    #[test]
    fn a_stamp_comes_out_where_the_kernel_made_it() {
        let mut clock = ClockMap::new(Some(both(1_000, 0)));
        assert_eq!(clock.mono(UNIX + 5_000_000, both(7_000_000, 0)), Some(Mono(5_000_000)));
        // Twelve seconds, the client having been stopped for as long.
        assert_eq!(clock.mono(UNIX + 6_000_000, both(12_006_000_000, 300)), Some(Mono(6_000_000)));
        assert_eq!(clock.mono(UNIX + 100, both(90, 0)), Some(Mono(90)), "never later than the reading");
        assert_eq!(clock.mono(UNIX + 1_000_000, both(90, 0)), None, "not received yet");
        assert_eq!(clock.mono(0, both(90, 0)), None);
    }

    #[test]
    fn after_the_clock_was_set_no_stamp_from_before_is_taken() {
        for step in [1_000_000_000, -1_000_000_000, 100_000, -100_000] {
            let mut clock = ClockMap::new(Some(both(0, 0)));
            let set = |mono: u64| both(mono, step);
            assert_eq!(clock.mono(UNIX + 10_000_000, set(11_000_000)), None, "read after the step");
            assert_eq!(clock.mono(UNIX + 10_500_000, set(11_200_000)), None, "another connection's");
            assert_eq!(clock.mono(set(12_000_000).unix_ns, set(13_000_000)), Some(Mono(12_000_000)));
        }
    }

    #[test]
    fn clocks_that_could_not_be_read_at_first_are_read_with_the_first_stamp() {
        let mut clock = ClockMap::new(None);
        assert_eq!(clock.mono(UNIX + 1_000, both(2_000, 0)), None);
        assert_eq!(clock.mono(UNIX + 3_000, both(4_000, 0)), Some(Mono(3_000)));
    }
}
