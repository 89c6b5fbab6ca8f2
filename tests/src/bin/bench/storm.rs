//! The process tree that the tracker and sampler benches observe.
//!
//! Owns a running `forkrate`. Called by `tracker.rs` and `sampler.rs`.

use std::io::Write;
use std::process::{ChildStdin, Command};
use std::time::Duration;

use inferscope_tests::binary;
use inferscope_tests::process::Group;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Storm {
    group: Group,
    commands: ChildStdin,
}

/// One storm, as `forkrate` told of it.
pub(crate) struct Told {
    pub(crate) seconds: f64,
    /// CPU time of the storm itself, with what tracing makes it do.
    pub(crate) cpu_seconds: f64,
    pub(crate) parents: Vec<u32>,
    pub(crate) children: u32,
}

impl Told {
    /// All processes that it made.
    pub(crate) fn forks(&self) -> u64 {
        u64::from(self.children) + self.parents.len() as u64
    }
}

impl Storm {
    pub(crate) fn start(parents: usize) -> Self {
        let mut command = Command::new(binary::sibling("forkrate"));
        let mut group = Group::talking(command.arg(parents.to_string()));
        let commands = group.stdin();
        let said: Value = serde_json::from_str(&group.line(LIMIT)).expect("it tells its pid");
        assert_eq!(said["root"], group.pid());
        Self { group, commands }
    }

    pub(crate) fn root(&self) -> u32 {
        self.group.pid()
    }

    /// `fork` or `exec`.
    pub(crate) fn make(&mut self, kind: &str, children: u32) -> Told {
        let said = self.command(kind, children);
        let seconds = |name: &str| said[name].as_f64().expect("it tells its time") / 1e9;
        let parents = pids(&said["parents"]);
        Told { seconds: seconds("ns"), cpu_seconds: seconds("cpu_ns"), parents, children }
    }

    /// That many children that sleep from now on.
    pub(crate) fn sleepers(&mut self, children: u32) -> Vec<u32> {
        pids(&self.command("sleep", children)["sleepers"])
    }

    fn command(&mut self, word: &str, count: u32) -> Value {
        writeln!(self.commands, "{word} {count}").expect("forkrate reads its commands");
        serde_json::from_str(&self.group.line(LIMIT)).expect("forkrate answers with JSON")
    }
}

fn pids(list: &Value) -> Vec<u32> {
    let pids = list.as_array().expect("a list of pids").iter();
    pids.map(|pid| pid.as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")).collect()
}
