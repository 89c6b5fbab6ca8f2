//! The observing thread: drains the kernel's records, samples /proc, keeps time.
//!
//! Owns the tracker, the handles and the table, so nothing here is shared or locked. One loop with two
//! schedules, the ring's and the sampler's; a record that fills the ring wakes it earlier. Started
//! and stopped by `run`.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::bounded_series::BoundedSeries;
use super::cgroup::{self, Accounting, Hierarchies};
use super::clocks::{self, Clocks, Kernel, Tick};
use super::ebpf::{EbpfError, Record, Tracker, What, cpu_of};
use super::proc::handle::{cpu_clock, is_zombie, lives};
use super::proc::tree;
use super::sample_clock::SampleClock;
use super::sampler::{Look, Sampler};
use super::table::Table;
use super::target_discovery::{CgroupTarget, Found};
use crate::clock::Mono;
use crate::event::{Birth, CgroupAccounting, CpuTime, LostRecords, Observation, SetSample, TrackerKind};
use crate::plan::{ObservePlan, TrackerChoice};
use crate::privilege::{self, Role};
use crate::units::Nanos;

/// A ring a quarter full wakes by itself, and each sample begins with what waits there: this is for long sample
/// intervals only, as what was moved in has its threads marked when it is read of.
const DRAIN_INTERVAL: Nanos = Nanos::from_millis(100);
/// A free comes 17–40 ms after an exit (FACTS.md); one that has not come by then never will.
const SETTLE_LIMIT: Nanos = Nanos::from_millis(1_000);
/// CONFIG_HZ is 1,000 at most.
const SHORTEST_TICK: Nanos = Nanos::from_millis(1);
/// Without a tick a CPU is looked after once a second.
const LONGEST_UNCHARGED: Nanos = Nanos::from_millis(1_100);
const NOT_TOLD: &str = "only the kernel tracker tells which threads run, and a running thread's CPU clock moves at the \
                        scheduler's tick";
/// What a rest before the load takes: of a set that does nothing, and of one that does.
const LEAST_REST: Nanos = Nanos::from_millis(200);
const BUSY_REST: Nanos = Nanos::from_millis(500);
/// Of one CPU, as a divisor: a set that uses more at rest works.
const BUSY_PART: u64 = 100;
/// Between two looks at how many runs the kernel skipped.
const MISSED_LOOK: Nanos = Nanos::from_millis(1_000);
/// A sample that takes longer is not waited for.
const MARK_LIMIT: Nanos = Nanos::from_millis(200);
/// An hour at 50 ms fits; beyond, neighbours are merged (see `bounded_series`).
const MAX_SAMPLES: usize = 100_000;

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
    /// Loads the tracker, takes the snapshot and the first sample, then goes on in its own thread.
    ///
    /// # Errors
    /// The target is gone, or the tracker that was asked for by name can't be had.
    pub fn start(plan: &ObservePlan, target: &Found) -> Result<Self, ObserveError> {
        let raised = privilege::raise();
        let worker = Worker::begin(plan, target)?;
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
                privilege::shed(Role::Observer);
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

    /// Takes the last sample and waits up to a second for final figures; `None` if the thread
    /// panicked, which is a bug.
    #[must_use]
    pub fn finish(self) -> Option<Observation> {
        // An eventfd takes 2^64 - 2 such writes.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        self.thread.join().ok()
    }
}

/// Why the observer's thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Stop,
    Mark,
    Due,
}

struct Worker {
    tracker: Option<Tracker>,
    tracker_reason: Option<String>,
    target: Found,
    table: Table,
    sampler: Sampler,
    sample_clock: SampleClock,
    samples: BoundedSeries<SetSample>,
    accounting: Option<Accounting>,
    hierarchies: Hierarchies,
    started: Mono,
    /// The same as /proc/PID/stat shows starts.
    started_ticks: u64,
    highest_cpu: Nanos,
    target_ended: Option<Mono>,
    tell_end: watch::Sender<bool>,
    /// Of the last sample.
    latest: watch::Sender<Used>,
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
    fn begin(plan: &ObservePlan, target: &Found) -> Result<Self, ObserveError> {
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
            samples: BoundedSeries::new(MAX_SAMPLES, |a, b| a.rss_bytes > b.rss_bytes),
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
            cpus: super::cpus::online().map_or(u64::MAX, u64::from),
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
        worker.samples.push(first);
        // An empty cgroup is waited in; a tree without a process never gets one.
        if first.processes == 0 && target.cgroup.is_none() {
            let root = target.roots.first().copied().unwrap_or(0);
            return Err(ObserveError::TargetGone(format!("the tree of process {root}")));
        }
        Ok(worker)
    }

