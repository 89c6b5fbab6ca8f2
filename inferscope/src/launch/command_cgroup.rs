//! The command's own cgroup: created, joined, removed.
//!
//! Owns the directories: one in the v2 hierarchy, and on older hosts one in each v1 hierarchy that accounts. Never
//! touches a cgroup that it did not create, except to give processes back to the parent. Used by the janitor, which
//! outlives inferscope.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup_dirs::{CgroupDir, CgroupDirs};
use super::janitor_protocol::CgroupPlacement;
use super::members::{directories, listed};
use crate::observe::cgroup::id_of;

/// Time limit of a removal: forks during a move must settle, and the kernel must let go of ended processes.
const REMOVAL_LIMIT: Duration = Duration::from_secs(2);
/// Most names to try. Other pid namespaces have the same pids and may share the hierarchy.
const MOST_NAMES: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct CommandCgroup {
    dirs: Vec<Dir>,
    pub(super) placed: Option<CgroupPlacement>,
}

#[derive(Debug)]
struct Dir {
    dir: PathBuf,
    parent: PathBuf,
}

impl CommandCgroup {
    /// Creates every directory that can be created. Also returns why there is none in the v2 hierarchy.
    pub(super) fn make(parents: &CgroupDirs, pid: u32) -> (Self, Option<String>) {
        let parent = match &parents.v2 {
            Ok(parent) => parent,
            Err(why) => return (Self::default(), Some(why.clone())),
        };
        if divides_cpus(&parent.dir) {
            // The command would get a share of the CPUs that it would not have without inferscope.
            let why = format!("{} gives each cgroup below it a share of the CPUs", parent.path);
            return (Self::default(), Some(why));
        }
        let (name, dir) = match make_first(parent, pid) {
            Ok(made) => made,
            Err(e) => {
                return (Self::default(), Some(format!("none can be made in {}: {e}", parent.dir.display())));
            }
        };
        let mut cgroup = Self { dirs: Vec::new(), placed: None };
        let id = id_of(&dir);
        cgroup.dirs.push(Dir { dir: dir.clone(), parent: parent.dir.clone() });
        let Some(id) = id else {
            cgroup.remove();
            return (Self::default(), Some(format!("{} can't be read", dir.display())));
        };
        for parent in &parents.accounting {
            let dir = parent.dir.join(&name);
            // Without it the figures of the v2 hierarchy must do, and the report names its sources.
            if fs::create_dir(&dir).is_ok() {
                cgroup.dirs.push(Dir { dir, parent: parent.dir.clone() });
            }
        }
        let name = format!("{}/{name}", parent.path.trim_end_matches('/'));
        let dir = dir.to_string_lossy().into_owned();
        cgroup.placed = Some(CgroupPlacement { dir, name, id, accounting: Vec::new() });
        (cgroup, None)
    }

    /// The cgroup that another process created and can't remove any more.
    pub(super) fn of(placed: &CgroupPlacement) -> Self {
        let dirs = std::iter::once(&placed.dir).chain(&placed.accounting).filter_map(|dir| {
            let dir = PathBuf::from(dir);
            Some(Dir { parent: dir.parent()?.to_owned(), dir })
        });
        Self { dirs: dirs.collect(), placed: Some(placed.clone()) }
    }

    /// Moves a process in. Removes a directory that can't be joined. Returns why, if it is that of the v2 hierarchy.
    pub(super) fn join(&mut self, pid: u32) -> Option<String> {
        let failed: Vec<(usize, io::Error)> = (self.dirs.iter().enumerate())
            .filter_map(|(i, d)| Some((i, enter(&d.dir, pid).err()?)))
            .collect();
        if let Some((0, e)) = failed.first() {
            let why = format!("{} can't be joined: {e}", self.dirs[0].dir.display());
            self.remove();
            return Some(why);
        }
        for (i, _) in failed.into_iter().rev() {
            remove(&self.dirs.remove(i));
        }
        if let Some(placed) = &mut self.placed {
            placed.accounting = (self.dirs.iter().skip(1)).map(Dir::shown).collect();
        }
        None
    }

