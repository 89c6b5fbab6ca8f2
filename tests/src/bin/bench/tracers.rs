//! What follows processes, as a user would start it: this tool in three ways, bpftrace, a /proc poller.
//!
//! Owns starting each, knowing when it sees everything, ending it, and what it says to have seen. Never makes
//! the storm. Called by `tracker.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inferscope_tests::binary::{self, Running};
use inferscope_tests::process::Group;
use inferscope_tests::report::Named;
use inferscope_tests::requirements;
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracer {
    /// `inferscope observe` of the storm's tree.
    Ours,
    /// The same of a process that has nothing to do with it.
    OursUnmatched,
    Bpftrace,
    /// `inferscope observe --tracker proc` at 100 Hz.
    OursPolling,
    /// psutil's `children(recursive=True)` at 100 Hz.
    Psutil,
}

impl Tracer {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ours, Self::OursUnmatched, Self::Bpftrace, Self::OursPolling, Self::Psutil];

    pub(crate) const fn shown(self) -> &'static str {
        match self {
            Self::Ours => "inferscope",
            Self::OursUnmatched => "inferscope, its filter not matching",
            Self::Bpftrace => "bpftrace, printing the same events",
            Self::OursPolling => "inferscope --tracker proc, 100 Hz",
            Self::Psutil => "psutil, 100 Hz",
        }
    }

    /// What has to be set up for it.
    pub(crate) const fn peer(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::OursUnmatched | Self::OursPolling => None,
            Self::Bpftrace => Some("bpftrace"),
            Self::Psutil => Some("python"),
        }
    }

    /// Returns once it sees everything. `root` is the storm's, `unrelated` a process that sleeps.
    pub(crate) fn start(self, root: u32, unrelated: u32) -> Tracing {
        let peer = self.peer().map(|name| requirements::find_peer(name).expect("it was looked for before"));
        let inferscope = |pid: u32, more: &[&str]| {
            let pid = pid.to_string();
            let mut running =
                binary::start(&[&["observe", "--pid", &pid, "--gpu", "off", "--json"], more].concat());
            running.wait_until_observing();
            Tracing::Inferscope { running, polls: self == Self::OursPolling }
        };
        match (self, peer) {
            (Self::Ours, _) => inferscope(root, &["--tracker", "ebpf"]),
            (Self::OursUnmatched, _) => inferscope(unrelated, &["--tracker", "ebpf"]),
            (Self::OursPolling, _) => inferscope(root, &["--tracker", "proc", "--sample-interval", "10ms"]),
            (Self::Bpftrace, Some(program)) => Tracing::Bpftrace(Bpftrace::start(&program)),
            (Self::Psutil, Some(python)) => Tracing::Psutil(psutil(&python, root)),
            (Self::Bpftrace | Self::Psutil, None) => unreachable!("both have a peer"),
        }
    }
}

/// One that runs.
pub(crate) enum Tracing {
    Inferscope { running: Running, polls: bool },
    Bpftrace(Bpftrace),
    Psutil(Group),
}

/// What it says.
pub(crate) struct Seen {
    pub(crate) forks: u64,
    /// `None` where it can't tell: a poller does not know of what it missed.
    pub(crate) lost: Option<u64>,
}

impl Tracing {
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Inferscope { running, .. } => running.process.pid(),
            Self::Bpftrace(bpftrace) => bpftrace.group.pid(),
            Self::Psutil(group) => group.pid(),
        }
    }

    /// Ends it. `parents` are those whose children count.
    pub(crate) fn end(self, parents: &[u32]) -> Seen {
        match self {
            Self::Inferscope { running, polls } => {
                running.process.interrupt();
                let ended = running.wait();
                let counts = &ended.json()["processes"]["counts"];
                let number = |name: &str| counts[name].as_u64();
                let forks = number("forks").unwrap_or_else(|| panic!("no count of forks: {ended:#?}"));
                Seen { forks, lost: number("lost_events").filter(|_| !polls) }
            }
            Self::Bpftrace(bpftrace) => bpftrace.end(parents),
            Self::Psutil(mut group) => {
                drop(group.stdin());
                let said: Value = serde_json::from_str(&group.line(LIMIT)).expect("the poller writes JSON");
                group.wait(LIMIT);
                Seen { forks: said.whole("seen"), lost: None }
            }
        }
    }
}

fn psutil(python: &Path, root: u32) -> Group {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("py/psutil_poll.py");
    let mut command = Command::new(python);
    let group = Group::talking(command.arg(script).args([root.to_string(), "0.01".to_owned()]));
    assert_eq!(group.line(LIMIT), "ready");
    group
}

pub(crate) struct Bpftrace {
    group: Group,
    output: PathBuf,
    _dir: TempDir,
}

/// The events that inferscope takes, each with pid, parent and name. The last line ends a bpftrace that nobody
/// ended.
const SCRIPT: &str = r#"
tracepoint:sched:sched_process_fork { printf("fork %d %d %s\n", args->child_pid, args->parent_pid, comm); }
tracepoint:sched:sched_process_exec { printf("exec %d %d %s\n", pid, curtask->real_parent->tgid, comm); }
tracepoint:sched:sched_process_exit { printf("exit %d %d %s\n", pid, curtask->real_parent->tgid, comm); }
interval:s:300 { exit(); }
"#;

impl Bpftrace {
    fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let [script, output, errors] = ["script.bt", "out", "err"].map(|name| dir.path().join(name));
        fs::write(&script, SCRIPT).expect("there is room for temporary files");
        let errors = fs::File::create(errors).expect("there is room for temporary files");
        // It needs tracefs, which is not mounted everywhere: in a mount namespace of its own that harms nobody.
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c"])
            .arg(r#"[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@""#)
            .args(["sh".as_ref(), program.as_os_str(), "-o".as_ref(), output.as_os_str(), script.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        let mut bpftrace = Self { group: Group::start(&mut command), output, _dir: dir };
        bpftrace.wait_until_tracing();
        bpftrace
    }

    /// It tells nobody when all its probes are attached, so it is tried: until a process's whole life is printed.
    fn wait_until_tracing(&mut self) {
        let deadline = Instant::now() + LIMIT;
        let mut tried = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "bpftrace prints nothing");
            if let Ok(Some(status)) = self.group.child.try_wait() {
                panic!("bpftrace ended with {status}: {}", self.said());
            }
            let mut child = Command::new("/bin/true").spawn().expect("there is a /bin/true");
            tried.push(child.id());
            child.wait().expect("it is a child");
            // It writes whole pages.
            let said = self.said();
            let lived = |pid: &u32| {
                ["fork", "exec", "exit"].iter().all(|kind| said.contains(&format!("{kind} {pid} ")))
            };
            if tried.iter().any(lived) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it printed, or why it could not.
    fn said(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let said = read(&self.output);
        if said.is_empty() { read(&self.output.with_file_name("err")) } else { said }
    }

    fn end(mut self, parents: &[u32]) -> Seen {
        self.group.interrupt();
        self.group.wait(LIMIT);
        let said = self.said();
        let mut seen = Seen { forks: 0, lost: Some(0) };
        for line in said.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next().map(str::parse)) {
                (Some("fork"), _, Some(Ok(parent))) if parents.contains(&parent) => seen.forks += 1,
                // "Lost 42 events"
                (Some("Lost"), Some(count), _) => {
                    let count: u64 = count.parse().expect("bpftrace counts what it lost");
                    seen.lost = seen.lost.map(|lost| lost + count);
                }
                _ => {}
            }
        }
        seen
    }
}
