//! Which times of a request are the client's own doing.
//!
//! Owns the rule. While the client does not look, what comes is read together and has one time, that of the last of it: the
//! times of the others are too late by an unknown part of the stall, and so is everything that is measured from or to them.
//! A chunk that was alone in its read has its own time, however late it was read. Called by `request_figures`.

use crate::clock::Mono;
use crate::event::RequestLog;
use crate::units::Nanos;

/// A write that took so long was not made at once.
const WRITE: Nanos = Nanos::from_millis(2);

/// Of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lateness {
    /// Times that are too late, sorted.
    stamps: Vec<Mono>,
    /// It went out late, or may have.
    pub(crate) sent: bool,
    /// The longest stall that made any of these so.
    pub(crate) longest: Nanos,
}

impl Lateness {
    pub(crate) fn of(request: &RequestLog) -> Self {
        let mut all = Self::default();
        if request.client_stalls.is_empty() {
            return all;
        }
        let times: Vec<Mono> = request.chunks.iter().map(|c| c.t).chain([request.done]).collect();
        let asked = request.waited_from();
        let out = request.written.unwrap_or(request.sent);
        for stall in &request.client_stalls {
            let before = all.stamps.len();
            let within = |t: &Mono| (stall.from..=stall.to).contains(t);
            for (at, t) in times.iter().enumerate().filter(|(_, t)| within(t)) {
                let neighbours = [at.checked_sub(1), Some(at + 1)];
                let together = neighbours.into_iter().flatten().any(|other| times.get(other) == Some(t));
                if together || !request.kernel_stamps {
                    all.stamps.push(*t);
                }
            }
            let held = stall.to.min(out).since(stall.from.max(asked.min(request.sent)));
            let sent = match (request.scheduled, request.write_took) {
                // What was due waited for the client more than for the server.
                (Some(due), _) => held >= WRITE && held.0.saturating_mul(2) >= out.since(due).0,
                // What counts from the write, and was written at once, went out when it says, however busy the client was.
                (None, Some(took)) => took >= WRITE,
                (None, None) => held > Nanos::ZERO,
            };
            all.sent |= sent;
            if sent || all.stamps.len() > before {
                all.longest = all.longest.max(stall.to.since(stall.from));
            }
        }
        all.stamps.sort_unstable();
        all.stamps.dedup();
        all
    }

    pub(crate) fn is_late(&self, t: Mono) -> bool {
        !self.stamps.is_empty() && self.stamps.binary_search(&t).is_ok()
    }
}

/// What is in no figure for it, of a stretch of load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) gaps: u64,
    pub(crate) first_tokens: u64,
    pub(crate) ends: u64,
    pub(crate) longest: Nanos,
}

impl LeftOut {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.gaps += other.gaps;
        self.first_tokens += other.first_tokens;
        self.ends += other.ends;
        self.longest = self.longest.max(other.longest);
    }

    pub(crate) const fn any(&self) -> bool {
        self.gaps + self.first_tokens + self.ends > 0
    }
}
