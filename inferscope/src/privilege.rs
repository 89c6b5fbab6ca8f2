//! What each thread of this process may do.
//!
//! Owns capabilities, `no_new_privs` and seccomp filters: what inferscope got at its start, what is raised around the few
//! looks that need it, and what a thread gives up before it works. Never decides what is looked at. Called by `main` first of
//! all, by `run`, and by whoever starts a thread.
//!
//! A thread is no wall: it shares memory with the others. What it has given up it can't do itself.

mod filter;
mod sets;

use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};

use filter::Filter;

/// What tracing programs and the reads of other users' /proc entries need.
const OBSERVING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);
/// On a system that is set up so, nobody's (`overflowuid`).
const NOBODY: u32 = 65_534;

/// What a name is looked up in, again and again: where one of them is closed to [`NOBODY`], as under a umask of 077, the
/// load's thread opens files as it did.
const LOOKED_UP: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"];

/// A library that a caller may not choose.
#[derive(Debug, thiserror::Error)]
#[error(
    "--nvml-lib and INFERSCOPE_NVML_LIB load a library of the caller's, and this program has more privileges than its caller \
     (setcap or setuid)\n  leave it out, or run it as root, or a copy of it that has no capabilities"
)]
pub struct LibraryRefused;

/// Who inferscope is, from its start on.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// The kernel, or a security module, says that this program is not its caller's.
    secure: bool,
    /// It has more than its caller, who is not root.
    elevated: bool,
    /// What could be used at the start, or was kept of it.
    permitted: CapabilitySet,
    /// This kernel may ask for CAP_BPF at each use of bpf(2).
    asks_each_time: bool,
}

static STANDING: OnceLock<Standing> = OnceLock::new();
static IN_FORCE: Mutex<Vec<InForce>> = Mutex::new(Vec::new());

/// A kind of thread, or the process that ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Opens what needs a privilege, and writes the report as its caller may.
    Main,
    /// Sends, and reads what a server answers, which may be anything.
    Load,
    /// Watches the processes.
    Observer,
    /// Asks the driver's library.
    Gpu,
    /// Applies the events of the others; computes and does nothing else.
    Collector,
    /// Ends the command of `exec`.
    Janitor,
}

/// What a thread was left with, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    pub role: Role,
    /// Names of capabilities; `None`: capget(2) failed.
    pub effective: Option<Vec<String>>,
    pub permitted: Option<Vec<String>>,
    pub no_new_privs: Option<bool>,
    pub seccomp: bool,
    /// Why there is no filter.
    pub seccomp_reason: Option<String>,
    /// Whose files the thread may open, and whose its sockets are, where it is another's than the process's.
    pub files_as_uid: Option<u32>,
    /// Why it is not, where it would be.
    pub files_as_uid_reason: Option<String>,
}

/// Finds out who started this program, and lowers what its caller has not: nothing of the caller's is read or written with
/// it. Before anything else is done, while there is one thread.
pub fn begin() {
    STANDING.get_or_init(|| {
        let secure = is_secure() || sets::ids_differ();
        let elevated = secure && !rustix::process::getuid().is_root();
        if elevated {
            sets::become_caller(OBSERVING);
        }
        Standing { secure, elevated, permitted: sets::own().permitted, asks_each_time: asks_each_time() }
    });
}

/// `AT_SECURE`: the kernel, or a security module, says that this program has more than its caller. As glibc's loader goes by
/// it, no `LD_LIBRARY_PATH` or `LD_PRELOAD` is heeded then.
fn is_secure() -> bool {
    // SAFETY: takes a number, gives a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

fn standing() -> Standing {
    // A test, or a part of the program that never began: what is there now.
    *STANDING.get_or_init(|| Standing {
        secure: false,
        elevated: false,
        permitted: sets::own().permitted,
        asks_each_time: asks_each_time(),
    })
}

/// Whether this program has more privileges than its caller.
#[must_use]
pub fn is_elevated() -> bool {
    standing().elevated
}

/// Capabilities that inferscope has for observing, in effect or not, as bits.
#[must_use]
pub fn available() -> u64 {
    standing().permitted.bits()
}

/// # Errors
/// A library of the caller's, where the caller has less than this program.
pub fn refuse_library(library: Option<&Path>) -> Result<(), LibraryRefused> {
    if library.is_some() && standing().secure { Err(LibraryRefused) } else { Ok(()) }
}

/// What observing needs is in effect on this thread, until this is dropped. Changes nothing where it was in effect before.
#[must_use]
#[derive(Debug)]
pub struct Raised {
    before: CapabilitySets,
    /// Capabilities are a thread's.
    stays: PhantomData<*const ()>,
}

/// For looks at the kernel and at other users' processes, and never for a file that a caller named.
pub fn raise() -> Raised {
    let before = sets::own();
    let effective = before.effective | (before.permitted & OBSERVING);
    if effective != before.effective {
        // What is refused will be missed, and told, by whoever needs it.
        let _ = set_capabilities(None, CapabilitySets { effective, ..before });
    }
    Raised { before, stays: PhantomData }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if sets::own().effective != self.before.effective {
            // Lowering is never refused.
            let _ = set_capabilities(None, self.before);
        }
    }
}

