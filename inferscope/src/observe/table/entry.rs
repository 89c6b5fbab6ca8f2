//! One process's account while it is open.
//!
//! Owns which of several figures of its CPU stands: readings of the living, exit's, the final one. What stands only at the end of the
//! run is settled in `aggregate::set`.

use inferscope_common::Run;

use super::super::ebpf::{GroupUsage, Id, cputime_adjust};
use super::super::proc::handle::Reading;
use super::waited::Last;
use crate::event::{Birth, CpuTime, ProcessAccount, ProcessRecord, Program, RssMarks};
use crate::units::Nanos;

/// What a process had used before it came into the set (`cpu_before`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// Not known, so that its CPU isn't either.
    Unknown,
    /// The kernel program's, until the first clock tells it better.
    Provisional,
    Known,
}

pub(super) struct Entry {
    /// Moves into an event when it is closed.
    pub(super) account: Box<ProcessAccount>,
    /// Since its birth, what came before the set not taken out.
    cpu_ever: Option<CpuTime>,
    base: Base,
    /// What the records have said of it so far, as the kernel program sums it.
    told: Option<Run>,
    /// The member that forked it, by its index, and how many programs that had executed by then.
    pub(super) forked_by: Option<(usize, u32)>,
    /// Open accounts whose `forked_by` names it.
    pub(super) children: u32,
    pub(super) freed: bool,
}

impl Entry {
    pub(super) fn new(id: Id, pid: u32, ppid: u32, birth: Birth, base: Base, comm: String) -> Self {
        let record = ProcessRecord {
            pid,
            host_pid: Some(id.host_pid),
            ppid,
            birth,
            started_boottime_ns: Some(id.start_boottime_ns),
            exited: None,
            exit: None,
            left: None,
            oom_killed: None,
            comm,
            exe: None,
            argv: None,
            argv_cut: false,
            execs: 0,
            cpu_before: CpuTime::default(),
            cpu: None,
            cpu_is_final: false,
            max_rss_bytes: None,
            max_rss_is_peak: false,
            max_rss_at_most_bytes: None,
            sampled_peak_rss_bytes: None,
            peak_threads: None,
            minor_faults: None,
            major_faults: None,
            voluntary_switches: None,
            involuntary_switches: None,
            times_sampled: 0,
            cgroup_id: None,
        };
        let rss = RssMarks::default();
        Self {
            account: Box::new(ProcessAccount { number: 0, listed: true, record, rss, inherited: None }),
            cpu_ever: None,
            base,
            told: None,
            forked_by: None,
            children: 0,
            freed: false,
        }
    }

    pub(super) fn id(&self) -> Id {
        let record = self.record();
        let host_pid = record.host_pid.unwrap_or(record.pid);
        Id { host_pid, start_boottime_ns: record.started_boottime_ns.unwrap_or(0) }
    }

    pub(super) fn record(&self) -> &ProcessRecord {
        &self.account.record
    }

    pub(super) fn record_mut(&mut self) -> &mut ProcessRecord {
        &mut self.account.record
    }

    /// What it is known to run.
    pub(super) fn program(&self) -> Option<Program> {
        let ProcessRecord { exe, argv, argv_cut, .. } = self.record();
        let is_known = exe.is_some() || argv.is_some();
        is_known.then(|| Program { exe: exe.clone(), argv: argv.clone(), argv_cut: *argv_cut })
    }

    /// Within the set; `None`: not known.
    pub(super) fn cpu(&self) -> Option<CpuTime> {
        if self.base == Base::Unknown {
            return None;
        }
        self.cpu_ever.map(|ever| ever.since(self.account.record.cpu_before))
    }

    /// What was last known of it, where it is gone without a word.
    pub(super) fn last(&self) -> Last {
        let began_unseen = self.base != Base::Known;
        let own = self.cpu_ever.map(CpuTime::total);
        Last { own, parent_pid: self.account.record.ppid, began_unseen }
    }

    /// Ended, or left.
    pub(super) fn is_closed(&self) -> bool {
        self.account.record.exited.is_some() || self.account.record.left.is_some()
    }

    /// It was taken for one that lived before.
    pub(super) fn born_within(&mut self) {
        self.account.record.birth = Birth::Forked;
        self.account.record.cpu_before = CpuTime::default();
        self.base = Base::Known;
    }

