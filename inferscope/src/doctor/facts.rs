//! What was seen of the machine, before anything is concluded.
//!
//! Owns plain data: filled by `probe`, read by `rules`. What could not be known is `None`, what was tried
//! and failed is an `Err` in words.

use std::path::PathBuf;

/// The outcome of an attempt.
pub(super) type Tried<T> = Result<T, String>;

#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) kernel_release: String,
    /// The kernel's BTF was read.
    pub(super) btf: Tried<()>,
    /// The kernel program was loaded, and unloaded again.
    pub(super) tracker: Tried<()>,
    pub(super) own: OwnProcess,
    pub(super) restrictions: Restrictions,
    pub(super) namespaces: Namespaces,
    pub(super) cgroups: Cgroups,
    pub(super) proc: Proc,
    pub(super) nvml: Nvml,
    pub(super) clock: Clock,
    /// RLIMIT_NOFILE; `None` is unlimited.
    pub(super) open_files: Limit,
    pub(super) cpus: Cpus,
}

/// This process.
#[derive(Debug, Clone)]
pub(super) struct OwnProcess {
    pub(super) uid: u32,
    pub(super) exe: Option<PathBuf>,
    /// That it can bring into effect, as bits; `None` where the kernel does not tell.
    pub(super) capabilities: Option<u64>,
    /// It has more than its caller.
    pub(super) elevated: bool,
    /// What the observer's thread would keep in a run, by name.
    pub(super) observer_keeps: Vec<String>,
    /// Whether the load's thread would have a filter of system calls.
    pub(super) filters: Tried<()>,
    /// File capabilities would have no effect.
    pub(super) no_new_privs: bool,
    /// A seccomp filter is in force.
    pub(super) seccomp_filter: bool,
}

/// What can stand in the way of privileges that are there.
#[derive(Debug, Clone)]
pub(super) struct Restrictions {
    /// `none`, `integrity` or `confidentiality`; `None` without the security module.
    pub(super) lockdown: Option<String>,
    pub(super) unprivileged_bpf_disabled: Option<i64>,
    pub(super) perf_event_paranoid: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct Namespaces {
    pub(super) pid: Namespace,
    pub(super) user: Namespace,
    pub(super) network: Namespace,
    /// The mounted /proc shows the pids of an outer pid namespace.
    pub(super) proc_is_foreign: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    /// The machine's.
    Initial,
    /// That of the machine's pid 1.
    OfPid1,
    /// Another.
    Inner,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// cgroup2 alone.
    V2,
    /// v1 controllers alone.
    V1,
    /// v1 controllers beside a cgroup2 that has none.
    Hybrid,
    None,
}

#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    pub(super) layout: Layout,
    /// Those that inferscope uses: cgroup2, and the v1 hierarchies of cpuacct and memory.
    pub(super) hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, Clone)]
pub(super) struct Hierarchy {
    /// `cgroup2`, `cpuacct`, `memory`.
    pub(super) name: &'static str,
    pub(super) mount: PathBuf,
    /// A cgroup was made below this process's own, and removed. `Err` says why not.
    pub(super) made: Tried<()>,
    /// Accounting files that such a cgroup has (or, where none could be made, that the own one has).
    pub(super) files: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) struct Proc {
    /// Mounted, and showing this very process.
    pub(super) mounted: bool,
    /// The mount option's value, other than 0.
    pub(super) hidepid: Option<String>,
    /// Processes that do not belong to this program, and of how many what could not be opened.
    pub(super) others: Others,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Others {
    pub(super) tried: u32,
    /// smaps_rollup: PSS.
    pub(super) without_pss: u32,
    /// exe: the path of the program.
    pub(super) without_exe: u32,
    /// fd: the sockets, by which a listener is found.
    pub(super) without_sockets: u32,
    /// One of those.
    pub(super) example: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Nvml {
    Works {
        devices: u32,
        driver: Option<String>,
    },
    /// The library can't be loaded. `driver`: the kernel's side is there.
    NotFound {
        why: String,
        driver: bool,
    },
    /// It was loaded and refused to start.
    Unusable(String),
}

#[derive(Debug, Clone)]
pub(super) struct Clock {
    pub(super) resolution_ns: u64,
    pub(super) source: Option<String>,
    /// What a time namespace adds to this process's CLOCK_MONOTONIC and not to the kernel's, in ns.
    pub(super) offset_ns: i128,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Cpus {
    pub(super) online: Option<u32>,
    /// By affinity and cgroup quota.
    pub(super) usable: Option<u32>,
}
