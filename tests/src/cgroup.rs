//! A cgroup that a test makes, and what the kernel accounts to it.
//!
//! Owns its directories (one in the v2 hierarchy, and one of the same name in v1's cpuacct where that is in use)
//! and removes them. Called by tests that compare a report with the kernel's own figures.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::requirements;
use crate::wait::found_within;

/// A killed process leaves its cgroup when the kernel gets to it.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// Followed by the pid of whoever made it, and a number.
const PREFIX: &str = "inferscope-test-";

#[derive(Debug)]
pub struct Cgroup {
    dirs: Vec<PathBuf>,
    /// `cpuacct.usage` (nanoseconds) or `cpu.stat` (`usage_usec`).
    cpu_file: PathBuf,
}

impl Cgroup {
    /// Makes one, where that is possible. `what` names the test's subject.
    ///
    /// # Panics
    /// When it is not, although `INFERSCOPE_REQUIRE_KERNEL=1`.
    #[must_use]
    pub fn make(what: &str) -> Option<Self> {
        let made = Self::try_make();
        let missing = made.as_ref().err().map(|e| format!("a cgroup of its own ({e})"));
        requirements::met(what, missing.as_ref(), "INFERSCOPE_REQUIRE_KERNEL");
        made.ok()
    }

    fn try_make() -> Result<Self, String> {
        let mounts =
            fs::read_to_string("/proc/self/mounts").map_err(|e| format!("no list of mounts: {e}"))?;
        let mounted = |wanted: &dyn Fn(&str, &str) -> bool| {
            mounts.lines().find_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let (at, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
                wanted(kind, options).then(|| PathBuf::from(at))
            })
        };
        let v2 = mounted(&|kind, _| kind == "cgroup2").ok_or("no cgroup2 is mounted")?;
        let v1 = mounted(&|kind, options| kind == "cgroup" && options.split(',').any(|o| o == "cpuacct"));
        // Tests of one binary run side by side.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut made = Self { dirs: Vec::new(), cpu_file: PathBuf::new() };
        for (mount, file) in
            [Some((v2, "cpu.stat")), v1.map(|v1| (v1, "cpuacct.usage"))].into_iter().flatten()
        {
            remove_stale(&mount);
            let dir = mount.join(&name);
            fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
            made.cpu_file = dir.join(file);
            made.dirs.push(dir);
        }
        fs::read(&made.cpu_file).map_err(|e| format!("{}: {e}", made.cpu_file.display()))?;
        Ok(made)
    }

    /// Where a process writes its pid to enter.
    pub fn procs_files(&self) -> impl Iterator<Item = PathBuf> {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs"))
    }

    /// The v2 directory.
    ///
    /// # Panics
    /// Never: it is made first.
    #[must_use]
    pub fn v2(&self) -> &Path {
        self.dirs.first().expect("the v2 directory is made first")
    }

    /// All CPU time that its processes have used, the ended ones' included.
    ///
    /// # Panics
    /// When the kernel does not tell.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        let text = fs::read_to_string(&self.cpu_file).expect("it could be read before");
        let told = match text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            Some(microseconds) => microseconds.trim().parse().map(|us: u64| us * 1_000),
            None => text.trim().parse(),
        };
        told.unwrap_or_else(|e| panic!("{}: {e}: {text:?}", self.cpu_file.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // `Busy` passes; anything else stays as it is.
            let removed = found_within(REMOVAL_LIMIT, || match fs::remove_dir(dir) {
                Err(e) if e.kind() == ErrorKind::ResourceBusy => None,
                other => Some(other),
            });
            if !matches!(removed, Some(Ok(()))) {
                requirements::say(&format!("can't remove {}: {removed:?}", dir.display()));
            }
        }
    }
}

/// Those of tests that were killed, and so could not remove theirs.
fn remove_stale(mount: &Path) {
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // One that is not empty stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}
