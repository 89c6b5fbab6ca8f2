//! The search for the target's root processes.
//!
//! Owns the way from the plan's target to pids. Reads /proc through `proc::sockets`. Called once by `session`, before
//! anything is sent.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::cgroup::{self, CgroupError, Hierarchies};
use super::proc::{handle, sockets, tree};
use crate::plan::TargetPlan;
use crate::privilege;

/// The roots, and how they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The roots of a tree; with a cgroup, further roots. Without either there is no target.
    pub roots: Vec<u32>,
    /// The whole cgroup is the target.
    pub cgroup: Option<CgroupTarget>,
    pub descendants: bool,
    /// How it was found, in words for the report.
    pub how: String,
}

/// A cgroup of the v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupTarget {
    /// Its directory.
    pub dir: PathBuf,
    /// Its path within the hierarchy, as /proc/PID/cgroup shows it.
    pub name: String,
    /// The inode number of its directory.
    pub id: u64,
    /// Its depth in the hierarchy minus that of inferscope's own cgroup. A cgroup namespace hides the true depth of
    /// both; the kernel program knows that of its own.
    pub below_own: i32,
    /// A process that is moved out of it leaves the set.
    pub strict: bool,
}

impl Found {
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.roots.is_empty() && self.cgroup.is_none()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// What was searched for, and after the first semicolon the remedy.
    #[error("no target: {}", .0.replacen("; ", "\n  ", 1))]
    NotFound(String),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("{}", unseen.said(*pid))]
    Unseen { pid: u32, unseen: Unseen },
}

/// Why the process that `--pid` names can't be the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    NoProc,
    /// It lives, but /proc does not show it.
    Hidden,
    /// It is a thread of this process.
    ThreadOf(u32),
    /// No such process exists in this namespace, which is not the machine's.
    NotInNamespace,
    NoSuchPid,
}

impl Unseen {
    fn of(pid: u32) -> Self {
        let status = |pid: &str| super::proc::text(format!("/proc/{pid}/status"));
        if status("self").is_none() {
            return Self::NoProc;
        }
        let tgid = |status: String| status.lines().find_map(|l| l.strip_prefix("Tgid:")?.trim().parse().ok());
        match status(&pid.to_string()).and_then(tgid) {
            Some(tgid) if tgid != pid => Self::ThreadOf(tgid),
            _ if handle::lives(pid) => Self::Hidden,
            _ if in_inner_namespace() => Self::NotInNamespace,
            _ => Self::NoSuchPid,
        }
    }

    fn said(self, pid: u32) -> String {
        match self {
            Self::NoProc => {
                format!("process {pid} can't be seen: /proc is not mounted\n  mount -t proc proc /proc")
            }
            Self::Hidden => format!(
                "process {pid} lives, and /proc hides it (mount option hidepid)\n  run inferscope as root or with CAP_SYS_PTRACE, \
                 or mount /proc without hidepid"
            ),
            Self::ThreadOf(tgid) => format!("{pid} is a thread of process {tgid}\n  pass --pid {tgid}"),
            Self::NotInNamespace => format!(
                "no process has pid {pid} in this pid namespace, which is not the machine's\n  where it is a pid of the host, or of \
                 another container, run inferscope there: docker run --pid=host or --pid=container:NAME, Kubernetes \
                 hostPID: true or shareProcessNamespace: true"
            ),
            Self::NoSuchPid => format!(
                "no process has pid {pid}\n  give the pid of the running server, or leave --pid out to find the endpoint's listener"
            ),
        }
    }
}

/// `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

pub(super) fn in_inner_namespace() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != INITIAL_PID_NAMESPACE)
}

