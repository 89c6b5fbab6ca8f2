//! The cgroup hierarchies that are mounted, and whether one can be made.
//!
//! Owns the reading of /proc/self/mountinfo and /proc/self/cgroup, and an empty cgroup that lives for a
//! moment. Used by `probe`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::Probe;
use crate::doctor::facts::{Cgroups, Hierarchy, Layout, Tried};

/// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)), what is needed of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount<'a> {
    /// What of the file system is mounted.
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
    pub(super) kind: &'a str,
    /// Those of the file system.
    pub(super) options: Vec<&'a str>,
}

impl<'a> Mount<'a> {
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut system = system.split(' ');
        Some(Self {
            root: unescaped(mount.next()?),
            point: unescaped(mount.next()?),
            kind: system.next()?,
            options: system.nth(1)?.split(',').collect(),
        })
    }
}

/// Blanks and backslashes are octal.
fn unescaped(path: &str) -> PathBuf {
    let plain = path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    PathBuf::from(plain)
}

/// What the report's figures come from, in either version.
const ACCOUNTING: [&str; 4] = ["cpu.stat", "cpuacct.usage", "memory.peak", "memory.max_usage_in_bytes"];
/// v1 controllers that account for something that is reported.
const V1: [&str; 2] = ["cpuacct", "memory"];

impl Probe {
    pub(super) fn cgroups(&self) -> Cgroups {
        let mounts = self.text("proc/self/mountinfo").unwrap_or_default();
        let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
        let own = self.text("proc/self/cgroup").unwrap_or_default();
        let v2 = mounts.iter().find(|m| m.kind == "cgroup2");
        let v1 =
            mounts.iter().any(|m| m.kind == "cgroup" && !m.options.iter().any(|o| o.starts_with("name=")));
        let layout = match (v2.is_some(), v1) {
            (true, true) => Layout::Hybrid,
            (true, false) => Layout::V2,
            (false, true) => Layout::V1,
            (false, false) => Layout::None,
        };
        let mut hierarchies = Vec::new();
        hierarchies.extend(v2.map(|mount| self.hierarchy("cgroup2", mount, own_path(&own, None))));
        for controller in V1 {
            let mount = mounts.iter().find(|m| m.kind == "cgroup" && m.options.contains(&controller));
            let path = own_path(&own, Some(controller));
            hierarchies.extend(mount.map(|mount| self.hierarchy(controller, mount, path)));
        }
        Cgroups { layout, hierarchies }
    }

    fn hierarchy(&self, name: &'static str, mount: &Mount<'_>, own: Option<&str>) -> Hierarchy {
        // In a container without a cgroup namespace the path begins with what is mounted; with one it
        // begins with `/..` where this process is outside of it.
        let below = own.map(Path::new).and_then(|own| own.strip_prefix(&mount.root).ok());
        let below = below.filter(|path| !path.components().any(|part| part == Component::ParentDir));
        let point = mount.point.strip_prefix("/").unwrap_or(&mount.point);
        let dir = below.map(|below| self.root.join(point).join(below));
        let (made, files) = match dir {
            Some(dir) => attempt(&dir),
            None => (Err("this process's own cgroup is not below what is mounted".to_owned()), Vec::new()),
        };
        Hierarchy { name, mount: mount.point.clone(), made, files }
    }
}

/// The own path in the hierarchy of `controller`, or in cgroup2: lines of `ID:CONTROLLERS:PATH`.
fn own_path<'a>(own: &'a str, controller: Option<&str>) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_it = controller.map_or(controllers.is_empty(), |c| controllers.split(',').any(|one| one == c));
        is_it.then_some(path)
    })
}

fn attempt(dir: &Path) -> (Tried<()>, Vec<&'static str>) {
    let files_in = |dir: &Path| ACCOUNTING.into_iter().filter(|file| dir.join(file).exists()).collect();
    let child = dir.join(format!("inferscope-doctor-{}", std::process::id()));
    if let Err(e) = fs::create_dir(&child) {
        return (Err(format!("{}: {e}", dir.display())), files_in(dir));
    }
    let files = files_in(&child);
    let removed = fs::remove_dir(&child).map_err(|e| format!("{} can't be removed: {e}", child.display()));
    (removed, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_understood_with_blanks_and_tags() {
        let line = "41 31 0:38 /docker/a\\040b /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.root, Path::new("/docker/a b"));
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!((mount.kind, mount.options), ("cgroup2", vec!["rw", "nsdelegate"]));
        assert_eq!(Mount::parse("41 31 0:38 /"), None);
    }

    #[test]
    fn the_own_path_is_that_of_the_hierarchy() {
        let own = "3:cpu,cpuacct:/a\n2:name=systemd:/b\n0::/c:d\n";
        assert_eq!(own_path(own, Some("cpuacct")), Some("/a"));
        assert_eq!(own_path(own, Some("memory")), None);
        assert_eq!(own_path(own, None), Some("/c:d"));
    }
}
