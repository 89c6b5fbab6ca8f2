//! The observing thread: drains the kernel's records, samples /proc, keeps time.
//!
//! Owns the tracker, the handles and the table, so nothing here is shared or locked. One loop with two schedules, the ring's and
//! the sampler's; a record that fills the ring wakes it earlier. Its parts: `window` is where CPU begins to count, `sampling` one look
//! at the set, `losses` what a lost record takes and how it is made good, `end` the close of the set. Called by `observer`.

mod end;
mod losses;
mod sampling;
mod window;

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::watch;

use super::{EventSink, ObserveError, Used};
use crate::clock::Mono;
use crate::event::{Birth, Observation, SetEvent, SetSample};
use crate::observe::cgroup::{self, Accounting, Hierarchies};
use crate::observe::clocks::Tick;
use crate::observe::ebpf::{EbpfError, Record, Tracker, What};
use crate::observe::proc::handle::{is_zombie, lives};
use crate::observe::proc::tree;
use crate::observe::sample_clock::SampleClock;
use crate::observe::sampler::Sampler;
use crate::observe::table::Table;
use crate::observe::target_discovery::Found;
use crate::plan::{ObservePlan, TrackerChoice};
use crate::units::Nanos;

use window::tick;

/// A ring a quarter full wakes by itself, and each sample begins with what waits there: this is for long sample
/// intervals only, as what was moved in has its threads marked when it is read of.
const DRAIN_INTERVAL: Nanos = Nanos::from_millis(100);

/// Why the observer's thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Stop,
    Mark,
    Due,
}

pub(super) struct Worker {
    tracker: Option<Tracker>,
    tracker_reason: Option<String>,
    target: Found,
    table: Table,
    sampler: Sampler,
    sample_clock: SampleClock,
    sink: EventSink,
    accounting: Option<Accounting>,
    hierarchies: Hierarchies,
    started: Mono,
    /// The same as /proc/PID/stat shows starts.
    started_ticks: u64,
    highest_cpu: Nanos,
    target_ended: Option<Mono>,
    pub(super) tell_end: watch::Sender<bool>,
    /// Of the last sample.
    pub(super) latest: watch::Sender<Used>,
    /// Losses after which the living were looked through again.
    seen_losses: u64,
    /// Births among the runs that the kernel skipped, as of the last look.
    seen_missed_births: u64,
    next_missed_look: Mono,
    /// A process with several threads was moved in: its threads are not marked yet.
    moved_in: bool,
    /// Looks that the kernel refused.
    failed_looks: u64,
    /// inferscope itself was in the target's cgroup.
    beside_own: bool,
    tick: Tick,
    cpus: u64,
    /// Of the set's CPU when the window began.
    first_error: Nanos,
}

impl Worker {
    pub(super) fn begin(plan: &ObservePlan, target: &Found, sink: EventSink) -> Result<Self, ObserveError> {
        let sampler = Sampler::new();
        let mut table = Table::new(plan.max_processes);
        let hierarchies = Hierarchies::of_this_process();
        let accounting = target.cgroup.as_ref().map(|c| Accounting::of(c, &hierarchies));
        let beside_own = target
            .cgroup
            .as_ref()
            .is_some_and(|c| cgroup::processes_below(&c.dir).contains(&std::process::id()));
        let (tracker, tracker_reason) = match (plan.tracker, target.descendants) {
            (_, false) => (None, Some("--no-descendants samples one process".to_owned())),
            (TrackerChoice::Proc, true) => (None, Some("--tracker proc".to_owned())),
            (choice, true) => {
                let page_bytes = sampler.units.page_bytes;
                let started = Tracker::start(target, plan.ring_bytes, page_bytes, |r| table.apply(r));
                let started = started.and_then(|tracker| match hidden(&table, target) {
                    Some(pid) => Err(EbpfError::HiddenRoot(pid)),
                    None => Ok(tracker),
                });
                if started.is_err() {
                    // What a snapshot has told before it failed is looked for anew.
                    table = Table::new(plan.max_processes);
                }
                match started {
                    Ok(tracker) => (Some(tracker), None),
                    Err(e) if choice == TrackerChoice::Ebpf => return Err(ObserveError::Tracker(e)),
                    Err(e) if target.cgroup.is_some() => return Err(ObserveError::CgroupNeedsEbpf(e)),
                    Err(e) => (None, Some(e.to_string())),
                }
            }
        };
        let now = Mono::now();
        let mut worker = Self {
            tracker,
            tracker_reason,
            target: target.clone(),
            table,
            sampler,
            sample_clock: SampleClock::new(plan.sample_interval, now),
            sink,
            accounting,
            hierarchies,
            started: now,
            started_ticks: 0,
            highest_cpu: Nanos::ZERO,
            target_ended: None,
            tell_end: watch::Sender::new(false),
            latest: watch::Sender::new(Used { t: now, cpu: Nanos::ZERO }),
            seen_losses: 0,
            seen_missed_births: 0,
            next_missed_look: now,
            moved_in: false,
            failed_looks: 0,
            beside_own,
            tick: tick(),
            cpus: crate::observe::cpus::online().map_or(u64::MAX, u64::from),
            first_error: Nanos::ZERO,
        };
        if worker.tracker.is_none() {
            if target.descendants {
                worker.table.follow_waits(worker.sampler.units.ticks_per_second);
            }
            worker.first_scan();
        }
        worker.begin_window();
        let (first, _) = worker.sample();
        worker.first_error = first.cpu_error;
        worker.emit(Some(first));
        // An empty cgroup is waited in; a tree without a process never gets one.
        if first.processes == 0 && target.cgroup.is_none() {
            let root = target.roots.first().copied().unwrap_or(0);
            return Err(ObserveError::TargetGone(format!("the tree of process {root}")));
        }
        Ok(worker)
    }

