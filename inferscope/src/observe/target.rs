//! From the plan's target to the pids that root it.
//!
//! Owns the search; reads /proc through `proc::sockets`. Called once by `run`, before anything is sent.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::cgroup::{self, CgroupError, Hierarchies};
use super::proc::{sockets, tree};
use crate::plan::TargetPlan;

/// The roots, and how they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Of a tree; with a cgroup, further roots. Without either there is no target.
    pub roots: Vec<u32>,
    /// The whole of this cgroup.
    pub cgroup: Option<CgroupTarget>,
    pub descendants: bool,
    /// In words, for the report.
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
    /// How much deeper in the hierarchy it lies than inferscope's own: a cgroup namespace hides the true
    /// depth of both, the kernel knows its own.
    pub below_own: i32,
    /// What is moved out of it leaves the set.
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
    #[error("no target: {0}")]
    NotFound(String),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(
        "no process has pid {0}\n  give the pid of the running server, or leave --pid out to find the endpoint's listener"
    )]
    NoSuchPid(u32),
}

/// # Errors
/// `--pid` names a process that does not exist.
pub fn find(plan: &TargetPlan) -> Result<Found, TargetError> {
    match *plan {
        TargetPlan::Cgroup { ref path, strict } => {
            let target = cgroup::named(&Hierarchies::of_this_process(), path, strict)?;
            Ok(whole(target, "--cgroup"))
        }
        TargetPlan::CgroupOf { pid, strict } => {
            let target = cgroup::of_pid(&Hierarchies::of_this_process(), pid, strict)?;
            Ok(whole(target, &format!("--cgroup-of {pid}")))
        }
        TargetPlan::Pid { pid, descendants } => {
            let exists = tree::scan().iter().any(|n| n.pid == pid);
            if !exists {
                return Err(TargetError::NoSuchPid(pid));
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

/// Those of `owners` that no other owner is an ancestor of: an arbiter, not the workers that
/// inherited its socket.
fn topmost(owners: &BTreeSet<u32>, nodes: &[tree::Node]) -> Vec<u32> {
    let parent = |pid: u32| nodes.iter().find(|n| n.pid == pid).map(|n| n.ppid);
    let has_owner_above = |&pid: &u32| {
        let mut at = pid;
        // A chain of parents is shorter than the list of processes, unless /proc changed in mid-read.
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
}
