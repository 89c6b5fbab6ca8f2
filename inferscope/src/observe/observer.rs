//! A running observation, as whoever started it sees it.
//!
//! Owns the observer's thread, what stops it and what has it take a sample between two ticks, and the rest before a load. What the
//! thread does is in `worker`. Started and stopped by `session`.

mod worker;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::ebpf::EbpfError;
use super::target_discovery::Found;
use crate::clock::Mono;
use crate::event::{Observation, SetEvent};
use crate::plan::ObservePlan;
use crate::privilege::{self, ThreadRole};
use crate::units::Nanos;

use worker::Worker;

pub(super) use worker::own_thread_cpu;

/// What a rest before the load takes: of a set that does nothing, and of one that does.
const LEAST_REST: Nanos = Nanos::from_millis(200);
const BUSY_REST: Nanos = Nanos::from_millis(500);
/// Of one CPU, as a divisor: a set that uses more at rest works.
const BUSY_PART: u64 = 100;
/// A sample that takes longer is not waited for.
const MARK_LIMIT: Nanos = Nanos::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("the target is gone: {0} held no process at the first sample\n  start the server and try again")]
    TargetGone(String),
    #[error("a cgroup target needs the kernel tracker: {0}\n  or watch a process tree with --pid")]
    CgroupNeedsEbpf(#[source] EbpfError),
    #[error("--tracker ebpf can't be had: {0}\n  or leave --tracker out to fall back to /proc")]
    Tracker(#[source] EbpfError),
    #[error("the observing thread can't be started: {0}\n  check the limits on processes and open files")]
    Thread(std::io::Error),
}

/// Takes the events of the set, on the observer's thread but for the first sample's.
type EventSink = Box<dyn FnMut(SetEvent) + Send>;

/// A running observation.
pub struct Observer {
    thread: JoinHandle<Observation>,
    stop: Arc<OwnedFd>,
    marker: Marker,
    target_ended: watch::Receiver<bool>,
    latest: watch::Receiver<Used>,
}

/// Has the observer take a sample now, beside those of its interval.
#[derive(Debug, Clone)]
pub struct Marker(Arc<OwnedFd>);

impl Marker {
    /// Returns at once: the sample is taken by the observer's thread.
    pub fn mark(&self) {
        // An eventfd takes 2^64 - 2 such writes.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// CPU of the set since the window's start.
#[derive(Debug, Clone, Copy)]
struct Used {
    t: Mono,
    cpu: Nanos,
}

impl Observer {
    /// Loads the tracker, takes the snapshot and the first sample, then goes on in its own thread. What happens goes to
    /// `sink`, which must not wait long.
    ///
    /// # Errors
    /// The target is gone, or the tracker that was asked for by name can't be had.
    pub fn start(
        plan: &ObservePlan,
        target: &Found,
        sink: impl FnMut(SetEvent) + Send + 'static,
    ) -> Result<Self, ObserveError> {
        let raised = privilege::raise();
        let worker = Worker::begin(plan, target, Box::new(sink))?;
        let (target_ended, latest) = (worker.tell_end.subscribe(), worker.latest.subscribe());
        let event = || {
            let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            made.map(Arc::new).map_err(|e| ObserveError::Thread(e.into()))
        };
        let (stop, marks) = (event()?, event()?);
        let theirs = (Arc::clone(&stop), Arc::clone(&marks));
        let thread = std::thread::Builder::new()
            .name("observer".into())
            .spawn(move || {
                privilege::shed(ThreadRole::Observer);
                worker.run(&theirs.0, &theirs.1)
            })
            .map_err(ObserveError::Thread)?;
        drop(raised);
        Ok(Self { thread, stop, marker: Marker(marks), target_ended, latest })
    }

    #[must_use]
    pub fn marker(&self) -> Marker {
        self.marker.clone()
    }

    /// Waits a little, in which nothing is to be sent, and longer where the set works all the same: from when to when
    /// it was at rest. `None` where `stop` came first, or the observer did not get to it.
    pub async fn rest(&mut self, stop: impl Future<Output = ()>) -> Option<(Mono, Mono)> {
        let rested = async {
            let from = self.used().await?;
            sleep(LEAST_REST.to_duration()).await;
            let mut to = self.used().await?;
            let busy = to.cpu.saturating_sub(from.cpu).0.saturating_mul(BUSY_PART);
            if busy > to.t.since(from.t).0 {
                sleep(BUSY_REST.saturating_sub(LEAST_REST).to_duration()).await;
                to = self.used().await?;
            }
            Some((from.t, to.t))
        };
        tokio::select! {
            biased;
            () = stop => None,
            rested = rested => rested,
        }
    }

    async fn used(&mut self) -> Option<Used> {
        self.latest.mark_unchanged();
        self.marker.mark();
        timeout(MARK_LIMIT.to_duration(), self.latest.changed()).await.ok()?.ok()?;
        Some(*self.latest.borrow())
    }

    /// Becomes true when no process of the target lives any more.
    #[must_use]
    pub fn target_ended(&self) -> watch::Receiver<bool> {
        self.target_ended.clone()
    }

    /// Takes the last sample and waits up to a second for final figures. Lists and samples went to the sink; `None` if the thread
    /// panicked, which is a bug.
    #[must_use]
    pub fn finish(self) -> Option<Observation> {
        // An eventfd takes 2^64 - 2 such writes.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        self.thread.join().ok()
    }
}
