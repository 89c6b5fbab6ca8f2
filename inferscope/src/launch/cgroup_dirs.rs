//! The candidates for the parent of the command's cgroup.
//!
//! Pure: reads the texts of /proc/self/mountinfo and /proc/self/cgroup. Never checks whether a directory can be written
//! to (`command_cgroup` does). Called by the janitor.

use std::path::PathBuf;

use crate::observe::cgroup::{Hierarchies, Mount, v1_path, v2_path};

/// The cgroup of inferscope itself in one hierarchy. New cgroups go below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CgroupDir {
    pub(super) dir: PathBuf,
    /// Its path within the hierarchy, as in /proc/self/cgroup.
    pub(super) path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CgroupDirs {
    /// The cgroup in the v2 hierarchy, or why there is none.
    pub(super) v2: Result<CgroupDir, String>,
    /// The cgroups in v1 hierarchies that account CPU or memory.
    pub(super) accounting: Vec<CgroupDir>,
}

/// v1 controllers that only count. A hierarchy that also has `cpu` is left out: a group of its own would get its own
/// share of the CPUs, and the run would differ from one without inferscope.
const COUNTING: [&str; 2] = ["cpuacct", "memory"];
const DISTURBING: &str = "cpu";

pub(super) fn find(mountinfo: &str, own_cgroup: &str) -> CgroupDirs {
    let hierarchies = Hierarchies::parse(mountinfo, own_cgroup);
    let v2 = match (hierarchies.v2(), v2_path(own_cgroup)) {
        (Some(mount), Some(path)) => dir(mount, path)
            .ok_or_else(|| format!("{path} is outside of what {} shows", mount.point.display())),
        _ => Err("there is no cgroup v2 hierarchy".to_owned()),
    };
    let disturbing = hierarchies.v1(DISTURBING);
    let accounting = COUNTING.iter().filter_map(|controller| {
        let mount = hierarchies.v1(controller).filter(|mount| Some(*mount) != disturbing)?;
        dir(mount, v1_path(own_cgroup, controller)?)
    });
    CgroupDirs { v2, accounting: accounting.collect() }
}

fn dir(mount: &Mount, path: &str) -> Option<CgroupDir> {
    Some(CgroupDir { dir: mount.dir_of(path)?, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const HYBRID: &str = "\
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn found(dirs: &CgroupDirs) -> Vec<&str> {
        dirs.accounting.iter().map(|p| p.dir.to_str().unwrap()).collect()
    }

    #[test]
    fn a_hybrid_host_has_a_place_for_membership_and_two_for_accounting() {
        let dirs = find(HYBRID, "4:memory:/a/b\n5:cpu:/\n2:cpuacct:/\n0::/x y\n");
        let v2 = CgroupDir { dir: "/sys/fs/cgroup/unified/x y".into(), path: "/x y".into() };
        assert_eq!(dirs.v2, Ok(v2));
        assert_eq!(found(&dirs), ["/sys/fs/cgroup/cpuacct/", "/sys/fs/cgroup/memory/a/b"]);
    }

    #[test]
    fn a_pure_v2_host_has_one_place() {
        let mounts = "24 1 0:21 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let dirs = find(mounts, "0::/user.slice/session-1.scope\n");
        assert_eq!(dirs.v2.unwrap().dir, Path::new("/sys/fs/cgroup/user.slice/session-1.scope"));
        assert_eq!(dirs.accounting, []);
    }

    #[test]
    fn a_hierarchy_that_divides_the_cpus_is_left_alone() {
        let mounts = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let dirs = find(mounts, "3:cpu,cpuacct:/\n");
        assert_eq!(dirs.accounting, []);
        assert!(dirs.v2.unwrap_err().contains("no cgroup v2"));
    }

    #[test]
    fn a_place_that_is_not_shown_is_none() {
        let mounts = "24 1 0:21 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let at = |own| find(mounts, own).v2.map(|p| p.dir);
        assert_eq!(at("0::/docker/7/app\n").unwrap(), Path::new("/sys/fs/cgroup/app"));
        assert!(at("0::/other\n").unwrap_err().contains("/other is outside of what /sys/fs/cgroup shows"));
        assert!(find("", "0::/x\n").v2.is_err());
    }
}
