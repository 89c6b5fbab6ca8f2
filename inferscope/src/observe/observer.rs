//! The observing thread: drains the kernel's records, samples /proc, keeps time.
//!
//! Owns the tracker, the handles and the table, so nothing here is shared or locked. One loop with two
//! schedules, the ring's and the sampler's; a record that fills the ring wakes it earlier. Started
//! and stopped by `run`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::ebpf::{EbpfError, Tracker};
use super::proc::handle::{Handle, Units, Unread};
use super::proc::tree;
use super::series::Series;
use super::table::Table;
use super::target::Found;
use crate::clock::Mono;
use crate::event::{Birth, CpuTime, Observation, SetSample, TrackerKind};
use crate::plan::{ObservePlan, TrackerChoice};
use crate::units::Nanos;

/// 20 ms: the ring is read five times before a fork storm could fill it.
const DRAIN_INTERVAL: Nanos = Nanos::from_millis(20);
/// A free comes 17–40 ms after an exit (FACTS.md); one that has not come by then never will.
const SETTLE_LIMIT: Nanos = Nanos::from_millis(1_000);
/// An hour at 50 ms fits; beyond, neighbours are merged (see `series`).
const MAX_SAMPLES: usize = 100_000;
/// Descriptors of processes kept open; beyond, a handle is opened for each reading.
const MAX_HANDLES: usize = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error(
        "the target is gone: process {0} ended before the first sample\n  start the server and try again"
    )]
    TargetGone(u32),
    #[error("--tracker ebpf can't be had: {0}\n  or leave --tracker out to fall back to /proc")]
    Tracker(#[source] EbpfError),
    #[error("the observing thread can't be started: {0}\n  check the limits on processes and open files")]
    Thread(std::io::Error),
}

/// A running observation.
pub struct Observer {
    thread: JoinHandle<Observation>,
    stop: Arc<OwnedFd>,
    target_ended: watch::Receiver<bool>,
}

impl Observer {
    /// Loads the tracker, takes the snapshot and the first sample, then goes on in its own thread.
    ///
    /// # Errors
    /// The target is gone, or the tracker that was asked for by name can't be had.
    pub fn start(plan: &ObservePlan, target: &Found) -> Result<Self, ObserveError> {
        let worker = Worker::begin(plan, target)?;
        let target_ended = worker.tell_end.subscribe();
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| ObserveError::Thread(e.into()))?;
        let stop = Arc::new(stop);
        let theirs = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("observer".into())
            .spawn(move || worker.run(&theirs))
            .map_err(ObserveError::Thread)?;
        Ok(Self { thread, stop, target_ended })
    }

    /// Becomes true when no process of the target lives any more.
    #[must_use]
    pub fn target_ended(&self) -> watch::Receiver<bool> {
        self.target_ended.clone()
    }

    /// Takes the last sample and waits up to a second for final figures; `None` if the thread
    /// panicked, which is a bug.
    #[must_use]
    pub fn finish(self) -> Option<Observation> {
        // An eventfd takes 2^64 - 2 such writes.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        self.thread.join().ok()
    }
}

struct Worker {
    tracker: Option<Tracker>,
    tracker_reason: Option<String>,
    /// The set is one process that was asked for alone.
    single: bool,
    table: Table,
    handles: HashMap<usize, Handle>,
    units: Units,
    interval: Nanos,
    samples: Series<SetSample>,
    overruns: u64,
    started: Mono,
    highest_cpu: Nanos,
    target_ended: Option<Mono>,
    tell_end: watch::Sender<bool>,
}

impl Worker {
    fn begin(plan: &ObservePlan, target: &Found) -> Result<Self, ObserveError> {
        let units = Units::of_this_machine();
        let mut table = Table::default();
        let (tracker, tracker_reason) = match (plan.tracker, target.descendants) {
            (_, false) => (None, Some("--no-descendants samples one process".to_owned())),
            (TrackerChoice::Proc, true) => (None, Some("--tracker proc".to_owned())),
            (choice, true) => match Tracker::start(&target.roots, units.page_bytes, |r| table.apply(r)) {
                Ok(tracker) => (Some(tracker), None),
                Err(e) if choice == TrackerChoice::Ebpf => return Err(ObserveError::Tracker(e)),
                Err(e) => (None, Some(e.to_string())),
            },
        };
        let mut worker = Self {
            tracker,
            tracker_reason,
            single: !target.descendants,
            table,
            handles: HashMap::new(),
            units,
            interval: plan.sample_interval,
            samples: Series::new(MAX_SAMPLES, |a, b| a.rss_bytes > b.rss_bytes),
            overruns: 0,
            started: Mono::now(),
            highest_cpu: Nanos::ZERO,
            target_ended: None,
            tell_end: watch::Sender::new(false),
        };
        if worker.tracker.is_none() {
            worker.first_scan(&target.roots);
        }
        let first = worker.sample();
        worker.samples.push(first);
        if first.processes == 0 {
            return Err(ObserveError::TargetGone(target.roots.first().copied().unwrap_or(0)));
        }
        Ok(worker)
    }

