//! What the kernel and /proc told of the tracked process set.

use std::collections::HashMap;

use crate::clock::Mono;
use crate::units::Nanos;

/// Which mechanism followed the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackerKind {
    /// The kernel program: complete, a process of any length is seen.
    Ebpf,
    /// /proc polling: what lives between two ticks is missed.
    Proc,
    /// No target.
    None,
}

/// User and system CPU time of one process or of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTime {
    pub user: Nanos,
    pub system: Nanos,
}

impl CpuTime {
    #[must_use]
    pub fn total(self) -> Nanos {
        self.user + self.system
    }

    /// What was used since `base`. The totals add up and their split is an estimate that may move
    /// either way between two readings, so the difference of the totals is what is divided.
    #[must_use]
    pub fn since(self, base: Self) -> Self {
        let total = self.total().saturating_sub(base.total());
        let system = self.system.saturating_sub(base.system).min(total);
        Self { user: total.saturating_sub(system), system }
    }
}

impl std::ops::AddAssign for CpuTime {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
    }
}

/// How a process came into the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// It lived when observation began.
    AliveAtStart,
    /// It was forked by a member, or into the target's cgroup.
    Forked,
    /// It was moved into the target's cgroup during the run.
    MovedIn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub core_dumped: bool,
}

impl ExitStatus {
    /// From the kernel's `exit_code`, the layout of wait(2)'s status: low 7 bits the signal, bit 7
    /// the core flag, bits 8–15 the code.
    #[must_use]
    pub const fn from_wait_status(status: u32) -> Self {
        let signal = (status & 0x7f) as i32;
        let code = ((status >> 8) & 0xff) as i32;
        Self {
            code: if signal == 0 { Some(code) } else { None },
            signal: if signal == 0 { None } else { Some(signal) },
            core_dumped: status & 0x80 != 0,
        }
    }
}

/// One process (thread group) that was in the set at any time.
#[derive(Debug, Clone)]
pub struct ProcessRecord {
    /// In the tracer's pid namespace; 0 where it is not visible there.
    pub pid: u32,
    /// In the initial pid namespace, where known.
    pub host_pid: Option<u32>,
    /// Its parent when it was first seen.
    pub ppid: u32,
    pub birth: Birth,
    /// CLOCK_BOOTTIME nanoseconds; tick precision (10 ms) where only /proc told.
    pub started_boottime_ns: Option<u64>,
    pub exited: Option<Mono>,
    pub exit: Option<ExitStatus>,
    /// When it was moved out of a target's cgroup that is watched strictly; its CPU ends there.
    pub left: Option<Mono>,
    /// The kernel's OOM killer chose it; `None`: it would not have been told.
    pub oom_killed: Option<bool>,
    pub comm: String,
    /// The executed file, where it was seen.
    pub exe: Option<String>,
    pub argv: Option<Vec<String>>,
    /// `argv` holds only the beginning.
    pub argv_cut: bool,
    pub execs: u32,
    /// What it had used before the run's window; already taken out of `cpu`.
    pub cpu_before: CpuTime,
    /// Used within the window. `None` where neither the kernel nor /proc could be asked in time.
    pub cpu: Option<CpuTime>,
    /// `cpu` holds the kernel's final figure, not the last reading of a living process.
    pub cpu_is_final: bool,
    /// Peak resident set of what it ran itself: pages of its parent that it held between a fork and an exec are
    /// not its own.
    pub max_rss_bytes: Option<u64>,
    /// `max_rss_bytes` is the kernel's high-water mark; else the most that a sample saw.
    pub max_rss_is_peak: bool,
    /// A bound above, where the kernel's mark holds pages of its parent.
    pub max_rss_at_most_bytes: Option<u64>,
    /// Largest RSS that a sample caught.
    pub sampled_peak_rss_bytes: Option<u64>,
    pub peak_threads: Option<u32>,
    pub minor_faults: Option<u64>,
    pub major_faults: Option<u64>,
    pub voluntary_switches: Option<u64>,
    pub involuntary_switches: Option<u64>,
    /// How many samples caught it.
    pub times_sampled: u32,
    pub cgroup_id: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEvent {
    pub t: Mono,
    pub pid: u32,
    pub kind: ProcessEventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEventKind {
    Fork {
        parent: u32,
    },
    Exec {
        comm: String,
        exe: Option<String>,
    },
    Exit {
        status: ExitStatus,
    },
    /// A member changed its cgroup and stays in the set.
    Migrate {
        to_cgroup_id: u64,
    },
    /// It came into the target's cgroup, and the set, from outside.
    MoveIn {
        to_cgroup_id: u64,
    },
    /// It left the target's cgroup, and where that is watched strictly the set.
    MoveOut {
        to_cgroup_id: u64,
    },
    /// The kernel's OOM killer chose it.
    Oom,
}

/// The set at one tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetSample {
    pub t: Mono,
    pub processes: u32,
    pub threads: u32,
    pub rss_bytes: u64,
    /// Shared pages divided among their users; read at a slower tick and at peaks, else `None`.
    pub pss_bytes: Option<u64>,
    /// CPU of the set since the window's start, of the living and the dead.
    pub cpu: Nanos,
    /// How far off that may be.
    pub cpu_error: Nanos,
}

/// Counts over the window, kept where the events happen so that a lost record does not change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub alive_at_start: u64,
    pub forks: u64,
    /// `None` where the tracker can't see execs.
    pub execs: Option<u64>,
    pub exits: u64,
    /// Further threads created; `None` where the tracker can't see them.
    pub threads: Option<u64>,
    /// Processes moved into, and out of, the target's cgroup.
    pub moved_in: u64,
    pub moved_out: u64,
    pub peak_alive: u64,
}

