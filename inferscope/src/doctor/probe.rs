//! The looks at the machine: every effect of `doctor`.
//!
//! Owns the reads of /proc and /sys (below a root that tests replace) and the attempts: it reads BTF, loads the kernel
//! program, creates and removes a cgroup, and starts NVML. Concludes nothing. Used by `doctor::examine`.

mod cgroups;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml as Library;
use nvml_wrapper::error::NvmlError;

use super::facts::{
    Clock, Cpus, Facts, Limit, Namespace, Namespaces, Nvml, OwnProcess, Proc, Restrictions, Tried,
};
use crate::observe;
use crate::observe::proc::mount::hidepid;
use crate::privilege::{self, ThreadRole};

/// `PROC_*_INIT_INO` (include/linux/proc_ns.h); the network's since 6.18 (include/uapi/linux/nsfs.h).
const INITIAL_USER: u64 = 0xEFFF_FFFD;
const INITIAL_PID: u64 = 0xEFFF_FFFC;
const INITIAL_NETWORK: u64 = 0xEFFF_FFF9;

pub(super) struct Probe {
    root: PathBuf,
}

impl Probe {
    pub(super) fn of_this_machine() -> Self {
        Self { root: PathBuf::from("/") }
    }

    pub(super) fn facts(&self, nvml_library: Option<&Path>) -> Facts {
        let status = self.text("proc/self/status").unwrap_or_default();
        Facts {
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            btf: self.btf(),
            tracker: {
                let _raised = privilege::raise();
                observe::probe_tracker().map_err(|e| e.to_string())
            },
            own: own(&status),
            restrictions: self.restrictions(),
            namespaces: self.namespaces(&status),
            cgroups: self.cgroups(),
            proc: self.proc(&status),
            nvml: self.nvml_apart(nvml_library),
            clock: self.clock(),
            open_files: open_files(),
            cpus: self.cpus(),
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn text(&self, below: &str) -> Option<String> {
        crate::observe::proc::text(self.path(below))
    }

    fn line(&self, below: &str) -> Option<String> {
        self.text(below).map(|text| text.trim().to_owned()).filter(|line| !line.is_empty())
    }

    /// Reads the whole file, as an empty file in its place is no BTF.
    fn btf(&self) -> Tried<()> {
        let bytes = fs::read(self.path("sys/kernel/btf/vmlinux")).map_err(|e| e.to_string())?;
        // The magic number in either byte order (Documentation/bpf/btf.rst).
        match bytes.get(..2) {
            Some([0x9F, 0xEB] | [0xEB, 0x9F]) => Ok(()),
            _ => Err(format!("{} bytes that are no BTF", bytes.len())),
        }
    }

    fn restrictions(&self) -> Restrictions {
        let number = |below: &str| self.line(below).and_then(|line| line.parse().ok());
        Restrictions {
            lockdown: self.line("sys/kernel/security/lockdown").and_then(|line| chosen(&line)),
            unprivileged_bpf_disabled: number("proc/sys/kernel/unprivileged_bpf_disabled"),
            perf_event_paranoid: number("proc/sys/kernel/perf_event_paranoid"),
        }
    }

    fn namespaces(&self, status: &str) -> Namespaces {
        let nested = field(status, "NSpid").is_some_and(|pids| pids.split_whitespace().count() > 1);
        let pid = self.namespace("pid", INITIAL_PID);
        Namespaces {
            pid,
            user: self.namespace("user", INITIAL_USER),
            network: self.network_namespace(pid),
            proc_is_foreign: nested,
        }
    }

    /// Compares the inode number, which is a constant for the machine's namespace.
    fn namespace(&self, kind: &str, initial: u64) -> Namespace {
        match self.namespace_inode("self", kind) {
            Some(own) if own == initial => Namespace::Initial,
            Some(_) => Namespace::Inner,
            None => Namespace::Unknown,
        }
    }

    /// Before 6.18 the number is no constant. It is then compared with that of pid 1, if that is the machine's.
    fn network_namespace(&self, pid: Namespace) -> Namespace {
        let of_first = self.namespace_inode("1", "net").filter(|_| pid == Namespace::Initial);
        match (self.namespace_inode("self", "net"), of_first) {
            (Some(INITIAL_NETWORK), _) => Namespace::Initial,
            (Some(own), Some(first)) if own == first => Namespace::OfPid1,
            (Some(_), Some(_)) => Namespace::Inner,
            _ => Namespace::Unknown,
        }
    }

    fn namespace_inode(&self, pid: &str, kind: &str) -> Option<u64> {
        let link = fs::read_link(self.path(&format!("proc/{pid}/ns/{kind}"))).ok()?;
        link.to_str()?.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
    }

    fn proc(&self, status: &str) -> Proc {
        let mounts = self.text("proc/self/mountinfo").unwrap_or_default();
        Proc {
            mounted: !status.is_empty(),
            hidepid: hidepid(&mounts).map(str::to_owned),
            others: {
                let _raised = privilege::raise();
                processes::others(&self.path("proc"), std::process::id())
            },
        }
    }

    /// Runs on a thread that has given up what a foreign library must not have.
    fn nvml_apart(&self, library: Option<&Path>) -> Nvml {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                privilege::before_library();
                self.nvml(library)
            });
            thread.join().unwrap_or_else(|_| Nvml::Unusable("asking it panicked".to_owned()))
        })
    }

    fn nvml(&self, library: Option<&Path>) -> Nvml {
        let opened = match library {
            Some(path) => Library::builder().lib_path(path.as_os_str()).init(),
            None => Library::init(),
        };
        match opened {
            Ok(nvml) => match nvml.device_count() {
                Ok(devices) => Nvml::Works { devices, driver: nvml.sys_driver_version().ok() },
                Err(e) => Nvml::Unusable(e.to_string()),
            },
            Err(NvmlError::LibloadingError(e)) => Nvml::NotFound {
                why: e.to_string(),
                driver: ["dev/nvidiactl", "proc/driver/nvidia/version"].iter().any(|p| self.path(p).exists()),
            },
            Err(e) => Nvml::Unusable(e.to_string()),
        }
    }

    fn clock(&self) -> Clock {
        let resolution = rustix::time::clock_getres(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(resolution.tv_sec).unwrap_or(0);
        let offsets = self.text("proc/self/timens_offsets").unwrap_or_default();
        Clock {
            resolution_ns: seconds * 1_000_000_000 + u64::try_from(resolution.tv_nsec).unwrap_or(0),
            source: self.line("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            offset_ns: monotonic_offset(&offsets),
        }
    }

    fn cpus(&self) -> Cpus {
        let usable = std::thread::available_parallelism().ok();
        Cpus {
            online: self
                .line("sys/devices/system/cpu/online")
                .and_then(|list| crate::observe::cpus::count_of(&list)),
            usable: usable.and_then(|n| u32::try_from(n.get()).ok()),
        }
    }
}

fn own(status: &str) -> OwnProcess {
    OwnProcess {
        uid: rustix::process::geteuid().as_raw(),
        exe: std::env::current_exe().ok(),
        capabilities: rustix::thread::capabilities(None).ok().map(|_| privilege::available()),
        elevated: privilege::is_elevated(),
        observer_keeps: privilege::planned(ThreadRole::Observer),
        filters: privilege::filters(),
        no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
        // SECCOMP_MODE_FILTER
        seccomp_filter: field(status, "Seccomp") == Some("2"),
    }
}

fn open_files() -> Limit {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Limit { soft: limit.current, hard: limit.maximum }
}

/// The value of a `Name:\tvalue` line.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The bracketed word of `none [integrity] confidentiality`.
fn chosen(line: &str) -> Option<String> {
    line.split_whitespace().find_map(|w| w.strip_prefix('[')?.strip_suffix(']')).map(str::to_owned)
}

/// The offset in the line `monotonic SECONDS NANOSECONDS`. No file or no line means no offset.
fn monotonic_offset(offsets: &str) -> i128 {
    let mut words =
        offsets.lines().find_map(|line| line.strip_prefix("monotonic")).unwrap_or("").split_whitespace();
    let mut number = || words.next().and_then(|w| w.parse::<i128>().ok()).unwrap_or(0);
    number() * 1_000_000_000 + number()
}

#[cfg(test)]
mod tests;
