//! What a lost record takes, and how it is made good.
//!
//! Owns the looks through the living after a loss, the CPU of what has no line, and the wait for records that are not written yet.
//! A part of `worker`.

use std::collections::BTreeSet;

use rustix::event::{PollFd, PollFlags, poll};

use super::Worker;
use super::end::SETTLE_LIMIT;
use super::window::SHORTEST_TICK;
use crate::clock::Mono;
use crate::event::CpuTime;
use crate::observe::ebpf::{Tracker, What, cpu_of};
use crate::units::Nanos;

/// Between two looks at how many runs the kernel skipped.
const MISSED_LOOK: Nanos = Nanos::from_millis(1_000);

impl Worker {
    /// Where records were lost, the living are looked through again; whether any were.
    pub(super) fn recover(&mut self) -> bool {
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
    pub(super) fn find_missed(&mut self) {
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

    /// CPU of living members for which the list had no room.
    pub(super) fn unlisted_living(&mut self) -> CpuTime {
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
    pub(super) fn dying(&self) -> u64 {
        let Some(totals) = self.tracker.as_ref().and_then(Tracker::totals) else { return 0 };
        totals.exits.saturating_sub(self.table.counts.exits.saturating_add(totals.lost_exits))
    }

    /// A program that was preempted has reserved a record that it has not written yet, and what was told after it can't
    /// be read before that.
    pub(super) fn wait_for_written(&mut self) {
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
    pub(super) fn is_unread(&self) -> bool {
        let Some(ring) = self.tracker.as_ref().map(Tracker::ring_fd) else { return false };
        let mut fds = [PollFd::new(&ring, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        // Readable is a ring of which not everything was consumed, whether or not it is written yet.
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::IN)
    }
}