    /// The clocks of the living and the cgroup's own figure are read at once, before anything that takes
    /// time: what is born from here on counts from its birth.
    fn begin_window(&mut self) {
        let before = self.accounting.as_ref().and_then(Accounting::read);
        let clocks = self.clocks();
        if let Some(accounting) = &mut self.accounting {
            let after = accounting.read();
            accounting.begin(before, after, clocks.uncharged);
        }
        for (i, total) in clocks.totals() {
            self.table.window_began(i, total);
        }
        self.started = clocks.t;
        self.started_ticks = self.sampler.units.start_ticks(boottime_ns());
    }

    /// The clocks of the living, all as of one moment.
    fn clocks(&self) -> Clocks {
        clocks::read(&self.table.members(), self.tick, &mut Here(self.tracker.as_ref()))
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

    fn run(mut self, stop: &OwnedFd, marks: &OwnedFd) -> Observation {
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
                self.samples.push(sample);
            } else if now >= self.sample_clock.due() {
                let cpu = own_thread_cpu();
                let (sample, _) = self.sample();
                self.samples.push(sample);
                self.sample_clock.ticked(now, own_thread_cpu().saturating_sub(cpu));
            }
        }
        self.end()
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

    /// Where records were lost, the living are looked through again; whether any were.
    fn recover(&mut self) -> bool {
        let Some(tracker) = &mut self.tracker else { return false };
        let Some(totals) = tracker.totals() else { return false };
        let losses = totals.lost_forks + totals.lost_others;
        if losses != self.seen_losses {
            self.seen_losses = losses;
            let table = &mut self.table;
            let swept = tracker.sweep(|record| {
                table.adopt(record);
            });
            self.failed_looks += u64::from(swept.is_err());
        }
        totals.lost_exits + totals.lost_frees + losses + self.table.loss.unlisted_processes > 0
    }

    /// Where a birth may have been missed, what lives of it is marked now, with what it forks from here on.
    fn find_missed(&mut self) {
        let now = Mono::now();
        let Some(tracker) = self.tracker.as_mut().filter(|_| now >= self.next_missed_look) else { return };
        self.next_missed_look = now.plus(MISSED_LOOK);
        let births = tracker.missed_runs().map_or(0, |missed| missed.forks.saturating_add(missed.moves));
        if births > self.seen_missed_births {
            self.seen_missed_births = births;
            let table = &mut self.table;
            let marked = tracker.mark(|record| {
                table.adopt(record);
            });
            self.failed_looks += u64::from(marked.is_err());
        }
    }

    /// One look at every living member.
    fn sample(&mut self) -> (SetSample, Look) {
        self.find_newcomers();
        self.find_missed();
        let lossy = self.recover();
        let clocks = self.clocks();
        self.sample_at(&clocks, lossy, false)
    }

    fn find_newcomers(&mut self) {
        if self.tracker.is_none() && self.target.descendants {
            let nodes = tree::scan();
            if self.table.has_unlisted() {
                let there: HashSet<_> = nodes.iter().map(|n| (n.pid, self.start_ns(n))).collect();
                self.table.keep_unlisted(|pid, start| there.contains(&(pid, start)));
            }
            for node in tree::newcomers(&nodes, &self.table.living_pids(), std::process::id()) {
                // One that the first scan passed by has used CPU before the window.
                let before = node.start_ticks < self.started_ticks;
                self.appear(node, if before { Birth::AliveAtStart } else { Birth::Forked });
            }
        }
    }

