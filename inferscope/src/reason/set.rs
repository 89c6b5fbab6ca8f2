//! Reasons for unknown figures of the process set.

use crate::units::Nanos;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SetReason {
    /// In words: why there is no target, or no observer.
    #[error("{0}")]
    Unobserved(String),
    /// In the words of who looked: a file that could not be read, or what else is in a figure.
    #[error("{0}")]
    Observed(String),

    // Completeness, and what bounds a count or a sum.
    #[error("only the given pid was watched (--no-descendants)")]
    NoDescendants,
    #[error("polling /proc misses what lives between two looks")]
    Polled,
    #[error("the tracker can't promise that it saw every process")]
    TrackerIncomplete,
    #[error("the kernel skipped runs of its program, {lost} of them for good: see counts.lost.missed_runs")]
    MissedRuns { lost: u64 },
    #[error("the kernel does not tell whether it skipped runs of its program")]
    MissedRunsUnknown,
    #[error("{ends} processes were gone without a record of their end")]
    UnexplainedEnds { ends: u64 },
    #[error("records or readings were lost: see counts.lost and unreadable")]
    RecordsLost,
    #[error("{processes} processes could not be followed")]
    Unmarked { processes: u64 },
    #[error("{births} births or moves of any process were missed")]
    BirthsMissed { births: u64 },
    #[error("{ends} ends were missed")]
    EndsMissed { ends: u64 },
    #[error("{processes} processes may be in no list")]
    Unlisted { processes: u64 },
    #[error("polling /proc can't see it")]
    NotPolled,
    #[error("polling /proc has no records to lose")]
    NoRecords,
    #[error("there was no kernel program")]
    NoProgram,
    #[error(
        "polling /proc has the last part of what ends, and what lives between two looks, only from parents that \
         waited for it"
    )]
    PolledCpu,
    #[error("{readings} readings were refused by /proc or came too late")]
    Unreadable { readings: u64 },
    #[error("of {processes} processes that ended the last part was not told")]
    NotFinal { processes: usize },

    // The cgroup's own account.
    #[error("the target is a process tree, which no cgroup accounts by itself")]
    NoCgroup,
    #[error("the cgroup's CPU time was not read")]
    CgroupCpuNotRead,
    #[error("the cgroup accounts no CPU time to compare with")]
    NoCgroupCpu,
    #[error("the cgroup's peak was not read")]
    CgroupPeakNotRead,

    // Memory and samples.
    #[error("not above what it shared with its parent until its exec")]
    PagesOfItsParent,
    #[error("no sample caught it, and its end was not told")]
    NoPeakOfProcess,
    #[error("the set was never sampled")]
    NeverSampled,
    #[error("no sample holds it")]
    NoPss,
    #[error("it takes two samples, half an interval apart")]
    TwoSamples,
    #[error("{left_out} of {intervals} intervals left out: the counter went back")]
    CounterWentBack { left_out: u64, intervals: usize },

    // What to size memory by.
    #[error("the kernel ended a process for want of memory: it takes more than was there")]
    OomKilled,
    #[error("the cgroup's memory met its limit of {bytes} bytes: it may take more")]
    MemoryLimitMet { bytes: u64 },
    #[error("PSS was not read at the peak of RSS, and no cgroup accounts the set alone")]
    NoPssAtPeak,
    #[error("not every process of the set is known")]
    NotEveryProcess,
    #[error("processes held more between two samples than any sample saw")]
    MoreBetweenSamples,
    #[error("the peak of some processes is not known")]
    PeaksUnknown,

    // CPU time a token.
    #[error(
        "the set's CPU over the load's window of {:.0} ms is {:.2} ms give or take {:.2} ms",
        window.as_secs_f64() * 1e3,
        cpu_ns / 1e6,
        error_ns / 1e6
    )]
    CpuTooRough { window: Nanos, cpu_ns: f64, error_ns: f64 },
    #[error("the set's CPU counter went back within the load's window")]
    CpuWentBack,
    #[error("the set was not observed over the whole of the load's window")]
    NotObservedThroughout,
    #[error("the processes were not observed at rest before the load")]
    NoRest,
    /// CPUs in its two halves.
    #[error("the set's CPU changed in the rest before the load: {first:.2} CPUs, then {then:.2}")]
    NotAtRest { first: f64, then: f64 },
    #[error("a rest of {:.0} ms before the load tells the set's CPU too roughly", .0.0 as f64 / 1e6)]
    RestTooShort(Nanos),
}
