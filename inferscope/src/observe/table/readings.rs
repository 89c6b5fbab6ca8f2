//! What the sampler reads of living members.
//!
//! Owns the way of a reading into its member's account. Membership is `table`'s. Called by `observer` and `sampler`.

use super::super::proc::handle::Reading;
use super::Table;
use super::entry::Entry;
use crate::event::{Birth, CpuTime};
use crate::units::Nanos;

impl Table {
    /// The CPU clock of a living member when the window began, corrected, where the kernel program's base is as old as
    /// the last tick.
    pub(crate) fn window_began(&mut self, i: usize, total: Nanos) {
        if let Some(entry) = self.entries.get_mut(&i) {
            entry.window_began(total);
        }
    }

    /// The CPU clock of a member of which nothing else could be read.
    pub(crate) fn ran(&mut self, i: usize, total: Nanos) {
        if let Some(entry) = self.entries.get_mut(&i) {
            entry.ran(total);
        }
    }

    /// A reading of a living member.
    pub(crate) fn sampled(&mut self, i: usize, reading: &Reading) {
        if let Some(entry) = self.entries.get_mut(&i) {
            entry.sampled(reading);
            if let Some(waited) = &mut self.waited {
                let record = entry.record();
                waited.read(i, record.pid, reading, record.birth == Birth::Forked);
            }
        }
    }

    /// Whether it was called something else at the last look.
    pub(crate) fn is_renamed(&self, i: usize, reading: &Reading) -> bool {
        let record = self.entries.get(&i).map(Entry::record);
        record.is_some_and(|r| r.times_sampled > 0 && r.comm != reading.comm)
    }

    /// The kernel told of its birth, and no sample has seen it.
    pub(crate) fn is_newborn(&self, i: usize) -> bool {
        let record = self.entries.get(&i).map(Entry::record);
        record.is_some_and(|r| r.birth == Birth::Forked && r.host_pid.is_some() && r.times_sampled == 0)
    }

    /// What it runs, as /proc tells; what the kernel told of an exec is left.
    pub(crate) fn identify(&mut self, i: usize, exe: Option<String>, argv: Option<Vec<String>>) {
        if exe.is_none() && argv.is_none() {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&i).filter(|e| e.record().execs == 0) {
            entry.record_mut().exe = exe;
            entry.record_mut().argv = argv;
        }
    }

    pub(crate) fn note_peak_rss(&mut self, i: usize, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(&i) {
            entry.high_water(bytes);
        }
    }

    /// A zombie: dead for the kernel's events, but its CPU clock is still there and final.
    pub(crate) fn settle(&mut self, i: usize, cpu: CpuTime) {
        let Some(entry) = self.entries.get_mut(&i) else { return };
        let before = entry.cpu();
        entry.settle(cpu);
        self.sums.replace(before, entry.cpu());
    }
}