    /// Notes what a record says and tells how much of it is new.
    pub(super) fn tell(&mut self, run: Run, base: Run) -> Run {
        let before = self.told.replace(run).unwrap_or(base);
        Run {
            exec_ns: run.exec_ns.wrapping_sub(before.exec_ns),
            utime_ns: run.utime_ns.wrapping_sub(before.utime_ns),
            stime_ns: run.stime_ns.wrapping_sub(before.stime_ns),
        }
    }

    /// The kernel's figures at its end. What a sample saw last can be later than exit's figure, which lacks
    /// the current time slice; the final one is the largest.
    pub(super) fn take_usage(&mut self, usage: &GroupUsage, is_final: bool) {
        let sampled = self.cpu_ever.filter(|ever| !is_final && ever.total() > usage.cpu.total());
        self.cpu_ever = Some(sampled.unwrap_or(usage.cpu));
        self.freed |= is_final;
        let record = &mut self.account.record;
        record.cpu_is_final |= is_final;
        record.minor_faults = Some(usage.minor_faults);
        record.major_faults = Some(usage.major_faults);
        record.voluntary_switches = Some(usage.voluntary_switches);
        record.involuntary_switches = Some(usage.involuntary_switches);
    }

    /// The corrected total takes the place of the kernel program's, whose split stands.
    pub(super) fn window_began(&mut self, total: Nanos) {
        if self.base == Base::Provisional {
            let before = self.account.record.cpu_before;
            self.account.record.cpu_before = cputime_adjust(before.user.0, before.system.0, total.0);
            self.base = Base::Known;
        }
    }

    /// Split as before; nothing is known of a process that was never read otherwise.
    pub(super) fn ran(&mut self, total: Nanos) {
        if self.base == Base::Known && !self.is_closed() {
            let before = self.cpu_ever.unwrap_or(self.account.record.cpu_before);
            self.cpu_ever = Some(cputime_adjust(before.user.0, before.system.0, total.0));
        }
    }

    pub(super) fn sampled(&mut self, reading: &Reading) {
        if self.base != Base::Known {
            self.base = Base::Known;
            self.account.record.cpu_before = reading.cpu;
        }
        self.cpu_ever = Some(reading.cpu);
        let record = &mut self.account.record;
        // Records are read before samples are taken, so this name is the later one.
        record.comm.clone_from(&reading.comm);
        record.times_sampled = record.times_sampled.saturating_add(1);
        record.sampled_peak_rss_bytes = record.sampled_peak_rss_bytes.max(Some(reading.rss_bytes));
        self.account.rss.own = self.account.rss.own.max(Some(reading.rss_bytes));
        record.peak_threads = record.peak_threads.max(Some(reading.threads));
        record.minor_faults = Some(reading.minor_faults);
        record.major_faults = Some(reading.major_faults);
    }

    /// It lived before it came into the set: the kernel's figure of what came before its present program.
    pub(super) fn came_with(&mut self, before: u64) {
        self.account.rss.before = before;
    }

    /// A further program; `before` is the kernel's figure of all that came before it.
    pub(super) fn executed(&mut self, before: u64) {
        let is_first = self.account.record.birth == Birth::Forked && self.account.record.execs == 0;
        self.account.record.execs += 1;
        let rss = &mut self.account.rss;
        if is_first {
            // What a sample caught in between was its parent's.
            *rss = RssMarks { before, ..RssMarks::default() };
            self.account.record.sampled_peak_rss_bytes = None;
        } else if before > rss.before {
            rss.own = rss.own.max(Some(before));
        }
    }

    /// The kernel's figure of its whole life.
    pub(super) fn ended_with(&mut self, bytes: u64) {
        self.account.rss.at_end = self.account.rss.at_end.max(Some(bytes).filter(|b| *b > 0));
    }

    /// VmHWM of its present program.
    pub(super) fn high_water(&mut self, bytes: u64) {
        self.account.rss.mark = self.account.rss.mark.max(Some(bytes));
    }

    /// Its CPU clock stands still: the figure is final though its task is not freed.
    pub(super) fn settle(&mut self, cpu: CpuTime) {
        if self.base == Base::Unknown {
            return;
        }
        self.cpu_ever = Some(cpu);
        self.freed = true;
        self.account.record.cpu_is_final = true;
    }
}
