//! What the transports report about themselves.
//!
//! Owns the stamping of reads and the counts: connections, requests sent twice, lateness of reads. The connections of
//! one client share it. Never reads a socket. Used by `http` and everything below it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;

use super::clock_map::ClockMap;
use super::stall_detector::StallDetector;
use crate::clock::{BothClocks, Mono};
use crate::event::{ClientLog, Stall};
use crate::load::budget::Budget;
use crate::units::Nanos;

/// The upper end of the recorded lag.
const MOST_LAG_NS: u64 = 3_600_000_000_000;

/// A server that lost this many requests on kept-alive connections may not keep connections alive at all.
const MOST_LOST: u64 = 2;
/// It does not, if it lost one in this many of the requests on reused connections. One in thousands is a chance
/// timeout.
const LOST_SHARE: u64 = 10;

/// The requests that were sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    pub requests: u64,
    /// The longest time that a first sending added to a request.
    pub longest: Nanos,
    /// Connections are reused. False after the server kept ending them instead of answering.
    pub kept_alive: bool,
}

/// When something was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The kernel's receive time, or the time of the read where the kernel gave none.
    pub(super) t: Mono,
    /// Time from there to the read. `None`: the kernel gave no receive time.
    pub(super) lag: Option<Nanos>,
}

impl Stamp {
    /// A read of now, without a stamp of the kernel's.
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
    /// The longest first sending of a request that was sent again, in nanoseconds.
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

    /// The memory budget of all requests under way.
    pub(super) const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The stamp of a read that has just returned. `kernel_ns`: the kernel's time in CLOCK_REALTIME.
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

    /// A read returned a part of a streamed response.
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

    /// The load's loop runs, and must run again by `due` at the latest.
    pub(super) fn turn(&self, now: Mono, due: Option<Mono>) {
        self.reads().stalls.turn(now, due);
    }

    /// The stalls, the latest first.
    pub(super) fn stalls_since(&self, from: Mono) -> Vec<Stall> {
        self.reads().stalls.since(from)
    }

    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is sent again. Its first sending began at `from`.
    pub(super) fn resend(&self, from: Mono) {
        self.resent.fetch_add(1, Ordering::Relaxed);
        self.resent_after.fetch_max(Mono::now().since(from).0, Ordering::Relaxed);
    }

    /// A request goes out on a connection that was used before.
    pub(super) fn reuse(&self) {
        self.reused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections are worth keeping for this server. Not so after it has ended two of them, and a tenth of the reused
    /// ones, instead of answering.
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
