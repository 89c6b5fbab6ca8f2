//! The due times of PSS readings.
//!
//! Pure: owns the schedule. A reading walks page tables and holds the process's memory map. It therefore happens once a
//! second and when the set's memory reaches a new peak, and never takes more than a small share of the time.

use crate::clock::Mono;
use crate::units::Nanos;

const INTERVAL: Nanos = Nanos::from_millis(1_000);
/// Shortest time between two readings, however the memory grows.
const LEAST: Nanos = Nanos::from_millis(200);
/// Readings take at most one part in this many of the time.
const MOST_TIME: u64 = 20;
/// A peak is new when it is higher by one part in this many.
const NEWS: u64 = 50;

#[derive(Debug, Default)]
pub(super) struct PssSchedule {
    last: Option<Mono>,
    cost: Nanos,
    /// The highest RSS of the set at a reading.
    highest_rss: u64,
}

impl PssSchedule {
    pub(super) fn is_due(&self, now: Mono, rss_bytes: u64) -> bool {
        let Some(last) = self.last else { return true };
        let passed = now.since(last);
        let affordable = passed >= Nanos(self.cost.0.saturating_mul(MOST_TIME));
        let new_peak = rss_bytes > self.highest_rss.saturating_add(self.highest_rss / NEWS);
        affordable && (passed >= INTERVAL || new_peak && passed >= LEAST)
    }

    pub(super) fn was_read(&mut self, began: Mono, cost: Nanos, rss_bytes: u64) {
        self.last = Some(began);
        self.cost = cost;
        self.highest_rss = self.highest_rss.max(rss_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(0).plus(Nanos::from_millis(ms))
    }

    #[test]
    fn it_is_read_at_once_then_every_second_and_at_new_peaks() {
        let mut s = PssSchedule::default();
        assert!(s.is_due(at(0), 1));
        s.was_read(at(0), Nanos::from_millis(1), 1_000);
        assert!(!s.is_due(at(500), 1_000));
        assert!(s.is_due(at(1_000), 1_000));
        assert!(!s.is_due(at(500), 1_020));
        assert!(s.is_due(at(500), 1_021));
        assert!(!s.is_due(at(100), 9_000));
    }

    #[test]
    fn a_dear_reading_is_rare() {
        let mut s = PssSchedule::default();
        s.was_read(at(0), Nanos::from_millis(300), 1_000);
        assert!(!s.is_due(at(5_999), 9_000));
        assert!(s.is_due(at(6_000), 1_000));
    }
}
