//! The cgroup that a flag means.
//!
//! Owns the search in the mounted hierarchies. The kernel program goes by the v2 hierarchy, so a v1 path is accepted
//! only if a v2 cgroup holds the very same processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::hierarchies::{Hierarchies, existing, v2_path};
use super::{id_of, processes_below};
use crate::observe::proc::text;
use crate::observe::target_discovery::CgroupTarget;

/// Why a cgroup can't be the target, each with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "the cgroup v2 hierarchy is not mounted, which tells who is in a cgroup\n  mount it (mount -t cgroup2 none /sys/fs/cgroup/unified), or watch a process tree with --pid"
    )]
    NoV2,
    #[error(
        "there is no cgroup {}\n  give a directory below {}, or its path as /proc/PID/cgroup shows it", path.display(), mount.display()
    )]
    Missing { path: PathBuf, mount: PathBuf },
    #[error("no process has pid {0}\n  give the pid of a running process, or name the cgroup with --cgroup")]
    NoSuchPid(u32),
    #[error(
        "process {pid} is in the root cgroup, which holds the whole machine\n  watch its process tree with --pid {pid}, or start the server in a cgroup of its own (inferscope exec -- CMD)"
    )]
    Root { pid: u32 },
    #[error(
        "{} is a cgroup of a v1 hierarchy and holds no process, so that its v2 cgroup can't be told\n  give it when the server runs, or name the v2 cgroup", path.display()
    )]
    V1Empty { path: PathBuf },
    #[error(
        "{} is a cgroup of a v1 hierarchy, and no v2 cgroup holds the same processes: theirs is {v2}, with {others} others\n  watch the process tree with --pid, or name a v2 cgroup", path.display()
    )]
    V1Apart { path: PathBuf, v2: String, others: usize },
    #[error("the cgroup of process {pid} ({name}) lies outside of what is mounted at {}\n  run inferscope in the host's cgroup namespace, or watch the tree with --pid {pid}", mount.display())]
    Outside { pid: u32, name: String, mount: PathBuf },
}

/// `--cgroup`: a directory of the v2 hierarchy, a path within it, or a v1 directory.
pub(crate) fn named(h: &Hierarchies, path: &Path, strict: bool) -> Result<CgroupTarget, CgroupError> {
    let v2 = h.v2().ok_or(CgroupError::NoV2)?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let below_v2 = |dir: &PathBuf| dir.starts_with(&v2.point);
    let as_given = std::fs::canonicalize(path).ok().filter(below_v2);
    let within = std::fs::canonicalize(v2.point.join(relative)).ok().filter(below_v2);
    if let Some(dir) = as_given.or(within).filter(|dir| dir.is_dir()) {
        return target(h, dir, strict);
    }
    let v1 = |mount: &super::hierarchies::Mount| {
        let of_mount = |dir: &PathBuf| dir.starts_with(&mount.point) && dir.is_dir();
        let given = std::fs::canonicalize(path).ok().filter(of_mount);
        given.or_else(|| std::fs::canonicalize(mount.point.join(relative)).ok().filter(of_mount))
    };
    match h.mounts.iter().filter(|m| !m.is_v2()).find_map(v1) {
        Some(dir) => of_v1(h, &dir, strict),
        None => Err(CgroupError::Missing { path: path.to_path_buf(), mount: v2.point.clone() }),
    }
}

/// `--cgroup-of`: the v2 cgroup of a process.
pub(crate) fn of_pid(h: &Hierarchies, pid: u32, strict: bool) -> Result<CgroupTarget, CgroupError> {
    let v2 = h.v2().ok_or(CgroupError::NoV2)?;
    let name = v2_name(pid).ok_or(CgroupError::NoSuchPid(pid))?;
    if name == "/" {
        return Err(CgroupError::Root { pid });
    }
    let outside = || CgroupError::Outside { pid, name: name.clone(), mount: v2.point.clone() };
    target(h, v2.dir_of(&name).and_then(|dir| existing(&dir)).ok_or_else(outside)?, strict)
}

fn v2_name(pid: u32) -> Option<String> {
    let text = text(format!("/proc/{pid}/cgroup"))?;
    v2_path(&text).map(|name| name.trim_end_matches(" (deleted)").to_owned())
}

fn target(h: &Hierarchies, dir: PathBuf, strict: bool) -> Result<CgroupTarget, CgroupError> {
    let v2 = h.v2().ok_or(CgroupError::NoV2)?;
    let missing = || CgroupError::Missing { path: dir.clone(), mount: v2.point.clone() };
    let name = v2.name_of(&dir).ok_or_else(missing)?;
    let id = id_of(&dir).ok_or_else(missing)?;
    Ok(CgroupTarget { below_own: h.below_own(&name), dir, name, id, strict })
}

fn of_v1(h: &Hierarchies, dir: &Path, strict: bool) -> Result<CgroupTarget, CgroupError> {
    let v2 = h.v2().ok_or(CgroupError::NoV2)?;
    let pids = processes_below(dir);
    let names: BTreeSet<String> = pids.iter().filter_map(|pid| v2_name(*pid)).collect();
    let Some(name) = common_ancestor(&names) else {
        return Err(CgroupError::V1Empty { path: dir.to_path_buf() });
    };
    let missing = || CgroupError::Missing { path: PathBuf::from(&name), mount: v2.point.clone() };
    let v2_dir = v2.dir_of(&name).and_then(|dir| existing(&dir)).ok_or_else(missing)?;
    let there = processes_below(&v2_dir);
    let others = there.difference(&pids).count();
    if name == "/" || others > 0 {
        return Err(CgroupError::V1Apart { path: dir.to_path_buf(), v2: name, others });
    }
    target(h, v2_dir, strict)
}

/// The deepest cgroup that holds all of them.
fn common_ancestor(names: &BTreeSet<String>) -> Option<String> {
    let mut names = names.iter();
    let mut common: Vec<&str> = parts(names.next()?).collect();
    for name in names {
        let shared = common.iter().zip(parts(name)).take_while(|(a, b)| **a == *b).count();
        common.truncate(shared);
    }
    Some(format!("/{}", common.join("/")))
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('/').filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_ancestor_is_the_deepest_that_holds_all() {
        let of = |names: &[&str]| common_ancestor(&names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(of(&["/a/b", "/a/c/d"]).as_deref(), Some("/a"));
        assert_eq!(of(&["/a/b"]).as_deref(), Some("/a/b"));
        assert_eq!(of(&["/a", "/ab"]).as_deref(), Some("/"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn what_is_not_there_is_named_with_a_remedy() {
        let h = Hierarchies::of_this_process();
        if h.v2().is_none() {
            return;
        }
        let error = named(&h, Path::new("/no/such/cgroup"), false).unwrap_err();
        assert!(error.to_string().starts_with("there is no cgroup /no/such/cgroup\n  give"), "{error}");
        assert!(matches!(of_pid(&h, 4_194_305, false), Err(CgroupError::NoSuchPid(4_194_305))));
    }

    #[test]
    fn without_the_v2_hierarchy_there_is_no_cgroup_target() {
        let none = Hierarchies::default();
        assert!(matches!(named(&none, Path::new("/a"), false), Err(CgroupError::NoV2)));
    }
}
