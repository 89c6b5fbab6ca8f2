//! The devices, polled through NVML, and beside them the energy of the CPU packages.
//!
//! Owns its thread: a driver that takes its time delays neither tokens nor /proc. A query that a device refuses is kept
//! with NVML's reason and is `None` in every reading, never 0. Started and stopped by `session`. Proved against a
//! stand-in for the driver (`tests/nvml-standin`), on no hardware yet (README).
//!
//! `worker` is the thread, `selection` the devices that it polls, `log` the log that it adds to. `device` is one
//! device's queries, `schedule` when they are made, `bracket` how an energy counter is read at a window's ends,
//! `query_policy` what they answer at all, `processes`, `driver_samples` and `counters` make sense of three of them,
//! `gpm` reads the device's own counters, `nvml_ffi` holds the other unsafe calls. The packages' energy is read by
//! `observe::rapl`.

mod bracket;
mod counters;
mod device;
mod driver_samples;
mod gpm;
mod log;
mod nvml_ffi;
mod processes;
mod query_policy;
mod schedule;
mod selection;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::clock::Mono;
use crate::event::{CpuPackages, GpuLog};
use crate::observe::rapl::{self, Packages};
use crate::plan::{GpuChoice, ObservePlan};
use crate::privilege::{self, ThreadRole};
use crate::units::Nanos;

use log::SharedLog;
use worker::Worker;

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
    /// Where nothing polls.
    no_packages: Option<String>,
    baseline: Option<(Mono, Mono)>,
    began: Option<Mono>,
}

struct Poll {
    thread: Thread,
    stop: Arc<AtomicBool>,
    edge: Arc<Edge>,
    /// After the first look at all devices.
    looked: Option<oneshot::Receiver<()>>,
    ended: Receiver<()>,
    shared: SharedLog,
    has_devices: bool,
}

/// What the thread opens first: the library runs code of its own when it is loaded, so it is loaded where nothing can
/// be done with it.
struct Opening {
    plan: ObservePlan,
    stop: Arc<AtomicBool>,
    edge: Arc<Edge>,
    roots: Vec<u32>,
    shared: SharedLog,
    /// Opened before the library had its say.
    packages: Result<Packages, String>,
}

/// Why there are no devices and no CPU packages to poll.
struct Opened {
    no_devices: Option<String>,
    no_packages: Option<String>,
}

impl Opened {
    /// Devices that were asked for by name.
    fn missing(&self, choice: &GpuChoice) -> Option<&str> {
        self.no_devices.as_deref().filter(|_| !matches!(choice, GpuChoice::Auto | GpuChoice::Off))
    }

    fn is_nothing(&self) -> bool {
        self.no_devices.is_some() && self.no_packages.is_some()
    }

    fn nothing(why: String) -> Self {
        Self { no_devices: Some(why.clone()), no_packages: Some(why) }
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
        let devices = selection::devices(&self.plan);
        let outcome = Opened {
            no_devices: devices.as_ref().err().cloned(),
            no_packages: self.packages.as_ref().err().cloned(),
        };
        if outcome.is_nothing() || outcome.missing(&self.plan.gpu).is_some() {
            return (None, outcome);
        }
        let worker = Worker {
            devices: devices.ok(),
            packages: self.packages,
            interval: self.plan.sample_interval,
            stop: self.stop,
            edge: self.edge,
            roots: self.roots,
            shared: self.shared,
        };
        (Some(worker), outcome)
    }
}

/// Tells the poll that a window begins or ends.
#[derive(Debug, Clone, Default)]
pub struct Edges(Option<(Thread, Arc<Edge>)>);

impl Edges {
    /// It is now. Costs the waking of a thread, so that it is for the few moments that matter.
    pub fn mark(&self) {
        if let Some((thread, edge)) = &self.0 {
            edge.tell();
            thread.unpark();
        }
    }

    /// It is then, unless another comes before.
    pub fn mark_at(&self, t: Mono) {
        if let Some((thread, edge)) = &self.0 {
            edge.announce(t);
            thread.unpark();
        }
    }
}

/// The edge that the poll has not read yet.
#[derive(Debug, Default)]
struct Edge {
    came: AtomicBool,
    /// Nanoseconds; zero where none is announced.
    ahead: AtomicU64,
}

impl Edge {
    fn tell(&self) {
        self.ahead.store(0, Ordering::Relaxed);
        self.came.store(true, Ordering::Release);
    }

    fn announce(&self, t: Mono) {
        self.ahead.store(t.0, Ordering::Relaxed);
    }

    /// When the next one is announced for.
    fn ahead(&self) -> Option<Mono> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|ns| *ns > 0).map(Mono)
    }

    /// Whether one has come by `now`. It is told once.
    fn take(&self, now: Mono) -> bool {
        let due = self.ahead().filter(|t| *t <= now);
        let announced = due.is_some_and(|t| {
            self.ahead.compare_exchange(t.0, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        });
        self.came.swap(false, Ordering::Acquire) || announced
    }
}

