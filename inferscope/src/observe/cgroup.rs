//! Cgroups: their mounts, the target's cgroup, and the kernel's accounting.
//!
//! Owns every look at a cgroup's directory. `hierarchies` is pure (text of /proc in, paths out), `resolve` finds the
//! target, `accounting` reads the kernel's own sums. The kernel tracker decides the membership of processes. Called by
//! `target_discovery` and `observer`.

mod accounting;
mod hierarchies;
mod resolve;

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) use accounting::Accounting;
pub(crate) use hierarchies::{Hierarchies, Mount, v1_path, v2_path};
pub use resolve::CgroupError;
pub(crate) use resolve::{named, of_pid};

/// Most directories that are searched for the paths of cgroup ids.
const MAX_DIRS: usize = 20_000;

/// The inode number of a cgroup's directory, which is the cgroup's id on 64-bit machines. `None`: there is no such
/// directory.
pub(crate) fn id_of(dir: &Path) -> Option<u64> {
    std::fs::metadata(dir).ok().filter(std::fs::Metadata::is_dir).map(|m| m.ino())
}

/// The paths of existing cgroups among `ids`, within the v2 hierarchy.
pub(crate) fn paths(hierarchies: &Hierarchies, ids: &BTreeSet<u64>) -> HashMap<u64, String> {
    let mut found = HashMap::new();
    let Some(mount) = hierarchies.v2() else { return found };
    let mut todo: Vec<PathBuf> = vec![mount.point.clone()];
    let mut seen = 0;
    while let Some(dir) = todo.pop() {
        if found.len() == ids.len() || seen == MAX_DIRS {
            break;
        }
        seen += 1;
        let Some(id) = id_of(&dir) else { continue };
        if let (true, Some(name)) = (ids.contains(&id), mount.name_of(&dir)) {
            found.insert(id, name);
        }
        todo.extend(subdirectories(&dir));
    }
    found
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Every process in the cgroup of this directory and below, as this pid namespace shows them. A process of another
/// namespace is shown as 0 and left out.
pub(crate) fn processes_below(dir: &Path) -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    let mut todo = vec![dir.to_path_buf()];
    let mut seen = 0;
    while let Some(dir) = todo.pop() {
        seen += 1;
        if seen > MAX_DIRS {
            break;
        }
        let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|pid| *pid != 0));
        todo.extend(subdirectories(&dir));
    }
    pids
}
