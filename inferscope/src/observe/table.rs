//! The process set: records in, accounts out.
//!
//! Owns who is a member, who lives and what each has used. A pure state machine: `observer` feeds it
//! the kernel's records and the readings of /proc; it never reads anything itself. Bounded: beyond
//! [`MAX_LISTED`] processes and [`MAX_EVENTS`] events the list ends and is said to. The CPU of what is
//! not listed is summed when it has ended; until then it is missing, and the report is not complete.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::ebpf::{GroupUsage, Record, What};
use super::mask;
use super::proc::handle::Reading;
use super::proc::tree::Node;
use crate::clock::Mono;
use crate::event::{Birth, Counts, CpuTime, ExitStatus, Loss, ProcessEvent, ProcessEventKind, ProcessRecord};

pub(crate) const MAX_LISTED: usize = 200_000;
pub(crate) const MAX_EVENTS: usize = 200_000;

pub(crate) struct Entry {
    pub(crate) record: ProcessRecord,
    /// Since its birth, the window's beginning not taken out.
    cpu_ever: Option<CpuTime>,
    /// Lived before the window and what it had used by then is not known yet.
    needs_base: bool,
    freed: bool,
}

impl Entry {
    fn cpu(&self) -> Option<CpuTime> {
        if self.needs_base { None } else { self.cpu_ever.map(|ever| ever.since(self.record.cpu_before)) }
    }
}

#[derive(Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    living: HashMap<u32, usize>,
    /// By pid and start on CLOCK_BOOTTIME: until its figures are final.
    open: HashMap<(u32, u64), usize>,
    events: Vec<ProcessEvent>,
    pub(crate) counts: Counts,
    pub(crate) loss: Loss,
    exited_cpu: CpuTime,
}

impl Table {
    pub(crate) fn apply(&mut self, record: Record) {
        let id = (record.pid, record.start_boottime_ns);
        match record.what {
            What::Alive { tid, parent, cgroup_id, comm } => {
                // Threads only tell that the pass was not the last.
                if tid == record.pid && !self.open.contains_key(&id) {
                    self.counts.alive_at_start += 1;
                    self.insert(id, Birth::AliveAtStart, parent, comm, Some(cgroup_id));
                }
            }
            What::Fork { parent, cgroup_id, comm } => {
                self.counts.forks += 1;
                if let Some(&i) = self.open.get(&id) {
                    // The snapshot saw it before this record was read: born within the window.
                    self.counts.alive_at_start = self.counts.alive_at_start.saturating_sub(1);
                    let entry = &mut self.entries[i];
                    entry.record.birth = Birth::Forked;
                    entry.record.cpu_before = CpuTime::default();
                    entry.needs_base = false;
                } else {
                    self.insert(id, Birth::Forked, parent, comm, Some(cgroup_id));
                }
                self.event(record.t, record.pid, ProcessEventKind::Fork { parent });
            }
            What::Exec { comm, exe, argv } => {
                if let Some(&i) = self.open.get(&id) {
                    let known = &mut self.entries[i].record;
                    known.comm.clone_from(&comm);
                    known.exe.clone_from(&exe);
                    known.argv = argv.map(mask::arguments);
                    known.execs += 1;
                }
                self.event(record.t, record.pid, ProcessEventKind::Exec { comm, exe });
            }
            What::Exit { status, peak_threads, usage } => {
                self.counts.exits += 1;
                if let Some(&i) = self.open.get(&id) {
                    let known = &mut self.entries[i].record;
                    known.peak_threads = known.peak_threads.max(Some(peak_threads));
                    self.take_usage(i, &usage, false);
                    self.end(i, record.t, Some(status));
                }
                self.event(record.t, record.pid, ProcessEventKind::Exit { status });
            }
            What::Free { usage } => {
                if let Some(i) = self.open.remove(&id) {
                    self.take_usage(i, &usage, true);
                    if self.entries[i].record.exited.is_none() {
                        self.counts.exits += 1;
                        self.end(i, record.t, None);
                    }
                } else {
                    // Its birth was lost, or found the list full: no line of its own, but it was born
                    // within the window, so that all it used belongs to the sum.
                    self.exited_cpu += usage.cpu;
                }
            }
            What::Migrate { to_cgroup_id } => {
                if let Some(&i) = self.open.get(&id) {
                    self.entries[i].record.cgroup_id = Some(to_cgroup_id);
                }
                self.event(record.t, record.pid, ProcessEventKind::Migrate { to_cgroup_id });
            }
        }
    }

