//! The set's CPU: of those that ended, and what the kernel program summed beyond its records.
//!
//! Owns sums that no loss can change. Never knows who is a member. A part of `table`.

use std::collections::HashMap;

use inferscope_common::Run;

use super::Table;
use super::entry::Entry;
use crate::event::CpuTime;
use crate::observe::ebpf::cpu_of;
use crate::units::Nanos;

#[derive(Default)]
pub(super) struct CpuSums {
    exited: CpuTime,
    /// Of those that ended or left: what the records said, summed as the kernel program sums it.
    told: Run,
    /// Those that are known to have ended without a record, and their CPU: it is in the kernel program's totals too.
    vanished: HashMap<usize, CpuTime>,
}

impl CpuSums {
    pub(super) fn told(&mut self, more: Run) {
        self.told.exec_ns = self.told.exec_ns.wrapping_add(more.exec_ns);
        self.told.utime_ns = self.told.utime_ns.wrapping_add(more.utime_ns);
        self.told.stime_ns = self.told.stime_ns.wrapping_add(more.stime_ns);
    }

    /// One part of the sum changed.
    pub(super) fn replace(&mut self, before: Option<CpuTime>, after: Option<CpuTime>) {
        let before = before.unwrap_or_default();
        let after = after.unwrap_or_default();
        // The parts of the sum are never negative, whichever way the split of one moved.
        let part = |sum: Nanos, before: Nanos, after: Nanos| (sum + after).saturating_sub(before);
        self.exited = CpuTime {
            user: part(self.exited.user, before.user, after.user),
            system: part(self.exited.system, before.system, after.system),
        };
    }

    pub(super) fn vanished(&mut self, i: usize, cpu: CpuTime) {
        self.vanished.insert(i, cpu);
    }

    /// Of one that had vanished a record came after all.
    pub(super) fn is_told_after_all(&mut self, i: usize) -> bool {
        !self.vanished.is_empty() && self.vanished.remove(&i).is_some()
    }

    /// CPU of those that ended, or left, without a line or without a record: what the kernel program
    /// summed less what its records said.
    pub(super) fn unlisted(&self, ended: Run) -> CpuTime {
        let rest = Run {
            exec_ns: ended.exec_ns.wrapping_sub(self.told.exec_ns),
            utime_ns: ended.utime_ns.wrapping_sub(self.told.utime_ns),
            stime_ns: ended.stime_ns.wrapping_sub(self.told.stime_ns),
        };
        // The totals are summed before the record is written, so only a torn read could be behind.
        if i64::try_from(rest.exec_ns).is_err() {
            return CpuTime::default();
        }
        let mut vanished = CpuTime::default();
        for cpu in self.vanished.values() {
            vanished += *cpu;
        }
        cpu_of(rest).since(vanished)
    }
}

impl Table {
    pub(crate) fn exited_cpu(&self) -> CpuTime {
        self.sums.exited
    }

    pub(crate) fn living_cpu(&self) -> CpuTime {
        let mut sum = CpuTime::default();
        for i in &self.living {
            sum += self.entries.get(i).and_then(Entry::cpu).unwrap_or_default();
        }
        sum
    }

    /// See [`CpuSums::unlisted`]; `ended` is the kernel program's sum.
    pub(crate) fn unlisted(&self, ended: Run) -> CpuTime {
        self.sums.unlisted(ended)
    }

    /// Members that are known to have ended and of whose end no record told.
    pub(crate) fn vanished(&self) -> u64 {
        self.sums.vanished.len() as u64
    }
}
