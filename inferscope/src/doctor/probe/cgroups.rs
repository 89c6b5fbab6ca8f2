//! The mounted cgroup hierarchies, and an attempt to create a cgroup.
//!
//! Owns an empty cgroup that lives for a moment. `observe::cgroup` parses what /proc shows of hierarchies, as in a run.
//! Used by `probe`.

use std::fs;
use std::path::Path;

use super::Probe;
use crate::doctor::facts::{Cgroups, Hierarchy, Layout, Tried};
use crate::observe::cgroup::{Hierarchies, Mount, v1_path, v2_path};

/// The files behind the report's figures, in either version.
const ACCOUNTING: [&str; 4] = ["cpu.stat", "cpuacct.usage", "memory.peak", "memory.max_usage_in_bytes"];
/// v1 controllers that account for something in the report.
const V1: [&str; 2] = ["cpuacct", "memory"];

impl Probe {
    pub(super) fn cgroups(&self) -> Cgroups {
        let own = self.text("proc/self/cgroup").unwrap_or_default();
        let mounted = Hierarchies::parse(&self.text("proc/self/mountinfo").unwrap_or_default(), &own);
        let v2 = mounted.v2().map(|mount| self.hierarchy("cgroup2", mount, v2_path(&own)));
        let v1 = V1.into_iter().filter_map(|controller| {
            let mount = mounted.v1(controller)?;
            Some(self.hierarchy(controller, mount, v1_path(&own, controller)))
        });
        let v1: Vec<_> = v1.collect();
        let layout = match (v2.is_some(), !v1.is_empty()) {
            (true, true) => Layout::Hybrid,
            (true, false) => Layout::V2,
            (false, true) => Layout::V1,
            (false, false) => Layout::None,
        };
        Cgroups { layout, hierarchies: v2.into_iter().chain(v1).collect() }
    }

    fn hierarchy(&self, name: &'static str, mount: &Mount, own: Option<&str>) -> Hierarchy {
        let dir = own.and_then(|own| mount.dir_of(own));
        let (made, files) = match dir {
            Some(dir) => attempt(&self.root.join(dir.strip_prefix("/").unwrap_or(&dir))),
            None => (Err("this process's own cgroup is not below what is mounted".to_owned()), Vec::new()),
        };
        Hierarchy { name, mount: mount.point.clone(), made, files }
    }
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
