//! The process set.
//!
//! Owns the shape of `processes`; no arithmetic. A part of `model`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Processes {
    pub tracker: Tracker,
    /// Why this tracker and not the better one.
    pub tracker_reason: Option<String>,
    /// Every process of the target is counted and accounted.
    pub complete: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub complete_reason: Option<String>,
    /// `null` without a target.
    pub counts: Option<ProcessCounts>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counts_reason: Option<String>,
    pub cpu: ProcessesCpu,
    pub list: Vec<Process>,
    /// The list folded by role and command; what used most CPU comes first. Empty in reports of builds
    /// that did not fold it.
    #[serde(default)]
    pub commands: Vec<Command>,
    pub events: Vec<ProcessEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tracker {
    Ebpf,
    Proc,
    None,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProcessCounts {
    /// Which of these counts are lower bounds, by name; none in a complete run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lower_bounds: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lower_bounds_reason: Option<String>,
    /// Alive at start + forks + moved in.
    pub seen: u64,
    pub alive_at_start: u64,
    /// Thread groups born into the set during the run.
    pub forks: u64,
    /// Successful execs; `null` where the tracker can't see them.
    pub execs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub execs_reason: Option<String>,
    /// Thread groups that ended.
    pub exits: u64,
    /// Further threads created; `null` where the tracker can't see them.
    pub threads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub threads_reason: Option<String>,
    /// Processes moved into the target's cgroup, and out of it; `null` where moves can't be seen.
    pub moved_in: Option<u64>,
    pub moved_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub moved_reason: Option<String>,
    pub peak_alive: u64,
    /// Listed processes that no /proc sample caught; `null` where only what a sample catches is known.
    pub short_lived: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub short_lived_reason: Option<String>,
    /// Records lost: `lost.ring_full` + `lost.unmarked` + `lost.undecodable` + the `lost.missed_runs` that were not
    /// made good; `null` where there are no records.
    pub lost_events: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost_events_reason: Option<String>,
    /// What was lost, by cause; `null` in reports of builds that did not tell.
    pub lost: Option<LostCounts>,
    /// Readings of living processes that /proc refused.
    pub unreadable: u64,
}

/// All zero in a complete run, but for `missed_runs` that were made good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LostCounts {
    /// Kernel records that the full ring could not take. Counts and CPU totals are kept beside it and hold
    /// them all the same; lines of the list and events may be missing.
    pub ring_full: u64,
    /// The same, by what they would have told.
    pub ring_full_by: LostRecords,
    /// Processes that could not be followed; they and their descendants are in no figure.
    pub unmarked: u64,
    pub undecodable: u64,
    /// Runs of the kernel program that the kernel skipped, as it was running on that CPU already (`recursion_misses`;
    /// from Linux 7.0 on): of any process of the machine.
    #[serde(default)]
    pub missed_runs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missed_runs_reason: Option<String>,
    /// Those of them that another program made good, or that had no member to tell of: all, in a complete run.
    #[serde(default)]
    pub missed_runs_made_good: u64,
    /// `missed_runs`, by what they would have told.
    #[serde(default)]
    pub missed_runs_by: MissedRuns,
    /// Processes beyond the list's bound: counted, not listed.
    pub unlisted_processes: u64,
    pub unlisted_events: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LostRecords {
    /// The process is missing from the list, unless a later look found it alive.
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
    /// Final figures of processes that ended.
    pub frees: u64,
    /// Moves and OOM kills.
    pub others: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MissedRuns {
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
    /// Final figures of processes that ended.
    pub frees: u64,
    /// Moves from cgroup to cgroup.
    pub moves: u64,
    /// OOM kills.
    pub others: u64,
}

/// CPU of the set within the run's window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessesCpu {
    pub user_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub total_ns: Option<u64>,
    /// How far off `total_ns` may be at the window's two ends together: the kernel charges a running thread at the
    /// scheduler's tick. With the kernel tracker its run time since then is read, which leaves microseconds; else it is a
    /// tick for each thread that may have run.
    #[serde(default)]
    pub error_ns: Option<u64>,
    /// Why it is as much as a tick a thread.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_reason: Option<String>,
    /// Why all of these are lower bounds; absent where they are not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lower_bound_reason: Option<String>,
    /// Of processes that ended.
    pub exited_ns: Option<u64>,
    /// Of processes alive at the end.
    pub live_ns: Option<u64>,
    /// The part of `exited_ns` that no sample saw, taken from the rise of `cutime` and `cstime` of the living members:
    /// children that ended between two samples, and the last part of those that were sampled. Never more than was
    /// used; it lacks what no member waited for (a daemon, children of a parent that ignores SIGCHLD) and up to 20 ms
    /// a parent, as the kernel tells whole ticks. `null` with the kernel tracker, which sees every end.
    #[serde(default)]
    pub reaped_ns: Option<u64>,
    /// The part of `total_ns` that no process of the list shows: with the kernel tracker, their records were lost or
    /// found the list full, but the kernel program had summed them; by polling, `reaped_ns`. `null` where there is no
    /// such sum.
    pub unlisted_ns: Option<u64>,
    /// What the kernel itself accounts to the target's cgroup over the window, and what it had not charged yet at the
    /// window's ends (`cgroup_uncharged_ns`).
    pub cgroup_ns: Option<u64>,
    /// The part of `cgroup_ns` that `cgroup_file` did not hold at the ends: run time of threads that ran then. Less than 0
    /// where there was more of it at the window's start.
    #[serde(default)]
    pub cgroup_uncharged_ns: Option<i64>,
    /// The file that told it.
    pub cgroup_file: Option<String>,
    /// What the cgroup may hold beyond the processes' own figures: the kernel charges it up to 1.6 µs for
    /// each process that ended and some 7 µs for each further thread, which no process's clock has.
    pub cgroup_overhead_ns: Option<u64>,
    /// `total_ns` less `cgroup_ns`, in percent of the latter.
    pub reconciliation_error_pct: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reconciliation_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    pub pid: u32,
    pub host_pid: Option<u32>,
    pub ppid: u32,
    /// Which of its arbiter's workers it is, from 0: one that is born after another's end takes over its
    /// slot. `null` for what is no such worker, and where a birth or a death may have been missed.
    pub slot: Option<u32>,
    /// 0 for the first process in its slot, one more for each that replaced it; `null` where `slot` is.
    pub generation: Option<u32>,
    pub comm: String,
    pub exe: Option<String>,
    pub argv: Option<Vec<String>>,
    /// `argv` holds only the beginning.
    #[serde(default)]
    pub argv_cut: bool,
    pub role: Role,
    /// Negative: before the run.
    pub started_ns: Option<i64>,
    pub exited_ns: Option<u64>,
    pub exit: Option<Exit>,
    /// When it was moved out of a cgroup that is watched strictly: nothing later is in its figures.
    pub left_ns: Option<u64>,
    /// What it had used before the run, or before it was moved into the target's cgroup; in no other
    /// figure.
    pub cpu_before_ns: Option<u64>,
    pub cpu_user_ns: Option<u64>,
    pub cpu_system_ns: Option<u64>,
    /// It ended, and its CPU is the last reading before that.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cpu_at_least: bool,
    /// Peak resident set, by the kernel's high-water mark of what it ran itself. The kernel's figure at an end
    /// (wait4's) also holds the pages of its parent that it shared between its fork and its exec: where that
    /// is not exceeded, this is what a sample saw, or `null`.
    pub max_rss_bytes: Option<u64>,
    /// `max_rss_bytes` is the most that a sample saw, and a lower bound.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub max_rss_at_least: bool,
    /// A bound above, where `max_rss_bytes` is `null` or a lower one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_rss_at_most_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_rss_reason: Option<String>,
    pub peak_threads: Option<u32>,
    pub minor_faults: Option<u64>,
    pub major_faults: Option<u64>,
    pub voluntary_switches: Option<u64>,
    pub involuntary_switches: Option<u64>,
    /// Time runnable but not running; `null`: not measured.
    pub runqueue_ns: Option<u64>,
    /// A /proc sample caught it at least once.
    pub sampled: bool,
    /// Within the v2 hierarchy; the last that it was in.
    pub cgroup: Option<String>,
}

/// Listed processes of one role and command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    pub comm: String,
    /// The executed file's name, where all of them that told have the same.
    pub exe: Option<String>,
    pub role: Role,
    pub count: u64,
    /// Of them, caught by no /proc sample; `null` where only what a sample catches is known.
    pub short_lived: Option<u64>,
    /// `null` where that of any of them is unknown.
    pub cpu_ns: Option<u64>,
    /// The sum of those that are known.
    pub cpu_at_least_ns: u64,
    /// The largest that is known of one process.
    pub max_rss_bytes: Option<u64>,
    /// No process of them was larger; `null` where that can't be told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_rss_at_most_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The target's root that is none of the others; of a cgroup, what came into it from outside.
    Root,
    /// A root, or what such a wrapper started, that only waits for its child.
    Wrapper,
    /// Forked two or more workers, which go on with its own program, or is there to: Python's forkserver.
    Arbiter,
    /// Does the work, for all that can be told.
    Worker,
    /// Ended within 200 ms, or executed another program and ended by itself while its parent worked on; and what
    /// such a process runs.
    Helper,
    /// Kept by a runtime for itself beside the workers: Python's resource tracker, a database's background writer.
    Service,
    /// Younger than 200 ms at the end of the observation: a worker or a helper.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// It left a core dump.
    pub core: Option<bool>,
    /// The kernel's OOM killer chose it; `null`: OOM kills are not followed.
    pub oom: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessEvent {
    pub t_ns: u64,
    pub kind: ProcessEventKind,
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ppid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup_id: Option<u64>,
    /// The path of `cgroup_id`, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEventKind {
    Fork,
    Exec,
    Exit,
    /// A member changed its cgroup; it stays in a tree target.
    Migrate,
    MigrateIn,
    MigrateOut,
    Oom,
}