impl Role {
    fn keeps(self, standing: Standing) -> CapabilitySet {
        let has = standing.permitted;
        let wanted = match (self, standing.elevated) {
            (Self::Load | Self::Collector, _) | (Self::Main | Self::Gpu | Self::Janitor, true) => {
                CapabilitySet::empty()
            }
            (Self::Observer, _) => observing(standing),
            // As the caller: into a directory of another user's, and over a file of another's in a sticky one. KILL: for a
            // command whose janitor was killed.
            (Self::Main, false) => {
                CapabilitySet::DAC_READ_SEARCH
                    | CapabilitySet::DAC_OVERRIDE
                    | CapabilitySet::FOWNER
                    | CapabilitySet::KILL
            }
            // The driver gives counters to CAP_SYS_ADMIN alone where it is so set up (NVreg_RestrictProfilingToAdminUsers);
            // the rest reads which devices CUDA shows a process.
            (Self::Gpu, false) => CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE | reading(has),
            // A command may have become another user; its cgroup may lie in one of another's; and the cpuset controller
            // lets nobody else move what has more capabilities.
            (Self::Janitor, false) => {
                CapabilitySet::KILL | CapabilitySet::DAC_OVERRIDE | CapabilitySet::SYS_NICE
            }
        };
        wanted & has
    }

    fn filter(self) -> Result<Filter, &'static str> {
        match self {
            Self::Load => Ok(Filter::Load),
            Self::Observer => Ok(Filter::Observer),
            Self::Collector => Ok(Filter::Collector),
            Self::Main => Err("it writes the report wherever its caller may"),
            Self::Gpu => Err("what the driver's library calls is not known"),
            Self::Janitor => Err("it reads nothing but inferscope's word"),
        }
    }
}

/// What the tracker goes on needing: programs that run and maps that are there take no capability, but on older kernels.
fn observing(standing: Standing) -> CapabilitySet {
    let has = standing.permitted;
    let bpf = match (standing.asks_each_time, has.contains(CapabilitySet::BPF)) {
        (false, _) => CapabilitySet::empty(),
        (true, true) => CapabilitySet::BPF,
        (true, false) => CapabilitySet::SYS_ADMIN,
    };
    // Newer kernels let CAP_PERFMON read memory maps (`may_access_mm`).
    let maps = if has.contains(CapabilitySet::SYS_PTRACE) {
        CapabilitySet::SYS_PTRACE
    } else {
        CapabilitySet::PERFMON
    };
    bpf | maps | reading(has)
}

/// Whether any use of bpf(2) takes CAP_BPF where `kernel.unprivileged_bpf_disabled` is set; since Linux 5.19 only the making of
/// programs and maps does.
fn asks_each_time() -> bool {
    let release = rustix::system::uname();
    let major = release.release().to_str().ok().and_then(|text| text.split('.').next()?.parse::<u32>().ok());
    major.is_none_or(|major| major < 6)
}

/// To read other users' entries of /proc. The second can stand in for the first, as in containers.
fn reading(has: CapabilitySet) -> CapabilitySet {
    let weak = CapabilitySet::DAC_READ_SEARCH;
    if has.contains(weak) { weak } else { CapabilitySet::DAC_OVERRIDE }
}

/// Leaves this thread, and all that it starts, with what `role` takes, for good; and notes what is in force.
pub fn shed(role: Role) {
    let left = give_up(role);
    note(left);
}

/// The same, for a process that can't note it here.
#[must_use]
pub fn give_up(role: Role) -> InForce {
    let keep = role.keeps(standing());
    let needed = LOOKED_UP.map(Path::new);
    let files = if role == Role::Load { sets::open_files_as(NOBODY, &needed) } else { Ok(None) };
    sets::bound(keep);
    // Refused only by kernels before 3.5.
    let _ = rustix::thread::set_no_new_privs(true);
    sets::keep(keep);
    let filtered = role.filter().map_err(str::to_owned).and_then(|filter| filter.install());
    let left = sets::own_if_known();
    InForce {
        role,
        effective: left.map(|sets| sets::names(sets.effective)),
        permitted: left.map(|sets| sets::names(sets.permitted)),
        no_new_privs: rustix::thread::no_new_privs().ok(),
        seccomp: filtered.is_ok(),
        seccomp_reason: filtered.err(),
        files_as_uid: files.as_ref().ok().copied().flatten(),
        files_as_uid_reason: files.err(),
    }
}

/// What was left to another process of inferscope's.
pub fn note(left: InForce) {
    let mut all = IN_FORCE.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other| other.role != left.role);
    all.push(left);
    all.sort_by_key(|left| left.role);
}

/// Before a library is loaded that is not inferscope's: its constructor runs with what this thread has left. New privileges
/// can be had still, as the driver's library runs a helper that makes the devices' files.
pub fn before_library() {
    sets::keep(Role::Gpu.keeps(standing()));
}

/// Becomes what the caller would be without this program's own privileges: for what is started for the caller.
pub fn as_caller() {
    if is_elevated() {
        sets::keep_but_inheritable(CapabilitySet::empty());
    }
}

/// What each thread was left with, in the order of the roles.
#[must_use]
pub fn in_force() -> Vec<InForce> {
    IN_FORCE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Names of what a thread of that role would keep.
#[must_use]
pub fn planned(role: Role) -> Vec<String> {
    sets::names(role.keeps(standing()))
}

/// # Errors
/// Why no seccomp filter can be had on this kernel.
pub fn filters() -> Result<(), String> {
    filter::available()
}

#[cfg(test)]
mod tests;