    /// The set at the moment when its clocks were read.
    fn sample_at(&mut self, clocks: &Clocks, lossy: bool, is_last: bool) -> (SetSample, Look) {
        let t = clocks.t;
        if clocks.some_gone {
            // Their ends were told meanwhile.
            self.drain();
        }
        let look = self.sampler.look(clocks, is_last, &mut self.table);
        if self.tracker.is_none() {
            for &i in &look.zombies {
                self.table.found_dead(t, i);
            }
            for &i in &look.gone {
                self.table.vanish(t, i, false);
            }
            let sampler = &self.sampler;
            self.table.look_for_the_dead(|pid, start| sampler.is_there(pid, start));
        }
        self.note_end(t, look.processes);
        let mut cpu = self.table.exited_cpu().total() + self.table.living_cpu().total();
        if let Some(totals) = self.tracker.as_ref().filter(|_| lossy).and_then(Tracker::totals) {
            cpu += self.table.unlisted(totals.ended).total();
        }
        let unseen = self.table.unseen_cpu().unwrap_or_default();
        cpu += unseen.0.total();
        // Between a death and its final figure the sum could step back by a time slice.
        self.highest_cpu = self.highest_cpu.max(cpu);
        self.latest.send_replace(Used { t, cpu: self.highest_cpu });
        let sample = SetSample {
            t,
            processes: look.processes,
            threads: look.threads,
            rss_bytes: look.rss_bytes,
            pss_bytes: look.pss_bytes,
            cpu: self.highest_cpu,
            // So many threads can run at a time.
            cpu_error: clocks.error.unwrap_or_else(|| self.tick_of(u64::from(look.threads))) + unseen.1,
        };
        (sample, look)
    }

    fn tick_of(&self, threads: u64) -> Nanos {
        Nanos(self.tick.length.0.saturating_mul(threads.min(self.cpus)))
    }

    /// A tree ends with its last process, a cgroup with its directory.
    fn note_end(&mut self, t: Mono, processes: u32) {
        let ended = match &self.target.cgroup {
            Some(target) => cgroup::id_of(&target.dir) != Some(target.id),
            None => processes == 0,
        };
        if ended && self.target_ended.is_none() {
            self.target_ended = Some(t);
            self.tell_end.send_replace(true);
        } else if !ended {
            self.target_ended = None;
        }
    }

    /// The set is closed first, so that the kernel's counters and the list tell of the same
    /// processes; then the last deaths are waited for.
    fn end(mut self) -> Observation {
        if let Some(tracker) = &mut self.tracker {
            self.failed_looks += u64::from(tracker.detach_births().is_err());
        }
        self.drain();
        self.find_newcomers();
        let lossy = self.recover();
        let before = self.accounting.as_ref().and_then(Accounting::read);
        let clocks = self.clocks();
        if let Some(accounting) = &mut self.accounting {
            let after = accounting.read();
            accounting.end(before, after, clocks.uncharged);
        }
        let (last, look) = self.sample_at(&clocks, lossy, true);
        let ended = clocks.t;
        self.sampler.note_peaks(&mut self.table);
        let unlisted_living = self.unlisted_living();
        if let Some(tracker) = &mut self.tracker {
            self.failed_looks += u64::from(tracker.close().is_err());
        }
        self.drain();
        self.settle(ended, &look.gone);
        if let Some(tracker) = &mut self.tracker {
            tracker.detach_deaths();
            self.drain();
            self.wait_for_written();
            // Gone at the last look, and no word of its end since: that was lost. A parent may wait for a process that
            // has not left its CPU yet, and so has not told.
            for i in look.gone {
                self.table.vanish(ended, i, true);
            }
            self.table.loss.vanished = self.table.vanished();
        }
        self.observation(last, ended, unlisted_living)
    }

