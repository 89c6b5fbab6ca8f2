//! The privileges of this process and of each of its threads.
//!
//! Owns capabilities, `no_new_privs` and seccomp filters: what inferscope got at its start, what is raised around the
//! few looks that need it, and what a thread gives up before it works. Never decides what is looked at. `main` calls it
//! before anything else; `session` and every caller that starts a thread use it.
//!
//! A thread is no security boundary, as it shares memory with the others. A thread itself can't do what it has given
//! up.

mod filter;
mod sets;

use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};

use filter::Filter;

/// The capabilities for tracing programs and for reading other users' /proc entries.
const OBSERVING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);
/// The user id that no user has, on most systems (`overflowuid`).
const NOBODY: u32 = 65_534;

/// The files of name lookups, which happen again and again. If one of them is closed to [`NOBODY`], as under a umask of
/// 077, the load's thread goes on opening files as the process's user.
const LOOKED_UP: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"];

/// A library that the caller may not choose.
#[derive(Debug, thiserror::Error)]
#[error(
    "--nvml-lib and INFERSCOPE_NVML_LIB load a library of the caller's, and this program has more privileges than its caller \
     (setcap or setuid)\n  leave it out, or run it as root, or a copy of it that has no capabilities"
)]
pub struct LibraryRefused;

/// The identity of inferscope, from its start on.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// The kernel, or a security module, says that this program has more privileges than its caller.
    secure: bool,
    /// It has more privileges than its caller, who is not root.
    elevated: bool,
    /// The capabilities at the start, or what was kept of them.
    permitted: CapabilitySet,
    /// This kernel may require CAP_BPF at each use of bpf(2).
    asks_each_time: bool,
}

static STANDING: OnceLock<Standing> = OnceLock::new();
static IN_FORCE: Mutex<Vec<InForce>> = Mutex::new(Vec::new());

/// A kind of thread, or the process that ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadRole {
    /// Opens what needs a privilege, and writes the report with its caller's rights.
    Main,
    /// Sends requests and reads the responses, which may hold anything.
    Load,
    /// Watches the processes.
    Observer,
    /// Calls the driver's library.
    Gpu,
    /// Applies the events of the others; computes and does nothing else.
    Collector,
    /// Ends the command of `exec`.
    Janitor,
}

/// The privileges of a thread that are in force, as the kernel shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    pub role: ThreadRole,
    /// Names of capabilities; `None`: capget(2) failed.
    pub effective: Option<Vec<String>>,
    pub permitted: Option<Vec<String>>,
    pub no_new_privs: Option<bool>,
    pub seccomp: bool,
    /// Why there is no filter.
    pub seccomp_reason: Option<String>,
    /// The user whose files the thread may open and who owns its sockets, if that is not the process's user.
    pub files_as_uid: Option<u32>,
    /// Why the thread kept the process's user, although it should not.
    pub files_as_uid_reason: Option<String>,
}

/// Finds out who started this program, and lowers the privileges that its caller does not have: nothing of the caller's
/// is read or written with them. Must come first, while there is one thread.
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

