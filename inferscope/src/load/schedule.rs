//! When which request is sent.
//!
//! Owns the order: warm-up, then the measured requests, until the count or the time is up, or the server
//! is plainly not there. Pure: time is an argument. Asked by the driver's one loop; the closed loop of
//! one is the only schedule so far, and a rate or a concurrency is a further way to answer `next`.

use super::request::Slot;
use crate::clock::Mono;
use crate::event::{FailureKind, RequestLog};
use crate::plan::LoadPlan;
use crate::units::Nanos;

/// Connections that fail in a row before the rest is given up. Each may take the connect timeout, so a
/// server that is not there costs at most three of them and not one a request.
const UNREACHABLE_IN_A_ROW: u32 = 3;

#[derive(Debug)]
pub(super) struct Schedule {
    next_id: u64,
    warmup: u64,
    total: u64,
    duration: Option<Nanos>,
    /// When the first measured request was due.
    measured_from: Option<Mono>,
    unreachable: u32,
}

impl Schedule {
    pub(super) fn new(plan: &LoadPlan) -> Self {
        Self {
            next_id: 0,
            warmup: plan.warmup,
            total: plan.warmup.saturating_add(plan.requests),
            duration: plan.duration,
            measured_from: None,
            unreachable: 0,
        }
    }

    /// The next request, to be sent now; `None` when all are sent. Asked once for each request.
    pub(super) fn next(&mut self, now: Mono) -> Option<Slot> {
        if self.next_id >= self.total || self.unreachable >= UNREACHABLE_IN_A_ROW {
            return None;
        }
        let warmup = self.next_id < self.warmup;
        if !warmup {
            let from = *self.measured_from.get_or_insert(now);
            if self.duration.is_some_and(|most| now.since(from) >= most) {
                return None;
            }
        }
        let slot = Slot { id: self.next_id, warmup, scheduled: None };
        self.next_id += 1;
        Some(slot)
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, log: &RequestLog) {
        let connect = log.failure.as_ref().is_some_and(|f| f.kind == FailureKind::Connect);
        self.unreachable = if connect { self.unreachable + 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Failure;

    fn schedule(warmup: u64, requests: u64, duration: Option<Nanos>) -> Schedule {
        let mut s =
            Schedule { next_id: 0, warmup: 0, total: 0, duration, measured_from: None, unreachable: 0 };
        (s.warmup, s.total) = (warmup, warmup + requests);
        s
    }

    fn log(failure: Option<FailureKind>) -> RequestLog {
        RequestLog {
            id: 0,
            warmup: false,
            scheduled: None,
            sent: Mono(0),
            headers: None,
            http_status: None,
            chunks: Vec::new(),
            done: Mono(0),
            usage: None,
            finish_reason: None,
            served_model: None,
            failure: failure.map(|kind| Failure { kind, message: String::new() }),
        }
    }

    #[test]
    fn warmup_comes_first_and_ids_count_from_zero() {
        let mut s = schedule(2, 3, None);
        let slots: Vec<_> = std::iter::from_fn(|| s.next(Mono(0))).map(|s| (s.id, s.warmup)).collect();
        assert_eq!(slots, [(0, true), (1, true), (2, false), (3, false), (4, false)]);
    }

    #[test]
    fn the_duration_counts_from_the_first_measured_request() {
        let mut s = schedule(1, 10, Some(Nanos(50)));
        let taken: Vec<_> = [0, 1000, 1049, 1050].map(|t| s.next(Mono(t)).map(|s| s.id)).into();
        assert_eq!(taken, [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn three_connections_in_a_row_that_fail_end_the_load_and_nothing_less() {
        use FailureKind::{Connect, Timeout};
        let asked = |ends: &[Option<FailureKind>]| {
            let mut s = schedule(0, 100, None);
            for end in ends {
                assert!(s.next(Mono(0)).is_some());
                s.ended(&log(*end));
            }
            s.next(Mono(0)).is_some()
        };
        assert!(!asked(&[None, Some(Connect), Some(Connect), Some(Connect)]));
        assert!(asked(&[Some(Connect), Some(Connect), None, Some(Connect), Some(Connect)]));
        assert!(asked(&[Some(Connect), Some(Connect), Some(Timeout), Some(Connect)]));
    }
}
