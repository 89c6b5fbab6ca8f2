//! The close of the set.
//!
//! Owns the order in which births end, the last sample is taken and the last deaths are waited for, and what is handed over then. A
//! part of `worker`.

use super::{DRAIN_INTERVAL, Worker};
use crate::clock::Mono;
use crate::event::{
    CgroupAccounting, CpuTime, LostRecords, Observation, SetEnd, SetEvent, SetSample, TrackerKind,
};
use crate::observe::cgroup::{self, Accounting};
use crate::observe::ebpf::Tracker;
use crate::observe::target_discovery::CgroupTarget;
use crate::units::Nanos;

/// A free comes 17–40 ms after an exit; one that has not come by then never will.
pub(super) const SETTLE_LIMIT: Nanos = Nanos::from_millis(1_000);
const NOT_TOLD: &str = "only the kernel tracker tells which threads run, and a running thread's CPU clock moves at the \
                        scheduler's tick";

impl Worker {
    /// The set is closed first, so that the kernel's counters and the list tell of the same
    /// processes; then the last deaths are waited for.
    pub(super) fn end(mut self) -> Observation {
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
        let mut cpu_exited = self.table.exited_cpu();
        let mut cpu_living = self.table.living_cpu();
        cpu_exited += totals.map_or_else(CpuTime::default, |t| self.table.unlisted(t.ended));
        cpu_living += unlisted_living;
        let cpu_unseen = self.table.unseen_cpu().map(|(cpu, _)| cpu);
        cpu_exited += cpu_unseen.unwrap_or_default();
        cpu_unlisted += cpu_unseen.unwrap_or_default();
        let apart = apart(counts.moved_out, self.target.cgroup.as_ref(), self.beside_own);
        let accounting: Option<CgroupAccounting> = self.accounting.take().map(|a| a.finish(apart));
        let cgroups = cgroup::paths(&self.hierarchies, self.table.cgroup_ids());
        let by_kernel = self.tracker.is_some();
        let cpu_error_reason = match &self.tracker {
            None => Some(NOT_TOLD.to_owned()),
            Some(tracker) => tracker.running_reason().map(str::to_owned),
        };
        let tells_oom = self.tracker.as_ref().is_some_and(Tracker::tells_oom);
        let tells_execs = loss.ring_full_by.execs + loss.runs_not_made_good().execs == 0;
        self.table.close_all();
        self.emit(Some(last));
        (self.sink)(SetEvent::Ended(SetEnd { tells_oom, tells_execs }));
        Observation {
            tracker: if by_kernel { TrackerKind::Ebpf } else { TrackerKind::Proc },
            tracker_reason: self.tracker_reason,
            tracker_is_complete: by_kernel,
            started: self.started,
            ended,
            processes: Vec::new(),
            events: Vec::new(),
            samples: Vec::new(),
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
            samples_thinned: 0,
            target_ended: self.target_ended,
        }
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
