//! The processes that belong to the command, and signals to them.
//!
//! Owns the reads of /proc and cgroup.procs for the end of a command. Never measures (`observe` does). Used by the
//! janitor.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::observe::cgroup::{processes_below, v2_path};
use crate::observe::proc::text;

/// How the members are found.
#[derive(Debug, Clone)]
pub(super) enum CommandMembers {
    /// All processes in this cgroup of the v2 hierarchy and below.
    Cgroup { dir: PathBuf, name: String },
    /// All descendants of this process, which adopts orphans.
    Tree { root: u32 },
}

impl CommandMembers {
    /// The living members.
    pub(super) fn living(&self) -> Vec<u32> {
        match self {
            // A zombie is not listed.
            Self::Cgroup { dir, .. } => processes_below(dir).into_iter().collect(),
            Self::Tree { root } => below(*root, &scan()),
        }
    }

    /// Signals every living member. A pid that was reused meanwhile gets no signal.
    pub(super) fn signal(&self, signal: Signal) {
        for pid in self.living() {
            let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            // Lookups after this are of the same process.
            let Ok(pidfd) = pidfd_open(raw, PidfdFlags::empty()) else { continue };
            if self.holds(pid) {
                let _ = pidfd_send_signal(&pidfd, signal);
            }
        }
    }

    pub(super) fn kill(&self) {
        // Linux 5.14 and later kill in one step, so nothing can fork meanwhile.
        if let Self::Cgroup { dir, .. } = self
            && std::fs::write(dir.join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        self.signal(Signal::KILL);
    }

    fn holds(&self, pid: u32) -> bool {
        match self {
            Self::Cgroup { name, .. } => {
                let cgroups = text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                is_within(&cgroups, name)
            }
            Self::Tree { root } => below(*root, &scan()).contains(&pid),
        }
    }
}

/// `dir` and all directories below it, the deepest first.
pub(super) fn directories(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Ok(entries) = std::fs::read_dir(dir) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.extend(directories(&entry.path()));
            }
        }
    }
    all.push(dir.to_owned());
    all
}

/// The processes of one cgroup. 0 stands for one outside of this pid namespace.
pub(super) fn listed(dir: &Path) -> Vec<u32> {
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    procs.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != 0).collect()
}

/// /proc/PID/cgroup names `cgroup` of the v2 hierarchy, or one below it.
fn is_within(proc_cgroup: &str, cgroup: &str) -> bool {
    let below = v2_path(proc_cgroup).and_then(|own| own.strip_prefix(cgroup));
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Debug, Clone, Copy)]
struct Node {
    pid: u32,
    ppid: u32,
    lives: bool,
}

fn scan() -> Vec<Node> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| node(pid, &text(format!("/proc/{pid}/stat"))?)).collect()
}

/// The parent's pid, from `pid (comm) state ppid …`.
fn node(pid: u32, stat: &str) -> Option<Node> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let lives = !matches!(fields.next()?, "Z" | "X");
    Some(Node { pid, ppid: fields.next()?.parse().ok()?, lives })
}

/// The living descendants of `root`, also those below dead processes.
fn below(root: u32, nodes: &[Node]) -> Vec<u32> {
    let mut known = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let before = known.len();
        for node in nodes {
            if known.contains(&node.ppid) && known.insert(node.pid) && node.lives {
                found.push(node.pid);
            }
        }
        if known.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_holds_what_is_below_it_and_not_its_neighbour() {
        let of = |path: &str| format!("4:memory:/x/inferscope-7\n0::{path}\n");
        assert!(is_within(&of("/a/inferscope-7"), "/a/inferscope-7"));
        assert!(is_within(&of("/a/inferscope-7/below"), "/a/inferscope-7"));
        assert!(!is_within(&of("/a/inferscope-77"), "/a/inferscope-7"));
        assert!(!is_within(&of("/a"), "/a/inferscope-7"));
        assert!(!is_within("4:memory:/a/inferscope-7\n", "/a/inferscope-7"));
    }

    #[test]
    fn descendants_are_found_in_any_order_and_through_a_zombie() {
        let node = |pid, ppid, lives| Node { pid, ppid, lives };
        let nodes =
            [node(4, 3, true), node(3, 2, false), node(2, 1, true), node(1, 0, true), node(9, 8, true)];
        assert_eq!(below(1, &nodes), [2, 4]);
    }

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_move_the_fields() {
        let node = node(7, "7 (a) Z 1) S 42 7 7 0").unwrap();
        assert_eq!((node.pid, node.ppid, node.lives), (7, 42, true));
        assert!(super::node(7, "7 (a").is_none());
    }

    #[test]
    fn this_process_is_below_its_parent() {
        let parent = std::os::unix::process::parent_id();
        assert!(CommandMembers::Tree { root: parent }.living().contains(&std::process::id()));
        assert!(CommandMembers::Tree { root: parent }.holds(std::process::id()));
        assert!(!CommandMembers::Tree { root: std::process::id() }.holds(parent));
    }
}
