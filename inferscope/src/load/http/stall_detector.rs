//! The times in which the client did not look at its sockets.
//!
//! Owns the stalls: the load's thread did not run, or did not serve the connection that waited. Whatever arrived in a
//! stall is read together and has one stamp, the one of the last packet. Pure: the time is an argument. `read_stats`
//! reports each read, the loop of a phase reports each turn, and `http` takes the stalls when a request has ended.

use std::collections::VecDeque;

use crate::clock::Mono;
use crate::event::Stall;
use crate::units::Nanos;

/// A loop that is later than its due time by this much did not run.
const TURN: Nanos = Nanos::from_millis(5);
/// A read that is later than the kernel's receive time by this much was late.
const READ: Nanos = Nanos::from_millis(2);
/// Most stalls kept. Beyond it, the two oldest become one.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct StallDetector {
    /// When the thread was last seen to run.
    seen: Option<Mono>,
    /// When it must run again.
    due: Option<Mono>,
    stalls: VecDeque<Stall>,
}

impl StallDetector {
    /// The thread runs, and must run again by `due` at the latest. `None`: no limit.
    pub(super) fn turn(&mut self, now: Mono, due: Option<Mono>) {
        self.runs(now);
        self.due = due;
    }

    /// A read at `now` returned what the kernel received at `received`.
    pub(super) fn read(&mut self, received: Mono, now: Mono) {
        let before = self.seen;
        self.runs(now);
        if now.since(received) >= READ {
            self.stalled(before.unwrap_or(received).min(received), now);
        }
    }

    /// The thread runs at `now`.
    pub(super) fn runs(&mut self, now: Mono) {
        if let (Some(seen), Some(due)) = (self.seen, self.due)
            && now.since(due) >= TURN
        {
            self.stalled(seen, now);
            self.due = None;
        }
        self.seen = Some(now);
    }

    fn stalled(&mut self, from: Mono, to: Mono) {
        if let Some(last) = self.stalls.back_mut().filter(|last| from <= last.to) {
            *last = Stall { from: last.from.min(from), to: last.to.max(to) };
            return;
        }
        if self.stalls.len() >= MOST
            && let Some(oldest) = self.stalls.pop_front()
            && let Some(next) = self.stalls.front_mut()
        {
            next.from = oldest.from;
        }
        self.stalls.push_back(Stall { from, to });
    }

    /// The stalls that reach into the time from `from` on.
    pub(super) fn since(&self, from: Mono) -> Vec<Stall> {
        self.stalls.iter().rev().take_while(|stall| stall.to >= from).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(t: u64) -> Mono {
        Mono(t * 1_000_000)
    }

    fn in_ms(detector: &StallDetector) -> Vec<(u64, u64)> {
        detector.since(ms(0)).iter().map(|s| (s.from.0 / 1_000_000, s.to.0 / 1_000_000)).collect()
    }

    #[test]
    fn a_stop_between_two_turns_is_from_the_last_sight_of_the_thread_to_the_next() {
        let mut detector = StallDetector::default();
        detector.turn(ms(100), Some(ms(120)));
        detector.read(ms(110), ms(110));
        // Stopped at 111 for 150 ms; the newest of what came is 3 ms old, no sign of anything.
        detector.read(ms(258), ms(259));
        detector.read(ms(260), ms(260));
        detector.turn(ms(261), Some(ms(281)));
        assert_eq!(in_ms(&detector), [(110, 259)]);
        assert_eq!(detector.since(ms(270)), []);
    }

    #[test]
    fn a_punctual_thread_has_none_and_one_that_nobody_expects_neither() {
        let mut detector = StallDetector::default();
        for n in 0..10 {
            detector.turn(ms(n * 20), Some(ms(n * 20 + 20)));
        }
        detector.turn(ms(201), None);
        detector.turn(ms(900), Some(ms(920)));
        assert_eq!(in_ms(&detector), []);
    }

    #[test]
    fn a_late_read_is_a_stall_from_when_the_bytes_were_there() {
        let mut detector = StallDetector::default();
        detector.turn(ms(100), Some(ms(120)));
        detector.read(ms(104), ms(104));
        detector.read(ms(108), ms(111));
        assert_eq!(in_ms(&detector), [(104, 111)], "perhaps from the last sight on");
        // The thread was busy with others.
        detector.turn(ms(112), Some(ms(200)));
        detector.read(ms(130), ms(130));
        detector.read(ms(125), ms(131));
        assert_eq!(in_ms(&detector)[0], (125, 131));
    }

    #[test]
    fn the_list_is_bounded_and_forgets_nothing() {
        let mut detector = StallDetector::default();
        for n in 0..5_000 {
            detector.read(ms(n * 10), ms(n * 10 + 3));
            detector.runs(ms(n * 10 + 9));
        }
        let all = in_ms(&detector);
        assert!(all.len() <= MOST && all.last().unwrap().0 == 0 && all[0].1 == 49_993);
    }
}
