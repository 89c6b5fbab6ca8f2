//! The facts about the machine, before any conclusion.
//!
//! Owns plain data: filled in by `probe`, read by `rules`. An unknown fact is `None`; a failed attempt is an `Err` with
//! the reason in words.

use std::path::PathBuf;

/// The outcome of an attempt.
pub(super) type Tried<T> = Result<T, String>;

#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) kernel_release: String,
    /// The kernel's BTF was read.
    pub(super) btf: Tried<()>,
    /// The kernel program was loaded, and then unloaded.
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
    /// Capabilities that it can use, as bits; `None`: the kernel does not show them.
    pub(super) capabilities: Option<u64>,
    /// It has more privileges than its caller.
    pub(super) elevated: bool,
    /// The capabilities that the observer's thread would keep in a run, by name.
    pub(super) observer_keeps: Vec<String>,
    /// The load's thread would get a filter of system calls.
    pub(super) filters: Tried<()>,
    /// File capabilities would have no effect.
    pub(super) no_new_privs: bool,
    /// A seccomp filter is in force.
    pub(super) seccomp_filter: bool,
}

/// What can prevent the use of a privilege.
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
    /// The machine's namespace.
    Initial,
    /// The namespace of the machine's pid 1.
    OfPid1,
    /// Another namespace.
    Inner,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Only cgroup2.
    V2,
    /// Only v1 controllers.
    V1,
    /// v1 controllers, and a cgroup2 without controllers.
    Hybrid,
    None,
}

#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    pub(super) layout: Layout,
    /// The hierarchies that inferscope uses: cgroup2, and v1's cpuacct and memory.
    pub(super) hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, Clone)]
pub(super) struct Hierarchy {
    /// `cgroup2`, `cpuacct`, `memory`.
    pub(super) name: &'static str,
    pub(super) mount: PathBuf,
    /// A cgroup was created below this process's own, and removed. `Err`: why not.
    pub(super) made: Tried<()>,
    /// The accounting files of such a cgroup, or those of the own cgroup if none could be created.
    pub(super) files: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub(super) struct Proc {
    /// It is mounted and shows this very process.
    pub(super) mounted: bool,
    /// The value of the mount option, if it is not 0.
    pub(super) hidepid: Option<String>,
    /// Processes that do not belong to this program, and how many entries of them could not be opened.
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
    /// The pid of one of them.
    pub(super) example: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Nvml {
    Works {
        devices: u32,
        driver: Option<String>,
    },
    /// The library can't be loaded. `driver`: the kernel's part is there.
    NotFound {
        why: String,
        driver: bool,
    },
    /// The library was loaded and refused to start.
    Unusable(String),
}

#[derive(Debug, Clone)]
pub(super) struct Clock {
    pub(super) resolution_ns: u64,
    pub(super) source: Option<String>,
    /// The offset that a time namespace adds to this process's CLOCK_MONOTONIC and not to the kernel's, in ns.
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
    /// The usable CPUs, by affinity and cgroup quota.
    pub(super) usable: Option<u32>,
}