    fn insert(&mut self, id: (u32, u64), birth: Birth, ppid: u32, comm: String, cgroup_id: Option<u64>) {
        if self.entries.len() >= MAX_LISTED {
            self.loss.unlisted_processes += 1;
            return;
        }
        let i = self.entries.len();
        self.entries.push(Entry {
            record: ProcessRecord {
                pid: id.0,
                host_pid: Some(id.0),
                ppid,
                birth,
                started_boottime_ns: Some(id.1),
                exited: None,
                exit: None,
                left: None,
                oom_killed: false,
                comm,
                exe: None,
                argv: None,
                argv_cut: false,
                execs: 0,
                cpu_before: CpuTime::default(),
                cpu: None,
                cpu_is_final: false,
                max_rss_bytes: None,
                sampled_peak_rss_bytes: None,
                peak_threads: None,
                minor_faults: None,
                major_faults: None,
                voluntary_switches: None,
                involuntary_switches: None,
                times_sampled: 0,
                cgroup_id,
            },
            cpu_ever: None,
            needs_base: birth == Birth::AliveAtStart,
            freed: false,
        });
        self.open.insert(id, i);
        self.living.insert(id.0, i);
        self.counts.peak_alive = self.counts.peak_alive.max(self.living.len() as u64);
    }

    /// The kernel's figures of a dead process. What a sample saw last can be later than exit's
    /// figure, which lacks the current time slice; the final one is the largest.
    fn take_usage(&mut self, i: usize, usage: &GroupUsage, is_final: bool) {
        let before = self.entries[i].cpu();
        let entry = &mut self.entries[i];
        let sampled = entry.cpu_ever.filter(|ever| !is_final && ever.total() > usage.cpu.total());
        entry.cpu_ever = Some(sampled.unwrap_or(usage.cpu));
        entry.freed |= is_final;
        let record = &mut entry.record;
        record.cpu_is_final |= is_final;
        record.max_rss_bytes = record.max_rss_bytes.max(Some(usage.max_rss_bytes));
        record.minor_faults = Some(usage.minor_faults);
        record.major_faults = Some(usage.major_faults);
        record.voluntary_switches = Some(usage.voluntary_switches);
        record.involuntary_switches = Some(usage.involuntary_switches);
        if record.exited.is_some() {
            let after = self.entries[i].cpu();
            self.exited_cpu = replace(self.exited_cpu, before, after);
        }
    }

    fn end(&mut self, i: usize, t: Mono, status: Option<ExitStatus>) {
        let cpu = self.entries[i].cpu();
        let record = &mut self.entries[i].record;
        record.exited = Some(t);
        record.exit = status;
        let pid = record.pid;
        if self.living.get(&pid) == Some(&i) {
            self.living.remove(&pid);
        }
        self.exited_cpu = replace(self.exited_cpu, None, cpu);
    }