    fn observation(mut self, last: SetSample, ended: Mono, unlisted_living: CpuTime) -> Observation {
        let totals = self.tracker.as_ref().and_then(Tracker::totals);
        let tracker_tells_late = self.tracker.as_ref().is_some_and(Tracker::tells_late_execs);
        let mut counts = self.table.counts;
        let mut loss = self.table.loss;
        let mut cpu_unlisted = unlisted_living;
        if let Some(totals) = totals {
            counts.forks = totals.forks;
            // Who takes longer than the settling to die lives on for the report; whom an unread record tells of does not.
            let dying = if self.is_unread() { 0 } else { self.dying() };
            counts.exits = totals.exits.saturating_sub(dying);
            counts.threads = Some(totals.threads);
            counts.moved_in = totals.moved_in;
            counts.moved_out = totals.moved_out;
            loss.ring_full_by = LostRecords {
                forks: totals.lost_forks,
                execs: totals.lost_execs,
                exits: totals.lost_exits,
                frees: totals.lost_frees,
                others: totals.lost_others,
            };
            loss.ring_full = loss.ring_full_by.sum();
            loss.unmarked = totals.unmarked + self.failed_looks;
            let missed = self.tracker.as_ref().and_then(Tracker::missed_runs);
            loss.missed_runs = missed.unwrap_or_default();
            loss.missed_runs_unknown = missed.is_none();
            // Not more than were missed: an exec that fails at its very end is counted by the task too.
            let late = totals.late_execs.cast_signed().max(0).cast_unsigned().min(loss.missed_runs.execs);
            loss.late_execs = tracker_tells_late.then_some(late);
            counts.execs = Some(totals.execs + late);
            cpu_unlisted += self.table.unlisted(totals.ended);
        } else {
            counts.execs = None;
            counts.threads = None;
        }
        loss.unreadable = loss.unreadable.saturating_add(self.table.without_cpu());
        let (samples, samples_thinned) = self.samples.finish(Some(last));
        let mut cpu_exited = self.table.exited_cpu();
        let mut cpu_living = self.table.living_cpu();
        cpu_exited += totals.map_or_else(CpuTime::default, |t| self.table.unlisted(t.ended));
        cpu_living += unlisted_living;
        let cpu_unseen = self.table.unseen_cpu().map(|(cpu, _)| cpu);
        cpu_exited += cpu_unseen.unwrap_or_default();
        cpu_unlisted += cpu_unseen.unwrap_or_default();
        let apart = apart(counts.moved_out, self.target.cgroup.as_ref(), self.beside_own);
        let accounting: Option<CgroupAccounting> = self.accounting.map(|a| a.finish(apart));
        let cgroups = cgroup::paths(&self.hierarchies, &self.table.cgroup_ids());
        let by_kernel = self.tracker.is_some();
        let cpu_error_reason = match &self.tracker {
            None => Some(NOT_TOLD.to_owned()),
            Some(tracker) => tracker.running_reason().map(str::to_owned),
        };
        let tells_oom = self.tracker.as_ref().is_some_and(Tracker::tells_oom);
        let (processes, events) =
            self.table.finish(tells_oom, loss.ring_full_by.execs + loss.runs_not_made_good().execs == 0);
        Observation {
            tracker: if by_kernel { TrackerKind::Ebpf } else { TrackerKind::Proc },
            tracker_reason: self.tracker_reason,
            tracker_is_complete: by_kernel,
            started: self.started,
            ended,
            processes,
            events,
            samples,
            counts,
            loss,
            cpu_exited,
            cpu_living,
            cpu_unlisted,
            cpu_unseen,
            cpu_error: self.first_error + last.cpu_error,
            cpu_error_reason,
            rest: None,
            cgroups,
            accounting,
            pss_reason: self.sampler.pss_reason,
            sample_interval: self.sample_clock.interval(),
            sample_overruns: self.sample_clock.overruns(),
            samples_thinned,
            target_ended: self.target_ended,
        }
    }

    /// CPU of living members for which the list had no room.
    fn unlisted_living(&mut self) -> CpuTime {
        let mut sum = CpuTime::default();
        if self.table.loss.unlisted_processes == 0 {
            return sum;
        }
        let Some(tracker) = &mut self.tracker else { return sum };
        let mut unlisted: BTreeSet<(u32, u64)> = BTreeSet::new();
        let mut bases = std::collections::HashMap::new();
        let table = &mut self.table;
        let swept = tracker.sweep(|record| {
            let key = (record.pid, record.id.start_boottime_ns);
            if let What::Alive(alive) = &record.what {
                bases.insert(key, cpu_of(alive.base));
            }
            if !table.adopt(record) {
                unlisted.insert(key);
            }
        });
        self.failed_looks += u64::from(swept.is_err());
        for key in unlisted {
            match self.sampler.read(key.0, key.1) {
                Ok(reading) => sum += reading.cpu.since(bases.get(&key).copied().unwrap_or_default()),
                Err(_) => self.table.loss.unreadable += 1,
            }
        }
        sum
    }