    fn first_scan(&mut self, roots: &[u32]) {
        let nodes = tree::scan();
        let roots = nodes.iter().copied().filter(|n| roots.contains(&n.pid)).collect::<Vec<_>>();
        for root in &roots {
            self.appear(*root, Birth::AliveAtStart);
        }
        if !self.single {
            for node in tree::newcomers(&nodes, &self.table.living_pids(), std::process::id()) {
                self.appear(node, Birth::AliveAtStart);
            }
        }
    }

    fn appear(&mut self, node: tree::Node, birth: Birth) {
        let tick_ns = 1_000_000_000 / self.units.ticks_per_second.max(1);
        self.table.appear(Mono::now(), node, birth, node.start_ticks.saturating_mul(tick_ns));
    }

    fn run(mut self, stop: &OwnedFd) -> Observation {
        let mut next_sample = self.started.plus(self.interval);
        let mut next_drain = self.started.plus(DRAIN_INTERVAL);
        loop {
            let now = Mono::now();
            let due = if self.tracker.is_some() { next_sample.min(next_drain) } else { next_sample };
            if self.wait(stop, due.since(now)) {
                break;
            }
            let now = Mono::now();
            self.drain();
            next_drain = now.plus(DRAIN_INTERVAL);
            if now >= next_sample {
                if now.since(next_sample) >= self.interval {
                    self.overruns += 1;
                }
                let sample = self.sample();
                self.samples.push(sample);
                // On the grid, with the ticks that were missed left out.
                let missed = now.since(next_sample).0 / self.interval.0.max(1);
                next_sample = next_sample.plus(Nanos(self.interval.0.saturating_mul(missed + 1)));
            }
        }
        self.end()
    }

    /// True when asked to stop.
    fn wait(&self, stop: &OwnedFd, time: Nanos) -> bool {
        let ring = self.tracker.as_ref().map(Tracker::ring_fd);
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        if let Some(ring) = &ring {
            fds.push(PollFd::new(ring, PollFlags::IN));
        }
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(time.0 / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(time.0 % 1_000_000_000).unwrap_or(0),
        };
        // An interrupted wait is only a short one.
        let _ = poll(&mut fds, Some(&timeout));
        fds[0].revents().contains(PollFlags::IN)
    }