    fn event(&mut self, t: Mono, pid: u32, kind: ProcessEventKind) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(ProcessEvent { t, pid, kind });
        } else {
            self.loss.unlisted_events += 1;
        }
    }

    /// The /proc tracker saw a member that was not there before.
    pub(crate) fn appear(&mut self, t: Mono, node: Node, birth: Birth, boottime_ns: u64) {
        match birth {
            Birth::AliveAtStart => self.counts.alive_at_start += 1,
            Birth::Forked | Birth::MovedIn => {
                self.counts.forks += 1;
                self.event(t, node.pid, ProcessEventKind::Fork { parent: node.ppid });
            }
        }
        self.insert((node.pid, boottime_ns), birth, node.ppid, String::new(), None);
    }

    /// A member was found gone without a word from the kernel; its last reading stands.
    pub(crate) fn vanish(&mut self, t: Mono, pid: u32) {
        if let Some(&i) = self.living.get(&pid) {
            self.counts.exits += 1;
            self.end(i, t, None);
        }
    }

    /// A reading of a living member; `peak_rss_bytes` where it was asked for too.
    pub(crate) fn sampled(&mut self, i: usize, reading: &Reading) {
        let Some(entry) = self.entries.get_mut(i) else { return };
        if entry.needs_base {
            entry.needs_base = false;
            entry.record.cpu_before = reading.cpu;
        }
        entry.cpu_ever = Some(reading.cpu);
        let record = &mut entry.record;
        if record.execs == 0 || record.comm.is_empty() {
            record.comm.clone_from(&reading.comm);
        }
        record.times_sampled = record.times_sampled.saturating_add(1);
        record.sampled_peak_rss_bytes = record.sampled_peak_rss_bytes.max(Some(reading.rss_bytes));
        record.max_rss_bytes = record.max_rss_bytes.max(Some(reading.rss_bytes));
        record.peak_threads = record.peak_threads.max(Some(reading.threads));
        record.minor_faults = Some(reading.minor_faults);
        record.major_faults = Some(reading.major_faults);
    }

    pub(crate) fn identify(&mut self, i: usize, exe: Option<String>, argv: Option<Vec<String>>) {
        if let Some(entry) = self.entries.get_mut(i).filter(|e| e.record.execs == 0) {
            entry.record.exe = exe;
            entry.record.argv = argv.map(mask::arguments);
        }
    }

    pub(crate) fn note_peak_rss(&mut self, i: usize, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(i) {
            entry.record.max_rss_bytes = entry.record.max_rss_bytes.max(Some(bytes));
        }
    }

    /// A zombie: dead for the kernel's events, but its CPU clock is still there and final.
    pub(crate) fn settle(&mut self, i: usize, cpu: CpuTime) {
        let before = self.entries[i].cpu();
        let entry = &mut self.entries[i];
        entry.cpu_ever = Some(cpu);
        entry.freed = true;
        entry.record.cpu_is_final = true;
        let after = entry.cpu();
        self.exited_cpu = replace(self.exited_cpu, before, after);
    }

    /// Index, pid and start of each living member.
    pub(crate) fn living(&self) -> impl Iterator<Item = (usize, u32, u64)> + '_ {
        self.living.iter().map(|(&pid, &i)| (i, pid, self.entries[i].record.started_boottime_ns.unwrap_or(0)))
    }

    pub(crate) fn living_pids(&self) -> HashSet<u32> {
        self.living.keys().copied().collect()
    }

    /// The ended whose final figures are still to come.
    pub(crate) fn unsettled(&self) -> BTreeSet<usize> {
        let waits = |i: &usize| self.entries[*i].record.exited.is_some() && !self.entries[*i].freed;
        self.open.values().copied().filter(waits).collect()
    }

    pub(crate) fn id(&self, i: usize) -> (u32, u64) {
        let record = &self.entries[i].record;
        (record.pid, record.started_boottime_ns.unwrap_or(0))
    }

    pub(crate) fn exited_cpu(&self) -> CpuTime {
        self.exited_cpu
    }

    pub(crate) fn living_cpu(&self) -> CpuTime {
        let mut sum = CpuTime::default();
        for &i in self.living.values() {
            sum += self.entries[i].cpu().unwrap_or_default();
        }
        sum
    }

    /// Listed processes whose CPU is unknown, and so in no sum: they lived before the window and
    /// ended before they could be read.
    pub(crate) fn without_cpu(&self) -> u64 {
        self.entries.iter().filter(|e| e.cpu().is_none()).count() as u64
    }

    pub(crate) fn is_living(&self, i: usize) -> bool {
        self.entries.get(i).is_some_and(|e| e.record.exited.is_none())
    }

    pub(crate) fn finish(self) -> (Vec<ProcessRecord>, Vec<ProcessEvent>) {
        let close = |entry: Entry| {
            let cpu = entry.cpu();
            ProcessRecord { cpu, ..entry.record }
        };
        (self.entries.into_iter().map(close).collect(), self.events)
    }
}