    fn first_scan(&mut self) {
        let nodes = tree::scan();
        let roots: Vec<_> = nodes.iter().copied().filter(|n| self.target.roots.contains(&n.pid)).collect();
        for root in &roots {
            self.appear(*root, Birth::AliveAtStart);
        }
        if self.target.descendants {
            for node in tree::newcomers(&nodes, &self.table.living_pids(), std::process::id()) {
                self.appear(node, Birth::AliveAtStart);
            }
        }
    }

    fn appear(&mut self, node: tree::Node, birth: Birth) {
        self.table.appear(Mono::now(), node, birth, self.start_ns(&node));
    }

    fn start_ns(&self, node: &tree::Node) -> u64 {
        let tick_ns = 1_000_000_000 / self.sampler.units.ticks_per_second.max(1);
        node.start_ticks.saturating_mul(tick_ns)
    }

    pub(super) fn run(mut self, stop: &OwnedFd, marks: &OwnedFd) -> Observation {
        let mut next_drain = self.started.plus(DRAIN_INTERVAL);
        loop {
            let now = Mono::now();
            let due = if self.tracker.is_some() {
                self.sample_clock.due().min(next_drain)
            } else {
                self.sample_clock.due()
            };
            let woken = self.wait([stop, marks], due.since(now));
            if woken == Woken::Stop {
                break;
            }
            let now = Mono::now();
            self.drain();
            next_drain = now.plus(DRAIN_INTERVAL);
            if woken == Woken::Mark {
                // How often it was asked is of no interest.
                let _ = rustix::io::read(marks, &mut [0; 8]);
                let (sample, _) = self.sample();
                self.emit(Some(sample));
            } else if now >= self.sample_clock.due() {
                let cpu = own_thread_cpu();
                let (sample, _) = self.sample();
                self.emit(Some(sample));
                self.sample_clock.ticked(now, own_thread_cpu().saturating_sub(cpu));
            }
        }
        self.end()
    }

    /// Sends what happened since the last time, and a sample after it.
    fn emit(&mut self, sample: Option<SetSample>) {
        let events = self.table.take_events().chain(sample.map(SetEvent::Sample));
        events.for_each(&mut self.sink);
    }

    /// Until one of the two is written to, much waits in the ring, or the time is over.
    fn wait(&self, [stop, marks]: [&OwnedFd; 2], time: Nanos) -> Woken {
        let ring = self.tracker.as_ref().map(Tracker::ring_fd);
        let mut fds = vec![PollFd::new(stop, PollFlags::IN), PollFd::new(marks, PollFlags::IN)];
        if let Some(ring) = &ring {
            fds.push(PollFd::new(ring, PollFlags::IN));
        }
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(time.0 / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(time.0 % 1_000_000_000).unwrap_or(0),
        };
        // An interrupted wait is only a short one.
        let _ = poll(&mut fds, Some(&timeout));
        match [&fds[0], &fds[1]].map(|fd| fd.revents().contains(PollFlags::IN)) {
            [true, _] => Woken::Stop,
            [false, true] => Woken::Mark,
            [false, false] => Woken::Due,
        }
    }

    fn drain(&mut self) {
        let Some(tracker) = &mut self.tracker else { return };
        let (table, moved_in) = (&mut self.table, &mut self.moved_in);
        let undecodable = tracker.drain(|record: Record| {
            *moved_in |= matches!(record.what, What::MoveIn(_));
            table.apply(record);
        });
        table.loss.undecodable += undecodable;
        if std::mem::take(moved_in) {
            let marked = tracker.mark(|record| {
                table.adopt(record);
            });
            self.failed_looks += u64::from(marked.is_err());
        }
    }
}

/// A root that lives and that the snapshot has not told of.
fn hidden(table: &Table, target: &Found) -> Option<u32> {
    if target.cgroup.is_some() {
        return None;
    }
    let told = table.living_pids();
    target.roots.iter().copied().find(|pid| !told.contains(pid) && lives(*pid) && !is_zombie(*pid))
}

pub(in crate::observe) fn own_thread_cpu() -> Nanos {
    nanos_of(rustix::time::ClockId::ThreadCPUTime)
}

fn nanos_of(clock: rustix::time::ClockId) -> Nanos {
    let t = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0)))
}
