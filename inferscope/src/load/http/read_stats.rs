//! What the transports tell of themselves.
//!
//! Owns the stamping of reads and the counts: connections, requests sent twice, how late reads were. Shared
//! by the connections of one client; never reads a socket. Used by `http` and everything below it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;

use super::Resent;
use super::clock_map::ClockMap;
use super::stall_detector::StallDetector;
use crate::clock::{BothClocks, Mono};
use crate::event::{ClientLog, Stall};
use crate::load::budget::Budget;
use crate::units::Nanos;

/// A later read is told as this late.
const MOST_LAG_NS: u64 = 3_600_000_000_000;

/// A server that lost so many requests on kept-alive connections may not keep them alive at all …
const MOST_LOST: u64 = 2;
/// … and does not where that is one of so many that were used again: one in thousands is a timeout that came just then.
const LOST_SHARE: u64 = 10;

/// When something was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// By the kernel; where it does not say, when it was read.
    pub(super) t: Mono,
    /// From there to the reading; `None` where the kernel does not say.
    pub(super) lag: Option<Nanos>,
}

impl Stamp {
    /// What was read now, by somebody who has no stamp of the kernel's.
    pub(super) fn unstamped() -> Self {
        Self { t: Mono::now(), lag: None }
    }
}

#[derive(Debug)]
pub(super) struct ReadStats {
    budget: Arc<Budget>,
    reads: Mutex<Reads>,
    connections: AtomicU64,
    resent: AtomicU64,
    /// Requests that were sent on a connection used before.
    reused: AtomicU64,
    /// The longest that a sending which had to be repeated took, in nanoseconds.
    resent_after: AtomicU64,
}

#[derive(Debug)]
struct Reads {
    realtime: ClockMap,
    lag: Histogram<u64>,
    unstamped: u64,
    stalls: StallDetector,
}

impl ReadStats {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        let lag = Histogram::new_with_bounds(1, MOST_LAG_NS, 3).expect("these are bounds that it takes");
        let reads = Reads {
            realtime: ClockMap::new(BothClocks::now()),
            lag,
            unstamped: 0,
            stalls: StallDetector::default(),
        };
        Self {
            budget,
            reads: Mutex::new(reads),
            connections: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            resent_after: AtomicU64::new(0),
        }
    }

    /// What all that is under way may hold.
    pub(super) const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The stamp of a read that has just returned, with the kernel's time of CLOCK_REALTIME.
    pub(super) fn stamp(&self, kernel_ns: Option<u64>) -> Stamp {
        let (Some(kernel_ns), Some(now)) = (kernel_ns, BothClocks::now()) else { return Stamp::unstamped() };
        let mut reads = self.reads();
        match reads.realtime.mono(kernel_ns, now) {
            Some(t) => {
                reads.stalls.read(t, now.mono);
                Stamp { t, lag: Some(now.mono.since(t)) }
            }
            None => Stamp { t: now.mono, lag: None },
        }
    }

    /// A read held a part of a streamed answer.
    pub(super) fn read(&self, stamp: Stamp) {
        let mut reads = self.reads();
        match stamp.lag {
            Some(lag) => reads.lag.saturating_record(lag.0.max(1)),
            None => {
                reads.unstamped += 1;
                reads.stalls.runs(stamp.t);
            }
        }
    }

    /// The load's loop runs, and is to run again by `due` at the latest.
    pub(super) fn turn(&self, now: Mono, due: Option<Mono>) {
        self.reads().stalls.turn(now, due);
    }

    /// The latest first.
    pub(super) fn stalls_since(&self, from: Mono) -> Vec<Stall> {
        self.reads().stalls.since(from)
    }

    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is sent again; its first sending began at `from`.
    pub(super) fn resend(&self, from: Mono) {
        self.resent.fetch_add(1, Ordering::Relaxed);
        self.resent_after.fetch_max(Mono::now().since(from).0, Ordering::Relaxed);
    }

    /// A request goes out on a connection that was used before.
    pub(super) fn reuse(&self) {
        self.reused.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether connections are worth keeping for this server: it has not ended two of them, and a tenth of those
    /// that were used again, instead of answering.
    pub(super) fn keeps_alive(&self) -> bool {
        let (lost, reused) = (self.resent.load(Ordering::Relaxed), self.reused.load(Ordering::Relaxed));
        lost < MOST_LOST || lost.saturating_mul(LOST_SHARE) < reused
    }

    pub(super) fn resent(&self) -> Resent {
        Resent {
            requests: self.resent.load(Ordering::Relaxed),
            longest: Nanos(self.resent_after.load(Ordering::Relaxed)),
            kept_alive: self.keeps_alive(),
        }
    }

    pub(super) fn log(&self) -> ClientLog {
        let reads = self.reads();
        ClientLog {
            read_lag: (!reads.lag.is_empty()).then(|| reads.lag.clone()),
            unstamped_reads: reads.unstamped,
            connections_opened: self.connections.load(Ordering::Relaxed),
        }
    }

    fn reads(&self) -> std::sync::MutexGuard<'_, Reads> {
        self.reads.lock().expect("nothing panics while it holds this")
    }
}