    /// Ends that the kernel program has counted and not told yet: tearing down much memory takes long.
    fn dying(&self) -> u64 {
        let Some(totals) = self.tracker.as_ref().and_then(Tracker::totals) else { return 0 };
        totals.exits.saturating_sub(self.table.counts.exits.saturating_add(totals.lost_exits))
    }

    /// A program that was preempted has reserved a record that it has not written yet, and what was told after it can't
    /// be read before that.
    fn wait_for_written(&mut self) {
        let began = Mono::now();
        while self.is_unread() {
            if Mono::now().since(began) > SETTLE_LIMIT {
                self.table.loss.undecodable += self.dying().max(1);
                return;
            }
            std::thread::sleep(SHORTEST_TICK.to_duration());
            self.drain();
        }
    }

    /// Whether something is in the ring.
    fn is_unread(&self) -> bool {
        let Some(ring) = self.tracker.as_ref().map(Tracker::ring_fd) else { return false };
        let mut fds = [PollFd::new(&ring, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        // Readable is a ring of which not everything was consumed, whether or not it is written yet.
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::IN)
    }

    /// Waits for word of those that are gone, and for the final figures of those that ended; zombies tell theirs through
    /// their clock.
    fn settle(&mut self, ended: Mono, gone: &[usize]) {
        if self.tracker.is_none() {
            return;
        }
        loop {
            let unsettled = self.table.unsettled();
            for &i in &unsettled {
                let (pid, start) = self.table.pid_and_start(i);
                match self.sampler.read(pid, start) {
                    Ok(reading) if reading.zombie => self.table.settle(i, reading.cpu),
                    _ => {}
                }
            }
            let told = gone.iter().all(|&i| !self.table.is_living(i)) && self.dying() == 0;
            if told && self.table.unsettled().is_empty() || Mono::now().since(ended) > SETTLE_LIMIT {
                return;
            }
            std::thread::sleep(DRAIN_INTERVAL.to_duration());
            self.drain();
        }
    }
}

/// What is read, on the running machine.
struct Here<'a>(Option<&'a Tracker>);

impl Kernel for Here<'_> {
    fn look(&mut self) -> Option<clocks::Look> {
        self.0?.running()
    }

    fn clock(&mut self, pid: u32) -> Option<Nanos> {
        cpu_clock(i32::try_from(pid).ok()?)
    }

    fn now(&mut self) -> Mono {
        Mono::now()
    }
}

/// How late this kernel charges.
fn tick() -> Tick {
    // The coarse clock moves with the tick.
    let length = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    let length = Nanos(length.tv_nsec.unsigned_abs()).max(SHORTEST_TICK);
    let tickless = std::fs::read_to_string("/sys/devices/system/cpu/nohz_full");
    let is_tickless = tickless.is_ok_and(|cpus| cpus.trim().starts_with(|c: char| c.is_ascii_digit()));
    let longest = if is_tickless { LONGEST_UNCHARGED } else { Nanos(length.0 * 4) };
    Tick { length, longest }
}

/// A root that lives and that the snapshot has not told of.
fn hidden(table: &Table, target: &Found) -> Option<u32> {
    if target.cgroup.is_some() {
        return None;
    }
    let told = table.living_pids();
    target.roots.iter().copied().find(|pid| !told.contains(pid) && lives(*pid) && !is_zombie(*pid))
}

/// Why the cgroup's own figure is of other processes than the set's.
fn apart(moved_out: u64, cgroup: Option<&CgroupTarget>, beside_own: bool) -> Option<String> {
    let strict = cgroup.is_some_and(|c| c.strict);
    if beside_own {
        return Some(
            "inferscope itself runs in the cgroup, whose figure holds it; the set does not".to_owned(),
        );
    }
    (moved_out > 0 && !strict).then(|| {
        format!("{moved_out} processes were moved out of the cgroup: the set still holds them, its figure does not")
    })
}

/// The clock of processes' starts.
fn boottime_ns() -> u64 {
    nanos_of(rustix::time::ClockId::Boottime).0
}

pub(super) fn own_thread_cpu() -> Nanos {
    nanos_of(rustix::time::ClockId::ThreadCPUTime)
}

fn nanos_of(clock: rustix::time::ClockId) -> Nanos {
    let t = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0)))
}