/// `AT_SECURE`: the kernel, or a security module, says that this program has more privileges than its caller. glibc's
/// loader uses the same value, and then ignores `LD_LIBRARY_PATH` and `LD_PRELOAD`.
fn is_secure() -> bool {
    // SAFETY: takes a number and returns a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

fn standing() -> Standing {
    // This is a test, or a part of the program that never began. The present state counts.
    *STANDING.get_or_init(|| Standing {
        secure: false,
        elevated: false,
        permitted: sets::own().permitted,
        asks_each_time: asks_each_time(),
    })
}

/// This program has more privileges than its caller.
#[must_use]
pub fn is_elevated() -> bool {
    standing().elevated
}

/// The capabilities for observing, in effect or not, as bits.
#[must_use]
pub fn available() -> u64 {
    standing().permitted.bits()
}

/// # Errors
/// The library is the caller's choice, and the caller has fewer privileges than this program.
pub fn refuse_library(library: Option<&Path>) -> Result<(), LibraryRefused> {
    if library.is_some() && standing().secure { Err(LibraryRefused) } else { Ok(()) }
}

/// Brings the capabilities for observing into effect on this thread until the drop. Changes nothing if they already
/// are.
#[must_use]
#[derive(Debug)]
pub struct Raised {
    before: CapabilitySets,
    /// Not `Send`: capabilities belong to a thread.
    stays: PhantomData<*const ()>,
}

/// Raises them for looks at the kernel and at other users' processes, never for a file that a caller named.
pub fn raise() -> Raised {
    let before = sets::own();
    let effective = before.effective | (before.permitted & OBSERVING);
    if effective != before.effective {
        // The code that needs a refused one will fail and report it.
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

impl ThreadRole {
    fn keeps(self, standing: Standing) -> CapabilitySet {
        let has = standing.permitted;
        let wanted = match (self, standing.elevated) {
            (Self::Load | Self::Collector, _) | (Self::Main | Self::Gpu | Self::Janitor, true) => {
                CapabilitySet::empty()
            }
            (Self::Observer, _) => observing(standing),
            // As the caller: into a directory of another user, and over a file of another user in a sticky one. KILL is
            // for a command whose janitor was killed.
            (Self::Main, false) => {
                CapabilitySet::DAC_READ_SEARCH
                    | CapabilitySet::DAC_OVERRIDE
                    | CapabilitySet::FOWNER
                    | CapabilitySet::KILL
            }
            // The driver may be set up to give counters only to CAP_SYS_ADMIN (NVreg_RestrictProfilingToAdminUsers).
            // The rest reads which devices CUDA shows to a process.
            (Self::Gpu, false) => CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE | reading(has),
            // A command may have become another user, its cgroup may lie in another user's, and the cpuset controller
            // lets nobody else move a process with more capabilities.
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

/// What the tracker needs after its start: running programs and existing maps take no capability, except on older
/// kernels.
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

/// Any use of bpf(2) takes CAP_BPF where `kernel.unprivileged_bpf_disabled` is set. Since Linux 5.19 only the creation
/// of programs and maps does.
fn asks_each_time() -> bool {
    let release = rustix::system::uname();
    let major = release.release().to_str().ok().and_then(|text| text.split('.').next()?.parse::<u32>().ok());
    major.is_none_or(|major| major < 6)
}

/// The capabilities for other users' entries of /proc. The second can replace the first, as in containers.
fn reading(has: CapabilitySet) -> CapabilitySet {
    let weak = CapabilitySet::DAC_READ_SEARCH;
    if has.contains(weak) { weak } else { CapabilitySet::DAC_OVERRIDE }
}

/// Limits this thread, and all threads that it starts, to what `role` needs, for good. Notes what is in force.
pub fn shed(role: ThreadRole) {
    let left = give_up(role);
    note(left);
}

/// The same for a process that can't note it here.
#[must_use]
pub fn give_up(role: ThreadRole) -> InForce {
    let keep = role.keeps(standing());
    let needed = LOOKED_UP.map(Path::new);
    let files = if role == ThreadRole::Load { sets::open_files_as(NOBODY, &needed) } else { Ok(None) };
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

/// The privileges that another process of inferscope kept.
pub fn note(left: InForce) {
    let mut all = IN_FORCE.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other| other.role != left.role);
    all.push(left);
    all.sort_by_key(|left| left.role);
}

/// Prepares the loading of a foreign library: its constructor runs with what this thread has left. New privileges stay
/// possible because the driver's library runs a helper that creates the devices' files.
pub fn before_library() {
    sets::keep(ThreadRole::Gpu.keeps(standing()));
}

/// Becomes what the caller would be without this program's own privileges, to start something for the caller.
pub fn as_caller() {
    if is_elevated() {
        sets::keep_but_inheritable(CapabilitySet::empty());
    }
}

/// The privileges that each thread kept, in the order of the roles.
#[must_use]
pub fn in_force() -> Vec<InForce> {
    IN_FORCE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The names of the capabilities that a thread of this role would keep.
#[must_use]
pub fn planned(role: ThreadRole) -> Vec<String> {
    sets::names(role.keeps(standing()))
}

/// # Errors
/// Why this kernel takes no seccomp filter.
pub fn filters() -> Result<(), String> {
    filter::available()
}

#[cfg(test)]
mod tests;
