//! What the process set used.
//!
//! Owns the shape of `resources`; no arithmetic. A part of `model`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    pub samples: Vec<Sample>,
    /// The set's peak: the largest sum that a sample saw, or what one process held at its own peak (the kernel's
    /// high-water mark, since that process's start), whichever is more.
    #[serde(default)]
    pub peak_rss_bytes: Option<u64>,
    /// Whether the set may have held more between two samples.
    #[serde(default)]
    pub peak_rss_kind: Option<PeakKind>,
    /// The process whose own peak it is; `null` where it is a sample's sum.
    #[serde(default)]
    pub peak_rss_pid: Option<u32>,
    /// What to size memory by, where something tells it: the cgroup's own peak, or PSS where it was read at
    /// the peak of RSS. `null` where there is no more than a lower bound.
    #[serde(default)]
    pub size_memory_by_bytes: Option<u64>,
    #[serde(default)]
    pub size_memory_by: Option<SizeBy>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size_memory_by_reason: Option<String>,
    /// Sum over the processes: pages that forked workers share count once for each of them.
    pub rss_bytes: Stat<u64>,
    /// Shared pages divided among their users: what the set occupies. Read at a slower tick; `null` in
    /// the samples between.
    pub pss_bytes: Stat<u64>,
    /// What the kernel itself accounts to the target's cgroup at its peak: page cache and kernel memory
    /// included, and since the cgroup's creation, not the run's.
    pub memory_peak_bytes: Option<u64>,
    /// The file that told it.
    pub memory_peak_source: Option<String>,
    /// The smallest limit on the cgroup's memory, its own or one above it.
    #[serde(default)]
    pub memory_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_peak_reason: Option<String>,
    pub threads: Stat<u64>,
    pub processes: Stat<u64>,
    /// Of one CPU, between two samples; 200 is two CPUs busy. The mean is over time.
    pub cpu_percent: Stat,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    pub t_ns: u64,
    pub processes: u32,
    pub threads: u32,
    pub rss_bytes: u64,
    pub pss_bytes: Option<u64>,
    /// Cumulative since the window's start, processes that ended included.
    pub cpu_ns: u64,
    /// How far off that may be: run time of threads that ran at this moment, as far as it was not known.
    #[serde(default)]
    pub cpu_error_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeakKind {
    /// The set was one process, and the kernel keeps its high-water mark.
    Exact,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SizeBy {
    /// `memory_peak_bytes`, of a cgroup that was made for the run.
    CgroupPeakOfRun,
    /// `memory_peak_bytes`, since the cgroup was made.
    CgroupPeakOfLife,
    /// `pss_bytes.max`, read when RSS was within 2% of its peak; no process exceeded what samples saw of it.
    PssAtPeakRss,
}

/// Of a sampled quantity. `T` is `u64` for counts, bytes and other whole numbers; the mean is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Stat_of_{T}")]
pub struct Stat<T = f64> {
    pub count: u64,
    pub min: Option<T>,
    pub mean: Option<f64>,
    pub max: Option<T>,
    pub last: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}
