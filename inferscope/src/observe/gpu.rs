//! The devices, polled through NVML.
//!
//! Owns its thread: a driver that takes its time delays neither tokens nor /proc. A query that a device refuses is kept
//! with NVML's reason and is `None` in every reading, never 0. Started and stopped by `session`. Proved against a
//! stand-in for the driver (`tests/nvml-standin`), on no hardware yet (README).
//!
//! `worker` is the thread, `selection` the devices that it polls. `queries` is the table of the queries, `device` one device's
//! looks, `caller` makes their calls and sends the answers, `query_policy` knows which are answered at all, `schedule` when they
//! are made, `bracket` how an energy counter is read at a window's ends. `processes`, `driver_samples` and `counters` make sense
//! of three of the answers, `gpm` reads the device's own counters, `nvml_ffi` holds the other unsafe calls.

mod bracket;
mod caller;
mod counters;
mod device;
mod driver_samples;
mod gpm;
mod nvml_ffi;
mod processes;
mod queries;
mod query_policy;
mod schedule;
mod selection;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::clock::{Mono, Window};
use crate::observe::window_edges::{Edge, Edges};
use crate::plan::{GpuChoice, ObservePlan};
use crate::privilege::{self, ThreadRole};
use crate::units::Nanos;

use caller::{CallUnderWay, Outlet};
use worker::Worker;

pub use caller::DeviceSink;

/// A driver that has not answered a look by then is left to itself.
const DRIVER_LIMIT: Duration = Duration::from_secs(5);
/// A driver takes seconds for each device that nobody has open (no persistence mode).
const OPENING_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks whether a signal came.
const LOOK: Duration = Duration::from_millis(10);
/// A call that has not come back for so long hangs; until then the driver is only slow.
const HANGS_AFTER: Nanos = Nanos::from_millis(1_000);

/// The driver's library has not come back.
static HANGS: AtomicBool = AtomicBool::new(false);

/// Whether a thread may be in the driver's library for good. exit(3) runs the library's destructors, and waits for a
/// constructor of it: then it is to be left out.
#[must_use]
pub fn hangs() -> bool {
    HANGS.load(Ordering::Relaxed)
}

#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// Devices were asked for by name.
    #[error("--gpu asks for devices that can't be had: {0}\n  leave --gpu out to go on without")]
    Missing(String),
}

/// A running poll, or why there is none.
pub struct Poller {
    poll: Option<Poll>,
    unavailable: Option<String>,
    baseline: Option<Window>,
    began: Option<Mono>,
}

struct Poll {
    thread: Thread,
    stop: Arc<AtomicBool>,
    edge: Arc<Edge>,
    /// After the first look at all devices.
    looked: Option<oneshot::Receiver<()>>,
    ended: Receiver<()>,
    under_way: Arc<CallUnderWay>,
}

/// What only the end of the poll tells.
#[derive(Debug, Clone, Default)]
pub struct PollEnd {
    /// Why nothing was polled.
    pub unavailable: Option<String>,
    /// The wait before the load: nothing was sent in it.
    pub baseline: Option<Window>,
    /// When what is measured began, where nothing was sent.
    pub began: Option<Mono>,
    /// A call that did not come back, and since when.
    pub hangs: Option<(String, Mono)>,
}

/// What the thread opens first: the library runs code of its own when it is loaded, so it is loaded where nothing can
/// be done with it.
struct Opening {
    plan: ObservePlan,
    stop: Arc<AtomicBool>,
    edge: Arc<Edge>,
    roots: Vec<u32>,
    outlet: Outlet,
}

/// Why there are no devices to poll.
struct Opened {
    no_devices: Option<String>,
}

impl Opened {
    /// Devices that were asked for by name.
    fn missing(&self, choice: &GpuChoice) -> Option<&str> {
        self.no_devices.as_deref().filter(|_| !matches!(choice, GpuChoice::Auto | GpuChoice::Off))
    }

    const fn nothing(why: String) -> Self {
        Self { no_devices: Some(why) }
    }

