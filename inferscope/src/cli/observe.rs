//! The flags that say what to observe, and how.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// Watch the process tree rooted at N [default: what listens at --endpoint]
    #[arg(long, value_name = "N", env = "INFERSCOPE_PID", help_heading = "Target")]
    pub pid: Option<u32>,
    /// Watch every process in this cgroup and below
    ///
    /// A path, absolute or relative to the cgroup mount.
    #[arg(
        long,
        value_name = "PATH",
        env = "INFERSCOPE_CGROUP",
        conflicts_with_all = ["pid", "cgroup_of"],
        help_heading = "Target"
    )]
    pub cgroup: Option<PathBuf>,
    /// Watch the cgroup that process PID is in
    #[arg(
        long,
        value_name = "PID",
        env = "INFERSCOPE_CGROUP_OF",
        conflicts_with = "pid",
        help_heading = "Target"
    )]
    pub cgroup_of: Option<u32>,
    /// Leave processes that are moved out of the cgroup, with all that they fork from then on
    #[arg(long, env = "INFERSCOPE_STRICT_CGROUP", hide_short_help = true, help_heading = "Target")]
    pub strict_cgroup: bool,
    /// Accepted for users of the older flag: the whole tree is the default
    #[arg(long, conflicts_with = "no_descendants", hide_short_help = true, help_heading = "Target")]
    pub include_descendants: bool,
    /// Watch --pid alone
    #[arg(long, env = "INFERSCOPE_NO_DESCENDANTS", hide_short_help = true, help_heading = "Target")]
    pub no_descendants: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ObserveArgs {
    /// How to follow the processes
    #[arg(long, value_enum, default_value = "auto", env = "INFERSCOPE_TRACKER", help_heading = "Target")]
    pub tracker: TrackerArg,
    /// Time between two looks at /proc and NVML
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "50ms", env = "INFERSCOPE_SAMPLE_INTERVAL", hide_short_help = true, help_heading = "Target")]
    pub sample_interval: Duration,
    /// Size of the kernel's event ring; raise it when the report says that records were lost
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "2M",
        env = "INFERSCOPE_RING_SIZE",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub ring_size: String,
    /// Processes to list one by one; more are counted and summed
    #[arg(
        long,
        value_name = "N",
        default_value_t = 200_000,
        env = "INFERSCOPE_MAX_PROCESSES",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub max_processes: usize,
    /// Most memory of inferscope itself; what a server sends beyond fails its request
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "512M",
        env = "INFERSCOPE_MAX_MEMORY",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub max_memory: String,
    /// GPUs: auto, off, all, indices (0,2) or UUIDs
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "auto",
        env = "INFERSCOPE_GPU",
        help_heading = "Target"
    )]
    pub gpu: String,
    /// Load NVML from this file
    #[arg(
        long,
        value_name = "FILE",
        env = "INFERSCOPE_NVML_LIB",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub nvml_lib: Option<PathBuf>,
    /// Where there are GPUs, wait so long before the load: what they use at rest
    ///
    /// With `exec` and no load: before the command is let run.
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "1s", env = "INFERSCOPE_GPU_BASELINE", hide_short_help = true, help_heading = "Target")]
    pub gpu_baseline: Duration,
    /// What a GPU costs an hour: 2.5, or by a part of its name H100=2.5,L4=0.8 (repeatable)
    #[arg(
        long,
        value_name = "[NAME=]PRICE",
        value_delimiter = ',',
        env = "INFERSCOPE_PRICE_PER_HOUR",
        hide_short_help = true,
        help_heading = "Target"
    )]
    pub price_per_hour: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TrackerArg {
    /// eBPF where it can be loaded, else /proc
    Auto,
    /// eBPF, or exit 5
    Ebpf,
    /// /proc polling: misses what lives between two ticks
    Proc,
}
