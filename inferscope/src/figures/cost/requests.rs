//! Which stretch of a request is prefill and which decode, where no other was in flight.
//!
//! Owns the look at all requests, failed and warm-up ones too: any that reaches into a window shares the device with
//! those in it. What other clients send is not seen. A part of `cost`.

use crate::clock::{Mono, Window};
use crate::reason::{EnergyReason, LoadReason};

/// When one request was under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestSpan {
    pub(crate) id: u64,
    /// From its send to its end.
    pub(crate) flight: Window,
    pub(crate) first_token: Option<Mono>,
    pub(crate) last_token: Option<Mono>,
    pub(crate) ok: bool,
    pub(crate) warmup: bool,
    /// The client gave it up, and does not know when the server did.
    pub(crate) given_up: bool,
}

/// All requests of a run, in the order in which they were sent.
#[derive(Debug)]
pub(crate) struct InFlight {
    all: Vec<RequestSpan>,
    unlisted: u64,
}

/// Of the successful requests of some windows, in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parts {
    pub(super) requests: u64,
    pub(super) prefill: Vec<Window>,
    /// Without those of answers whose first token was the last.
    pub(super) decode: Vec<Window>,
}

impl InFlight {
    /// `unlisted`: how many more there were.
    pub(crate) fn new(all: impl Iterator<Item = RequestSpan>, unlisted: u64) -> Self {
        let mut all: Vec<RequestSpan> = all.collect();
        all.sort_by_key(|r| (r.flight.from, r.id));
        Self { all, unlisted }
    }

    /// The share of these windows, from 0 to 1, in which at least one request was in flight; `None` where that can't be told.
    pub(crate) fn share(&self, windows: &[Window]) -> Option<f64> {
        if self.unlisted > 0 {
            return None;
        }
        let (mut used, mut time) = (0_u64, 0_u64);
        for window in windows {
            time += window.length().0;
            let mut until = window.from;
            for flight in self.all.iter().map(|r| r.flight) {
                let (begin, end) = (flight.from.max(until), flight.to.min(window.to));
                if end > begin {
                    used += end.since(begin).0;
                    until = end;
                }
            }
        }
        (time > 0).then(|| used as f64 / time as f64)
    }

    /// # Errors
    /// Why the device may have worked on two requests at a time in these windows.
    pub(super) fn parts(&self, windows: &[Window]) -> Result<Parts, EnergyReason> {
        if self.unlisted > 0 {
            return Err(EnergyReason::Unlisted(self.unlisted));
        }
        let most = self.most_in_flight(windows);
        if most > 1 {
            return Err(EnergyReason::NotAlone(most));
        }
        if self.were_given_up(windows) {
            return Err(EnergyReason::GivenUp);
        }
        let within = |t: Mono| windows.iter().any(|w| w.holds(t));
        let mut parts = Parts::default();
        for r in self.all.iter().filter(|r| r.ok && !r.warmup && within(r.flight.from)) {
            let (Some(first), Some(last)) = (r.first_token, r.last_token) else { continue };
            parts.requests += 1;
            parts.prefill.push(Window { from: r.flight.from, to: first });
            if last > first {
                parts.decode.push(Window { from: first, to: last });
            }
        }
        if parts.requests == 0 { Err(LoadReason::NoneSucceeded.into()) } else { Ok(parts) }
    }

    fn most_in_flight(&self, windows: &[Window]) -> i64 {
        // An end comes before a beginning of the same moment.
        let mut changes: Vec<(Mono, i64)> = Vec::new();
        for window in windows {
            for flight in self.all.iter().map(|r| r.flight) {
                let (from, to) = (flight.from.max(window.from), flight.to.min(window.to));
                if from < to {
                    changes.extend([(from, 1), (to, -1)]);
                }
            }
        }
        changes.sort_unstable();
        let running = changes.iter().scan(0, |now, (_, change)| {
            *now += change;
            Some(*now)
        });
        running.max().unwrap_or(0)
    }

    /// Whether any request was sent in these windows after the first that was given up.
    fn were_given_up(&self, windows: &[Window]) -> bool {
        let since = self.all.iter().filter(|r| r.given_up).map(|r| r.flight.to).min();
        let later = |since: Mono, w: &Window| {
            self.all.iter().any(|r| r.flight.from >= since.max(w.from) && r.flight.from <= w.to)
        };
        since.is_some_and(|since| windows.iter().any(|w| later(since, w)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(all: &[(u64, u64)]) -> InFlight {
        let span = |(id, (from, to)): (u64, &(u64, u64))| RequestSpan {
            id,
            flight: Window { from: Mono(*from), to: Mono(*to) },
            first_token: None,
            last_token: None,
            ok: true,
            warmup: false,
            given_up: false,
        };
        InFlight::new((0..).zip(all).map(span), 0)
    }

    #[test]
    fn the_share_of_the_time_with_a_request_counts_overlaps_once() {
        let all = in_flight(&[(60, 90), (0, 40), (10, 30), (85, 120)]);
        let share = |windows: &[(u64, u64)]| {
            let windows: Vec<Window> =
                windows.iter().map(|(from, to)| Window { from: Mono(*from), to: Mono(*to) }).collect();
            all.share(&windows)
        };
        assert_eq!(share(&[(0, 100)]), Some(0.8));
        assert_eq!(share(&[(20, 40), (50, 60)]), Some(20.0 / 30.0));
        assert_eq!(share(&[]), None);
    }
}