    /// What the thread tells, which may be in a library that never comes back.
    fn wait(opened: &Receiver<Self>, limit: Duration, is_over: impl Fn() -> bool) -> Self {
        let deadline = Instant::now() + limit;
        let why = loop {
            match opened.recv_timeout(LOOK) {
                Ok(opened) => return opened,
                Err(RecvTimeoutError::Disconnected) => {
                    return Self::nothing("the NVML thread panicked".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if is_over() => {
                    break "the driver did not answer before the run was told to end".to_owned();
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    break format!("the driver did not answer within {limit:?} of its library's loading");
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        HANGS.store(true, Ordering::Relaxed);
        Self::nothing(why)
    }
}

impl Opening {
    /// What polls, if there is anything to poll.
    fn open(self) -> (Option<Worker>, Opened) {
        let selection = match selection::devices(&self.plan) {
            Ok(selection) => selection,
            Err(why) => return (None, Opened::nothing(why)),
        };
        let worker = Worker {
            selection,
            interval: self.plan.sample_interval,
            stop: self.stop,
            edge: self.edge,
            roots: self.roots,
            outlet: self.outlet,
        };
        (Some(worker), Opened { no_devices: None })
    }
}

impl Poller {
    /// `roots`: processes of the target whose environment may say which devices CUDA shows them. Once the run is over, as
    /// by a signal, the driver is not waited for. Events go to `sink`.
    ///
    /// # Errors
    /// Devices asked for by name (`--gpu all`, indices, UUIDs) that are not there.
    pub fn start(
        plan: &ObservePlan,
        roots: &[u32],
        sink: DeviceSink,
        is_over: impl Fn() -> bool,
    ) -> Result<Self, GpuError> {
        let none = |unavailable| Self { poll: None, unavailable, baseline: None, began: None };
        let stop = Arc::new(AtomicBool::new(false));
        let edge = Arc::new(Edge::default());
        let under_way = Arc::new(CallUnderWay::default());
        let (tell_look, looked) = oneshot::channel();
        let (tell_end, ended) = channel();
        let (tell_opened, opened) = channel();
        let opening = Opening {
            plan: plan.clone(),
            stop: Arc::clone(&stop),
            edge: Arc::clone(&edge),
            roots: roots.to_vec(),
            outlet: Outlet::new(sink, Arc::clone(&under_way)),
        };
        let spawned = std::thread::Builder::new().name("nvml".into()).spawn(move || {
            privilege::before_library();
            let (worker, outcome) = opening.open();
            // Whoever waits below may have gone on without it.
            let (Ok(()), Some(worker)) = (tell_opened.send(outcome), worker) else { return };
            privilege::shed(ThreadRole::Gpu);
            worker.run(tell_look);
            // Who waited may have gone on without it.
            let _ = tell_end.send(());
        });
        let thread = match spawned {
            Ok(thread) => thread,
            Err(e) => return Ok(none(Some(format!("the NVML thread can't be started: {e}")))),
        };
        let outcome = Opened::wait(&opened, OPENING_LIMIT, &is_over);
        if let Some(why) = outcome.missing(&plan.gpu).filter(|_| !is_over()) {
            return Err(GpuError::Missing(why.to_owned()));
        }
        if outcome.no_devices.is_some() {
            stop.store(true, Ordering::Relaxed);
            return Ok(none(outcome.no_devices));
        }
        let poll =
            Poll { thread: thread.thread().clone(), stop, edge, looked: Some(looked), ended, under_way };
        Ok(Self { poll: Some(poll), ..none(None) })
    }

    /// Where there are devices, waits for the first look and then for `time`, in which nothing is to be sent: what they
    /// use at rest. No longer than until `stop`, and once only.
    pub async fn rest(&mut self, time: Nanos, stop: impl Future<Output = ()>) {
        let edges = self.edges();
        let Some(poll) = self.poll.as_mut().filter(|_| time > Nanos::ZERO) else { return };
        let Some(looked) = poll.looked.take() else { return };
        let rested = async {
            timeout(DRIVER_LIMIT, looked).await.ok()?.ok()?;
            let from = Mono::now();
            edges.mark();
            sleep(time.to_duration()).await;
            Some(Window { from, to: Mono::now() })
        };
        tokio::select! {
            biased;
            () = stop => {}
            rested = rested => self.baseline = rested,
        }
        edges.mark();
    }

    /// What is measured begins now, where nothing is sent.
    pub fn begins(&mut self) {
        self.began = Some(Mono::now());
        self.edges().mark();
    }

    /// For whoever knows when a window begins and ends.
    #[must_use]
    pub fn edges(&self) -> Edges {
        let edges = |poll: &Poll| Edges::of(poll.thread.clone(), Arc::clone(&poll.edge));
        self.poll.as_ref().map(edges).unwrap_or_default()
    }

    /// Ends the poll. What a driver that does not come back answered before was sent before.
    #[must_use]
    pub fn finish(self) -> PollEnd {
        let Self { poll, unavailable, baseline, began } = self;
        let hangs = poll.and_then(|poll| {
            poll.stop.store(true, Ordering::Relaxed);
            poll.thread.unpark();
            // A driver that only is slow has its last answers by then, or goes without.
            if matches!(poll.ended.recv_timeout(DRIVER_LIMIT), Err(RecvTimeoutError::Timeout)) {
                HANGS.store(true, Ordering::Relaxed);
            }
            let call = poll.under_way.get().filter(|(_, since)| Mono::now().since(*since) > HANGS_AFTER);
            call.map(|(query, since)| (query.name().to_owned(), since))
        });
        PollEnd { unavailable, baseline, began, hangs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_does_not_answer_is_left_and_one_that_is_late_is_waited_for() {
        let (tell, opened) = channel();
        let silent = Opened::wait(&opened, Duration::from_millis(30), || false);
        assert_eq!(
            silent.missing(&GpuChoice::All),
            Some("the driver did not answer within 30ms of its library's loading")
        );
        assert!(silent.missing(&GpuChoice::Auto).is_none());
        let late = std::thread::spawn(move || {
            std::thread::sleep(LOOK * 3);
            tell.send(Opened { no_devices: None })
        });
        assert_eq!(Opened::wait(&opened, Duration::from_secs(60), || false).no_devices, None);
        assert!(late.join().is_ok());
        assert!(Opened::wait(&opened, Duration::from_secs(60), || true).no_devices.is_some());
    }
}