/// A sum in which one part changed.
fn replace(sum: CpuTime, before: Option<CpuTime>, after: Option<CpuTime>) -> CpuTime {
    let mut sum = sum.since(before.unwrap_or_default());
    sum += after.unwrap_or_default();
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Nanos;

    fn record(t: u64, pid: u32, what: What) -> Record {
        Record { t: Mono(t), pid, start_boottime_ns: u64::from(pid) * 10, what }
    }

    fn alive(pid: u32) -> Record {
        record(0, pid, What::Alive { tid: pid, parent: 1, cgroup_id: 1, comm: "root".into() })
    }

    fn fork(pid: u32) -> Record {
        record(1, pid, What::Fork { parent: 1, cgroup_id: 1, comm: "w".into() })
    }

    fn usage(user: u64) -> GroupUsage {
        GroupUsage { cpu: CpuTime { user: Nanos(user), system: Nanos(0) }, ..GroupUsage::default() }
    }

    fn exit(pid: u32, user: u64) -> Record {
        let status = ExitStatus::from_wait_status(0);
        record(2, pid, What::Exit { status, peak_threads: 1, usage: usage(user) })
    }

    #[test]
    fn the_final_figure_replaces_exits_figure() {
        let mut table = Table::default();
        table.apply(fork(5));
        table.apply(exit(5, 100));
        assert_eq!(table.exited_cpu().total(), Nanos(100));
        assert_eq!(table.unsettled().len(), 1);
        table.apply(record(3, 5, What::Free { usage: usage(130) }));
        assert_eq!(table.exited_cpu().total(), Nanos(130));
        assert!(table.unsettled().is_empty());
        assert_eq!(table.counts.exits, 1);
    }

    #[test]
    fn a_process_that_the_snapshot_and_an_event_tell_of_counts_once_as_born() {
        let mut table = Table::default();
        table.apply(alive(5));
        table.apply(fork(5));
        assert_eq!((table.counts.alive_at_start, table.counts.forks), (0, 1));
        assert_eq!(table.finish().0.len(), 1);
    }

    #[test]
    fn what_was_used_before_the_window_is_left_out() {
        let mut table = Table::default();
        table.apply(alive(5));
        let reading = |user| Reading {
            ppid: 1,
            comm: "root".into(),
            zombie: false,
            threads: 1,
            rss_bytes: 1,
            cpu: CpuTime { user: Nanos(user), system: Nanos(0) },
            minor_faults: 0,
            major_faults: 0,
        };
        table.sampled(0, &reading(1_000));
        table.sampled(0, &reading(1_500));
        assert_eq!(table.living_cpu().total(), Nanos(500));
        table.apply(exit(5, 1_600));
        assert_eq!(table.exited_cpu().total(), Nanos(600));
    }

    #[test]
    fn an_unknown_beginning_makes_the_cpu_unknown_and_not_zero() {
        let mut table = Table::default();
        table.apply(alive(5));
        table.apply(exit(5, 1_600));
        assert_eq!(table.finish().0[0].cpu, None);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut table = Table::default();
        table.apply(fork(5));
        table.apply(exit(5, 100));
        let mut again = fork(5);
        again.start_boottime_ns = 99;
        table.apply(again);
        table.apply(record(3, 5, What::Free { usage: usage(130) }));
        assert_eq!(table.living().count(), 1);
        assert_eq!(table.exited_cpu().total(), Nanos(130));
    }

    #[test]
    fn the_cpu_of_a_process_whose_birth_was_lost_is_still_summed() {
        let mut table = Table::default();
        table.apply(exit(5, 100));
        table.apply(record(3, 5, What::Free { usage: usage(130) }));
        assert_eq!(table.exited_cpu().total(), Nanos(130));
        assert!(table.finish().0.is_empty());
    }

    #[test]
    fn an_unknown_beginning_is_counted_as_unread() {
        let mut table = Table::default();
        table.apply(alive(5));
        table.apply(exit(5, 1_600));
        assert_eq!(table.without_cpu(), 1);
    }
}
