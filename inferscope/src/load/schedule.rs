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