/// # Errors
/// `--pid` names a process that does not exist or can't be seen.
pub fn find(plan: &TargetPlan) -> Result<Found, TargetError> {
    match *plan {
        TargetPlan::Cgroup { ref path, strict } => {
            let target = cgroup::named(&Hierarchies::of_this_process(), path, strict)?;
            Ok(whole(target, "--cgroup"))
        }
        TargetPlan::CgroupOf { pid, strict } => {
            // A /proc with hidepid shows it with raised privileges.
            let _raised = privilege::raise();
            let target = cgroup::of_pid(&Hierarchies::of_this_process(), pid, strict)?;
            Ok(whole(target, &format!("--cgroup-of {pid}")))
        }
        TargetPlan::Pid { pid, descendants } => {
            let _raised = privilege::raise();
            let exists = tree::scan().iter().any(|n| n.pid == pid);
            if !exists {
                return Err(TargetError::Unseen { pid, unseen: Unseen::of(pid) });
            }
            let how = if descendants { "--pid, with its descendants" } else { "--pid, alone" };
            Ok(Found { roots: vec![pid], cgroup: None, descendants, how: how.to_owned() })
        }
        TargetPlan::Listener { ref host, port } => Ok(listener(host, port)),
        TargetPlan::None => Ok(Found {
            roots: Vec::new(),
            cgroup: None,
            descendants: true,
            how: "the endpoint is not on this machine's loopback; pass --pid to observe a local server"
                .into(),
        }),
    }
}

fn whole(cgroup: CgroupTarget, flag: &str) -> Found {
    let strictly = if cgroup.strict { ", without what is moved out of it" } else { "" };
    Found { roots: Vec::new(), descendants: true, how: format!("{flag}{strictly}"), cgroup: Some(cgroup) }
}

fn listener(host: &str, port: u16) -> Found {
    let found = sockets::listeners(host, port);
    let place = found.elsewhere.as_deref().map(|e| format!(", {e}")).unwrap_or_default();
    let none = |how| Found { roots: Vec::new(), cgroup: None, descendants: true, how };
    if !found.pids.is_empty() {
        let _raised = privilege::raise();
        let roots = topmost(&found.pids, &tree::scan());
        let how = format!("owner of the socket that listens on {host}:{port}{place}");
        return Found { roots, cgroup: None, descendants: true, how };
    }
    if found.listening {
        return none(format!(
            "{host}:{port} has a listener{place} whose process can't be seen; run inferscope as root and in \
             the host's pid namespace (docker run --pid=host), or pass --pid"
        ));
    }
    match found.namesake {
        Some(pid) => none(format!(
            "no process of this network namespace listens on {host}:{port}; process {pid} listens on that port \
             in another one: pass --pid {pid} if that is the server"
        )),
        None => none(format!(
            "no process that can be seen from here listens on {host}:{port}; where the server is in a container, \
             run inferscope on its host or in its pid namespace, or pass --pid"
        )),
    }
}

/// The `owners` without an ancestor among the other owners: an arbiter, and not the workers that inherited its socket.
fn topmost(owners: &BTreeSet<u32>, nodes: &[tree::Node]) -> Vec<u32> {
    let parent = |pid: u32| nodes.iter().find(|n| n.pid == pid).map(|n| n.ppid);
    let has_owner_above = |&pid: &u32| {
        let mut at = pid;
        // A chain of parents is shorter than the list of processes, unless /proc changed during the read.
        for _ in 0..nodes.len() {
            match parent(at) {
                Some(above) if owners.contains(&above) => return true,
                Some(above) if above > 1 => at = above,
                _ => return false,
            }
        }
        false
    };
    owners.iter().copied().filter(|pid| !has_owner_above(pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arbiter_is_the_root_of_a_socket_that_its_workers_share() {
        let node = |pid, ppid| tree::Node { pid, ppid, start_ticks: 0 };
        let nodes = [node(10, 1), node(11, 10), node(12, 11), node(13, 12), node(50, 1)];
        let owners = BTreeSet::from([11, 13, 50]);
        assert_eq!(topmost(&owners, &nodes), [11, 50]);
    }

    #[test]
    fn a_pid_that_does_not_exist_is_an_error_that_names_it() {
        let error = find(&TargetPlan::Pid { pid: 4_194_305, descendants: true }).unwrap_err();
        assert!(error.to_string().contains("4194305"));
    }

    #[test]
    fn a_thread_is_told_with_its_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = ended.recv();
        });
        let tid = told.recv().unwrap().cast_unsigned();
        let error = find(&TargetPlan::Pid { pid: tid, descendants: true }).unwrap_err();
        assert!(error.to_string().contains(&format!("pass --pid {}", std::process::id())), "{error}");
        drop(end);
        thread.join().unwrap();
    }
}
