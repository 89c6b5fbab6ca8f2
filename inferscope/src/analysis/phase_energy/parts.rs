//! Which stretch of a request is prefill and which decode, where no other was in flight.
//!
//! Owns the look at all requests, failed and warm-up ones too: any that reaches into a stretch shares the device with
//! those in it. What other clients send is not seen. A part of `phase_energy`.

use crate::clock::{Mono, Origin};
use crate::report::model::{ErrorKind, Request};
use crate::units::Nanos;

use super::super::load_aggregate::Measured;
use super::super::window::Window;

/// All requests of a run, by when they were sent.
pub(in crate::analysis) struct Requests<'a> {
    all: Vec<(Window, &'a Request)>,
    origin: Origin,
    unlisted: u64,
}

/// Of the successful requests of a stretch, in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parts {
    pub(super) requests: u64,
    pub(super) prefill: Vec<Window>,
    /// Without those of answers whose first token was the last.
    pub(super) decode: Vec<Window>,
}

impl<'a> Requests<'a> {
    pub(in crate::analysis) fn of(measured: &'a Measured, origin: Origin) -> Self {
        let at = |ns: u64| origin.mono.plus(Nanos(ns));
        let mut all: Vec<_> = measured
            .requests
            .iter()
            .map(|r| (Window { from: at(r.sent_ns), to: at(r.done_ns) }, r))
            .collect();
        all.sort_by_key(|(flight, r)| (flight.from, r.id));
        Self { all, origin, unlisted: measured.unlisted }
    }

    /// # Errors
    /// In words: why the device may have worked on two requests at a time in these windows.
    pub(super) fn parts(&self, windows: &[Window]) -> Result<Parts, String> {
        if self.unlisted > 0 {
            return Err(format!(
                "{} requests are not listed: when they were in flight is not known",
                self.unlisted
            ));
        }
        let most = self.most_in_flight(windows);
        if most > 1 {
            return Err(format!("{most} requests were in flight at a time"));
        }
        self.given_up(windows)?;
        let within = |t: Mono| windows.iter().any(|w| (w.from..=w.to).contains(&t));
        let at = |ns: Option<u64>| Some(self.origin.mono.plus(Nanos(ns?)));
        let mut parts = Parts::default();
        for (flight, r) in self.all.iter().filter(|(f, r)| r.ok && !r.warmup && within(f.from)) {
            let (Some(first), Some(last)) = (at(r.first_token_ns), at(r.last_token_ns)) else { continue };
            parts.requests += 1;
            parts.prefill.push(Window { from: flight.from, to: first });
            if last > first {
                parts.decode.push(Window { from: first, to: last });
            }
        }
        if parts.requests == 0 { Err("no measured request succeeded".to_owned()) } else { Ok(parts) }
    }

    fn most_in_flight(&self, windows: &[Window]) -> i64 {
        // An end comes before a beginning of the same moment.
        let mut changes: Vec<(Mono, i64)> = Vec::new();
        for window in windows {
            for (flight, _) in &self.all {
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

    /// Whoever gives a request up does not know when the server does.
    fn given_up(&self, windows: &[Window]) -> Result<(), String> {
        let left = |kind| matches!(kind, ErrorKind::Timeout | ErrorKind::Malformed | ErrorKind::Disconnect);
        let since = self.all.iter().filter(|(_, r)| r.error_kind.is_some_and(left)).map(|(f, _)| f.to).min();
        let later = |since: Mono| {
            windows
                .iter()
                .any(|w| self.all.iter().any(|(f, _)| f.from >= since.max(w.from) && f.from <= w.to))
        };
        match since {
            Some(since) if later(since) => Err(
                "a request had been given up before, and the server may have worked on it beside the next ones".to_owned(),
            ),
            _ => Ok(()),
        }
    }
}