impl Poller {
    /// `roots`: processes of the target whose environment may say which devices CUDA shows them. Once the run is over,
    /// as by a signal, the driver is not waited for.
    ///
    /// # Errors
    /// Devices asked for by name (`--gpu all`, indices, UUIDs) that are not there.
    pub fn start(plan: &ObservePlan, roots: &[u32], is_over: impl Fn() -> bool) -> Result<Self, GpuError> {
        let none = |unavailable, no_packages| Self {
            poll: None,
            unavailable,
            no_packages,
            baseline: None,
            began: None,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let edge = Arc::new(Edge::default());
        let (tell_look, looked) = oneshot::channel();
        let (tell_end, ended) = channel();
        let (tell_opened, opened) = channel();
        let shared = SharedLog::default();
        let opening = Opening {
            plan: plan.clone(),
            stop: Arc::clone(&stop),
            edge: Arc::clone(&edge),
            roots: roots.to_vec(),
            shared: shared.clone(),
            packages: Packages::open(Path::new(rapl::POWERCAP)),
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
            Err(e) => {
                let why = format!("the NVML thread can't be started: {e}");
                return Ok(none(Some(why.clone()), Some(why)));
            }
        };
        let outcome = Opened::wait(&opened, OPENING_LIMIT, &is_over);
        if let Some(why) = outcome.missing(&plan.gpu).filter(|_| !is_over()) {
            return Err(GpuError::Missing(why.to_owned()));
        }
        let has_devices = outcome.no_devices.is_none();
        if outcome.is_nothing() {
            stop.store(true, Ordering::Relaxed);
            return Ok(none(outcome.no_devices, outcome.no_packages));
        }
        let poll = Poll {
            thread: thread.thread().clone(),
            stop,
            edge,
            looked: Some(looked),
            ended,
            shared,
            has_devices,
        };
        Ok(Self { poll: Some(poll), ..none(outcome.no_devices, None) })
    }

    /// Where there are devices, waits for the first look and then for `time`, in which nothing is to be sent: what they
    /// use at rest. No longer than until `stop`, and once only.
    pub async fn rest(&mut self, time: Nanos, stop: impl Future<Output = ()>) {
        let edges = self.edges();
        let Some(poll) = self.poll.as_mut().filter(|p| p.has_devices && time > Nanos::ZERO) else { return };
        let Some(looked) = poll.looked.take() else { return };
        let rested = async {
            timeout(DRIVER_LIMIT, looked).await.ok()?.ok()?;
            let from = Mono::now();
            edges.mark();
            sleep(time.to_duration()).await;
            Some((from, Mono::now()))
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
        Edges(self.poll.as_ref().map(|poll| (poll.thread.clone(), Arc::clone(&poll.edge))))
    }

    /// All that was told; of a driver that does not come back, what it told before.
    #[must_use]
    pub fn finish(self) -> GpuLog {
        let Some(poll) = self.poll else {
            return GpuLog {
                unavailable: self.unavailable,
                packages: CpuPackages { unavailable: self.no_packages, ..CpuPackages::default() },
                ..GpuLog::default()
            };
        };
        poll.stop.store(true, Ordering::Relaxed);
        poll.thread.unpark();
        // A driver that only is slow has its last answers by then, or goes without.
        if matches!(poll.ended.recv_timeout(DRIVER_LIMIT), Err(RecvTimeoutError::Timeout)) {
            HANGS.store(true, Ordering::Relaxed);
        }
        let (mut log, call) = poll.shared.take();
        let call = call.filter(|(_, since)| Mono::now().since(*since) > HANGS_AFTER);
        if let Some((call, _)) = call {
            let why = format!("the thread that reads the CPU packages waited for the driver ({call})");
            log.packages.unavailable.get_or_insert(why);
        }
        GpuLog {
            baseline: self.baseline,
            began: self.began,
            unavailable: self.unavailable,
            hangs: call.map(|(call, since)| (call.to_owned(), since)),
            ..log
        }
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
        assert!(silent.is_nothing() && silent.missing(&GpuChoice::Auto).is_none());
        let late = std::thread::spawn(move || {
            std::thread::sleep(LOOK * 3);
            tell.send(Opened { no_devices: None, no_packages: None })
        });
        assert!(!Opened::wait(&opened, Duration::from_secs(60), || false).is_nothing());
        assert!(late.join().is_ok());
        assert!(Opened::wait(&opened, Duration::from_secs(60), || true).no_devices.is_some());
    }

    #[test]
    fn an_edge_is_told_once_and_an_announced_one_when_its_time_has_come() {
        let edge = Edge::default();
        assert!(!edge.take(Mono(5)));
        edge.tell();
        assert!(edge.take(Mono(5)) && !edge.take(Mono(5)));
        edge.announce(Mono(9));
        assert!(!edge.take(Mono(8)) && edge.take(Mono(9)) && !edge.take(Mono(10)));
        // A phase that ended before its time has no other end.
        edge.announce(Mono(20));
        edge.tell();
        assert!(edge.take(Mono(15)) && !edge.take(Mono(25)));
    }
}