/// What was lost, by cause. All zero in a complete run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loss {
    /// Records that the full ring could not take.
    pub ring_full: u64,
    /// The same, by what they would have told.
    pub ring_full_by: LostRecords,
    /// Processes that could not be marked (no memory for the mark), with their descendants.
    pub unmarked: u64,
    /// Records that could not be decoded, or that were still not written when all else had ended.
    pub undecodable: u64,
    /// Readings of a living process that /proc refused.
    pub unreadable: u64,
    /// Process records beyond the list's bound: counted and summed, not listed.
    pub unlisted_processes: u64,
    /// Those of them that were not followed while they lived, as there were too many at a time.
    pub unfollowed_processes: u64,
    /// Events beyond the event list's bound.
    pub unlisted_events: u64,
    /// Runs of the kernel program that the kernel skipped.
    pub missed_runs: MissedRuns,
    /// The kernel does not tell how many those are.
    pub missed_runs_unknown: bool,
    /// Members' execs that no run of the program saw, found by the task's count of them; `None`: not to be found.
    pub late_execs: Option<u64>,
    /// Members that were gone without a word of their end.
    pub vanished: u64,
}

/// Runs of the kernel program that the kernel skipped, by what they would have told: of any process of the machine,
/// as only the program itself knows who is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MissedRuns {
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
    pub frees: u64,
    /// Of processes from cgroup to cgroup.
    pub moves: u64,
    /// OOM kills.
    pub others: u64,
}

impl MissedRuns {
    #[must_use]
    pub const fn sum(self) -> u64 {
        let sum = self.forks.saturating_add(self.execs).saturating_add(self.exits);
        sum.saturating_add(self.frees).saturating_add(self.moves).saturating_add(self.others)
    }
}

impl Loss {
    /// Skipped runs after which something may be missing. An exit is told by the last switch or the free too, and a
    /// free that is not told leaves exit's figures, so these lost something only where a member was gone without a
    /// word. An exec is counted by the task all the same; then what was executed is missing.
    #[must_use]
    pub fn runs_not_made_good(&self) -> MissedRuns {
        let missed = self.missed_runs;
        MissedRuns {
            execs: self.late_execs.map_or(missed.execs, |late| late.min(missed.execs)),
            exits: self.vanished.min(missed.exits.saturating_add(missed.frees)),
            frees: 0,
            ..missed
        }
    }

    /// Members that were gone without a word of their end, though neither a full ring nor a skipped run took it.
    #[must_use]
    pub fn unexplained_ends(&self) -> u64 {
        let skipped = self.missed_runs.exits.saturating_add(self.missed_runs.frees);
        self.vanished.saturating_sub(self.ring_full_by.exits.saturating_add(skipped))
    }
}