    fn drain(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            let table = &mut self.table;
            let undecodable = tracker.drain(|r| table.apply(r));
            self.table.loss.undecodable += undecodable;
        }
    }

    /// One look at every living member.
    fn sample(&mut self) -> SetSample {
        if self.tracker.is_none() && !self.single {
            let nodes = tree::scan();
            for node in tree::newcomers(&nodes, &self.table.living_pids(), std::process::id()) {
                self.appear(node, Birth::Forked);
            }
        }
        let t = Mono::now();
        let (mut processes, mut threads, mut rss_bytes) = (0_u32, 0_u32, 0_u64);
        let living: Vec<_> = self.table.living().collect();
        self.handles.retain(|&i, _| self.table.is_living(i));
        for (i, pid, start) in living {
            let reading = match self.handles.get(&i) {
                Some(handle) => handle.read(),
                None => self.first_look(i, pid, start),
            };
            match reading {
                // A zombie has no threads and no memory; it waits for its parent.
                Ok(reading) if reading.zombie => {
                    if self.tracker.is_none() {
                        self.table.sampled(i, &reading);
                        self.table.vanish(t, pid);
                    }
                }
                Ok(reading) => {
                    self.table.sampled(i, &reading);
                    processes += 1;
                    threads = threads.saturating_add(reading.threads);
                    rss_bytes = rss_bytes.saturating_add(reading.rss_bytes);
                }
                // With the kernel tracker its exit record is on the way.
                Err(Unread::Gone) if self.tracker.is_some() => {}
                Err(Unread::Gone) => self.table.vanish(t, pid),
                Err(Unread::Refused) => self.table.loss.unreadable += 1,
            }
        }
        if processes == 0 && self.target_ended.is_none() {
            self.target_ended = Some(t);
            let _ = self.tell_end.send_replace(true);
        } else if processes > 0 {
            self.target_ended = None;
        }
        let cpu = self.table.exited_cpu().total() + self.table.living_cpu().total();
        // Between a death and its final figure the sum could step back by a time slice.
        self.highest_cpu = self.highest_cpu.max(cpu);
        SetSample { t, processes, threads, rss_bytes, pss_bytes: None, cpu: self.highest_cpu }
    }

    fn first_look(&mut self, i: usize, pid: u32, start: u64) -> Result<super::proc::handle::Reading, Unread> {
        let handle = Handle::open(pid, Some(self.units.start_ticks(start)), self.units)?;
        let reading = handle.read()?;
        let (exe, argv) = handle.identity();
        self.table.identify(i, exe, argv);
        if self.handles.len() < MAX_HANDLES {
            self.handles.insert(i, handle);
        }
        Ok(reading)
    }

    /// The set is closed first, so that the kernel's counters and the list tell of the same
    /// processes; then the last deaths are waited for.
    fn end(mut self) -> Observation {
        if let Some(tracker) = &mut self.tracker {
            tracker.detach_births();
        }
        self.drain();
        let last = self.sample();
        let ended = Mono::now();
        self.note_peaks();
        self.settle(ended);
        if let Some(tracker) = &mut self.tracker {
            tracker.detach_deaths();
        }
        self.drain();
        let totals = self.tracker.as_ref().and_then(Tracker::totals);
        let mut counts = self.table.counts;
        let mut loss = self.table.loss;
        if let Some(totals) = totals {
            counts.forks = totals.forks;
            counts.exits = totals.exits;
            counts.execs = Some(totals.execs);
            counts.threads = Some(totals.threads);
            loss.ring_full = totals.ring_full;
            loss.unmarked = totals.unmarked;
        } else {
            counts.execs = None;
            counts.threads = None;
        }
        loss.unreadable = loss.unreadable.saturating_add(self.table.without_cpu());
        let (samples, samples_thinned) = self.samples.finish(Some(last));
        let cpu_exited = self.table.exited_cpu();
        let cpu_living: CpuTime = self.table.living_cpu();
        let by_kernel = self.tracker.is_some();
        let (processes, events) = self.table.finish();
        Observation {
            tracker: if by_kernel { TrackerKind::Ebpf } else { TrackerKind::Proc },
            tracker_reason: self.tracker_reason,
            tracker_is_complete: by_kernel || self.single,
            started: self.started,
            ended,
            processes,
            events,
            samples,
            counts,
            loss,
            cpu_exited,
            cpu_living,
            cpu_unlisted: CpuTime::default(),
            cgroups: HashMap::new(),
            accounting: None,
            pss_reason: None,
            sample_interval: self.interval,
            sample_overruns: self.overruns,
            samples_thinned,
            target_ended: self.target_ended,
        }
    }

    fn note_peaks(&mut self) {
        for (&i, handle) in &self.handles {
            if let Some(bytes) = handle.peak_rss_bytes() {
                self.table.note_peak_rss(i, bytes);
            }
        }
    }

    /// Waits for the final figures of those that ended; zombies tell theirs through their clock.
    fn settle(&mut self, ended: Mono) {
        if self.tracker.is_none() {
            return;
        }
        loop {
            for i in self.table.unsettled() {
                let (pid, start) = self.table.id(i);
                let handle = Handle::open(pid, Some(self.units.start_ticks(start)), self.units);
                match handle.and_then(|h| h.read()) {
                    Ok(reading) if reading.zombie => self.table.settle(i, reading.cpu),
                    _ => {}
                }
            }
            if self.table.unsettled().is_empty() || Mono::now().since(ended) > SETTLE_LIMIT {
                return;
            }
            std::thread::sleep(DRAIN_INTERVAL.to_duration());
            self.drain();
        }
    }
}