    /// Moves living processes to the parent and removes the directories. Returns those that are left.
    pub(super) fn remove(&mut self) -> Vec<String> {
        self.placed = None;
        let dirs = std::mem::take(&mut self.dirs);
        dirs.iter().filter(|d| !remove(d)).map(Dir::shown).collect()
    }
}

impl Dir {
    fn shown(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }
}

/// Creates a directory under the first free name.
fn make_first(parent: &CgroupDir, pid: u32) -> io::Result<(String, PathBuf)> {
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for n in 1..=MOST_NAMES {
        let name = if n == 1 { format!("inferscope-{pid}") } else { format!("inferscope-{pid}.{n}") };
        let dir = parent.dir.join(&name);
        match fs::create_dir(&dir) {
            Ok(()) => return Ok((name, dir)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => taken = e,
            Err(e) => return Err(e),
        }
    }
    Err(taken)
}

fn divides_cpus(dir: &Path) -> bool {
    let control = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    control.split_whitespace().any(|controller| controller == "cpu")
}

fn enter(dir: &Path, pid: u32) -> io::Result<()> {
    fs::write(dir.join("cgroup.procs"), pid.to_string())
}

/// Removes a directory. False: it is still there.
fn remove(d: &Dir) -> bool {
    let deadline = Instant::now() + REMOVAL_LIMIT;
    loop {
        // The command may have created cgroups of its own in it.
        for dir in directories(&d.dir) {
            for pid in listed(&dir) {
                // A process that has ended meanwhile can't be moved.
                let _ = enter(&d.parent, pid);
            }
            let _ = fs::remove_dir(dir);
        }
        if !d.dir.exists() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories of an ordinary file system behave alike as far as names and removal go.
    fn parents(dir: &Path) -> CgroupDirs {
        let parent = |name: &str| CgroupDir { dir: dir.join(name), path: "/".into() };
        for name in ["v2", "memory"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        CgroupDirs { v2: Ok(parent("v2")), accounting: vec![parent("memory"), parent("missing")] }
    }

    #[test]
    fn all_that_was_made_is_removed_and_a_missing_hierarchy_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let (mut cgroup, why) = CommandCgroup::make(&parents(dir.path()), 7);
        assert_eq!(why, None);
        let placed = cgroup.placed.clone().unwrap();
        assert_eq!(placed.name, "/inferscope-7");
        assert_eq!(id_of(Path::new(&placed.dir)), Some(placed.id));
        assert!(dir.path().join("memory/inferscope-7").is_dir());
        fs::create_dir(dir.path().join("v2/inferscope-7/below")).unwrap();
        assert_eq!(cgroup.remove(), [""; 0]);
        for name in ["v2", "memory"] {
            assert_eq!(fs::read_dir(dir.path().join(name)).unwrap().count(), 0, "{name}");
        }
    }

    #[test]
    fn somebody_elses_cgroup_of_that_name_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let parents = parents(dir.path());
        let theirs = dir.path().join("v2/inferscope-7");
        fs::create_dir(&theirs).unwrap();
        let (mut cgroup, _) = CommandCgroup::make(&parents, 7);
        assert_eq!(cgroup.placed.clone().unwrap().name, "/inferscope-7.2");
        cgroup.remove();
        assert!(theirs.is_dir());
    }

    #[test]
    fn no_place_no_permission_and_a_cgroup_that_divides_cpus_each_have_their_reason() {
        let dir = tempfile::tempdir().unwrap();
        let mut parents = parents(dir.path());
        fs::write(dir.path().join("v2/cgroup.subtree_control"), "memory cpu\n").unwrap();
        let why = |parents: &CgroupDirs| {
            let (cgroup, why) = CommandCgroup::make(parents, 7);
            assert!(cgroup.placed.is_none() && cgroup.dirs.is_empty());
            why.unwrap()
        };
        assert!(why(&parents).contains("share of the CPUs"));
        parents.v2 = Ok(CgroupDir { dir: "/proc/self".into(), path: "/".into() });
        assert!(why(&parents).contains("/proc/self"));
        parents.v2 = Err("nothing there".into());
        assert_eq!(why(&parents), "nothing there");
    }
}