/// What the kernel itself accounts to the target's cgroup over the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupAccounting {
    /// The file that told of CPU: `cpu.stat` (v2) or `cpuacct.usage` (v1), with its path.
    pub cpu_file: Option<String>,
    pub cpu: Option<Nanos>,
    /// The part of it, perhaps negative, that the file did not hold yet at the ends: run time that was not charged.
    pub cpu_uncharged_ns: i64,
    /// Why there is no figure, or why it is of another set of processes.
    pub cpu_reason: Option<String>,
    /// `memory.peak` (v2) or `memory.max_usage_in_bytes` (v1): page cache and kernel memory included,
    /// and since the cgroup's creation, not the window's.
    pub memory_file: Option<String>,
    pub memory_peak_bytes: Option<u64>,
    /// The smallest limit, its own or one above it.
    pub memory_limit_bytes: Option<u64>,
    /// Why there is no peak, or what else is in it.
    pub memory_reason: Option<String>,
}

/// Records that the full ring could not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LostRecords {
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
    /// Final figures.
    pub frees: u64,
    /// Moves and OOM kills.
    pub others: u64,
}

impl LostRecords {
    #[must_use]
    pub const fn sum(self) -> u64 {
        self.forks + self.execs + self.exits + self.frees + self.others
    }
}

/// Everything `observe` learnt of the set.
#[derive(Debug, Clone)]
pub struct Observation {
    pub tracker: TrackerKind,
    /// Why this tracker and not the better one.
    pub tracker_reason: Option<String>,
    /// False when the tracker cannot promise that it saw every process.
    pub tracker_is_complete: bool,
    pub started: Mono,
    pub ended: Mono,
    pub processes: Vec<ProcessRecord>,
    pub events: Vec<ProcessEvent>,
    pub samples: Vec<SetSample>,
    pub counts: Counts,
    pub loss: Loss,
    /// CPU of the whole set within the window, listed or not.
    pub cpu_exited: CpuTime,
    pub cpu_living: CpuTime,
    /// The part of both that belongs to no listed process, or to one whose end was not told: the kernel
    /// program's own sum less what its records said, and readings of the living that are not listed.
    pub cpu_unlisted: CpuTime,
    /// The part of `cpu_exited` that the /proc tracker has of no process itself, but of the parents that waited for it;
    /// `None` with the kernel tracker, and where only one process is looked at.
    pub cpu_unseen: Option<CpuTime>,
    /// How far off their sum may be.
    pub cpu_error: Nanos,
    /// Why running threads are only known up to when they were charged last; `None` where their time since is known.
    pub cpu_error_reason: Option<String>,
    /// When nothing was sent yet, and for nothing else waited: what the set used in it, it uses without a load.
    pub rest: Option<(Mono, Mono)>,
    /// Paths of the cgroups that records name, within the v2 hierarchy.
    pub cgroups: HashMap<u64, String>,
    /// `None` where the target is no whole cgroup.
    pub accounting: Option<CgroupAccounting>,
    /// Why no sample has its PSS.
    pub pss_reason: Option<String>,
    /// The sampler's interval at the end: longer than asked for where a tick took too long.
    pub sample_interval: Nanos,
    /// Ticks that came later than a whole interval.
    pub sample_overruns: u64,
    /// Samples dropped because the list was full; each halving doubles the interval kept.
    pub samples_thinned: u64,
    /// When the root processes ended, if all did.
    pub target_ended: Option<Mono>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(user: u64, system: u64) -> CpuTime {
        CpuTime { user: Nanos(user), system: Nanos(system) }
    }

    #[test]
    fn what_was_used_since_adds_up_though_the_split_was_revised() {
        // 10 ns passed, and the ratio of ticks moved 10 ns from user to system meanwhile.
        assert_eq!(cpu(90, 70).since(cpu(100, 50)).total(), Nanos(10));
        assert_eq!(cpu(110, 55).since(cpu(100, 50)), cpu(10, 5));
        assert_eq!(cpu(1, 1).since(cpu(100, 50)), CpuTime::default());
    }
}
