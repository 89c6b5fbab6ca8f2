//! A fork storm to be observed, and its truth.
//!
//! Owns the `forkstorm` process (see its own file) and its cgroup's lower directory. Called by `it/processes/storm.rs`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use serde_json::Value;

use crate::binary;
use crate::process::Group;
use crate::wait::found_within;

const LIMIT: Duration = Duration::from_secs(110);

#[derive(Debug)]
pub struct Storm {
    group: Group,
    stdin: Option<ChildStdin>,
    /// The root of the tree to observe; in the cgroup, where there is one.
    pub root: u32,
    below: Option<PathBuf>,
}

impl Storm {
    /// Starts it; it waits for [`Self::go`]. Each of `parents` makes `children` that burn `micros` of CPU.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(parents: u64, children: u64, micros: u64, cgroup: Option<&Path>) -> Self {
        let below = cgroup.map(|dir| dir.join("below"));
        if let Some(below) = &below {
            std::fs::create_dir(below).expect("a directory below the test's own cgroup");
        }
        let mut command = Command::new(binary::sibling("forkstorm"));
        command.args([parents, children, micros].map(|n| n.to_string())).args(cgroup);
        let mut group = Group::talking(&mut command);
        let stdin = Some(group.stdin());
        let said: Value = serde_json::from_str(&group.line(LIMIT)).expect("forkstorm says JSON");
        let root = said["root"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid");
        Self { group, stdin, root, below }
    }

    /// # Panics
    /// When it is gone.
    pub fn go(&mut self) {
        let stdin = self.stdin.as_mut().expect("it has not been ended");
        stdin.write_all(b"go\n").expect("forkstorm reads");
    }

    /// Waits for the storm's end and tells what it came to. The root lives on.
    ///
    /// # Panics
    /// When it takes longer than the limit.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let said: Value = serde_json::from_str(&self.group.line(LIMIT)).expect("forkstorm says JSON");
        let number = |name: &str| said[name].as_u64().unwrap_or_else(|| panic!("no {name}: {said}"));
        let exited_cpu_ns = number("waited_cpu_ns") + number("daemons_cpu_ns");
        Truth {
            forks: number("forks"),
            execs: number("execs"),
            threads: number("threads"),
            killed: number("killed"),
            waited_cpu_ns: number("waited_cpu_ns"),
            exited_cpu_ns,
            cpu_ns: exited_cpu_ns + number("root_cpu_ns"),
        }
    }

    /// Lets the root end, and waits for that.
    ///
    /// # Panics
    /// When it did not go well.
    pub fn end(mut self) {
        self.stdin = None;
        assert!(self.group.wait(LIMIT).success());
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stdin = None;
        let Some(below) = &self.below else { return };
        // What was killed leaves its cgroup when the kernel gets to it.
        let _ = found_within(Duration::from_secs(5), || std::fs::remove_dir(below).ok());
    }
}

/// What the kernel told the parents by wait4(2), whose figures are whole microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Truth {
    /// Processes.
    pub forks: u64,
    pub execs: u64,
    /// Further threads.
    pub threads: u64,
    /// Of the forked, by SIGKILL.
    pub killed: u64,
    /// Of those for whom their parents waited, within the tree.
    pub waited_cpu_ns: u64,
    /// With the daemons, who have no parent in the tree when they end.
    pub exited_cpu_ns: u64,
    /// With the root's own.
    pub cpu_ns: u64,
}
