//! Running `inferscope` as a user would.
//!
//! Owns where the binary is, a clean environment for it, its time limit and what it said. Never looks into
//! it. Called by every test.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, Group};
use crate::report::Report;
use crate::wait::{found_within, wait_until};

/// No run of a test may take longer.
const LIMIT: Duration = Duration::from_secs(120);
/// The thread that inferscope starts when the first sample is taken and all later events are told.
pub const OBSERVER: &str = "observer";

/// The binary of the profile that the tests were built with.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn inferscope_bin() -> PathBuf {
    let path = profile_dir().join("inferscope");
    assert!(path.is_file(), "there is no {}: run the tests with `cargo xtask test`", path.display());
    path
}

/// Another program of this package, of the same profile.
#[must_use]
pub fn sibling(name: &str) -> PathBuf {
    profile_dir().join(name)
}

/// `target/`, wherever it is.
#[must_use]
pub fn target_dir() -> PathBuf {
    let mut dir = profile_dir();
    dir.pop();
    dir
}

fn profile_dir() -> PathBuf {
    // …/target/PROFILE/deps/TEST-HASH
    let mut path = std::env::current_exe().expect("the test's own path is known");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path
}

/// What a run of `inferscope` left.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Standard output as the JSON report.
    ///
    /// # Panics
    /// When it is no JSON; shows everything that was said.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON on stdout: {e}\n{self:#?}"))
    }

    /// The report of a run that went well.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report_of(0)
    }

    /// The report of a run that ended with that code.
    ///
    /// # Panics
    /// When it ended in any other way, or left none.
    #[must_use]
    pub fn report_of(&self, code: i32) -> Report {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.json().into()
    }
}

/// A run that goes on.
#[derive(Debug)]
pub struct Running {
    pub process: Group,
    stdout: File,
    stderr: File,
}

/// Starts `inferscope ARGS…` with an environment that holds nothing of the user's.
///
/// # Panics
/// When it can't be started.
#[must_use]
pub fn start<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Running {
    let mut command = Command::new(inferscope_bin());
    command.args(args);
    start_as(command)
}

/// Starts a command that is or becomes `inferscope`, in the same way.
///
/// # Panics
/// When it can't be started.
#[must_use]
pub fn start_as(mut command: Command) -> Running {
    clean(&mut command);
    start_cleaned(command)
}

/// The same in the environment that the command has: what is wrong with it is meant.
///
/// # Panics
/// When it can't be started.
#[must_use]
pub fn start_cleaned(mut command: Command) -> Running {
    // Files, as a pipe that nobody reads would stop it.
    let [stdout, stderr] = [(); 2].map(|()| tempfile::tempfile().expect("there is room for temporary files"));
    let share = |file: &File| Stdio::from(file.try_clone().expect("a descriptor is free"));
    command.stdin(Stdio::null()).stdout(share(&stdout)).stderr(share(&stderr));
    Running { process: Group::start(&mut command), stdout, stderr }
}

/// Leaves nothing of the user's in its environment.
pub fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy().to_ascii_uppercase();
        if shown.starts_with("INFERSCOPE_") || shown.starts_with("OPENAI_") || shown.ends_with("_PROXY") {
            command.env_remove(&name);
        }
    }
    // A backtrace that could be shown would be: no test wants to see one.
    command.env("RUST_BACKTRACE", "1").env_remove("RUST_LOG");
}

impl Running {
    /// Ends an observation by Ctrl-C and returns its report.
    ///
    /// # Panics
    /// When it ends in any other way.
    #[must_use]
    pub fn interrupted_report(self) -> Report {
        self.process.interrupt();
        self.wait().report_of(130)
    }

    /// Waits until it observes: what happens from then on is in its report.
    ///
    /// # Panics
    /// When it ends before, or takes longer than a minute.
    pub fn wait_until_observing(&mut self) {
        self.wait_until_process_observes(self.process.pid());
    }

    /// The same where that process is not this one's own, but one that it started.
    ///
    /// # Panics
    /// As [`Self::wait_until_observing`].
    pub fn wait_until_process_observes(&mut self, pid: u32) {
        wait_until("it observes", || {
            let observes = process::has_thread(pid, OBSERVER);
            assert!(observes || !self.has_ended(), "it ended before it observed: {}", self.said());
            observes
        });
    }

    /// # Panics
    /// When it is no child of this process.
    pub fn has_ended(&mut self) -> bool {
        self.process.child.try_wait().expect("it is this process's child").is_some()
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        let _ = self.stderr.rewind().and_then(|()| self.stderr.read_to_string(&mut text));
        text
    }

    /// What it left, whatever bytes it wrote; `None` where it had to be killed.
    ///
    /// # Panics
    /// When it is no child of this process.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Option<Ended> {
        let ended = || self.process.child.try_wait().expect("it is this process's child");
        let status = found_within(limit, ended)?;
        let text = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a file can be read");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Some(Ended { code: status.code(), stdout: text(&mut self.stdout), stderr: text(&mut self.stderr) })
    }

    /// # Panics
    /// When it takes longer than two minutes.
    #[must_use]
    pub fn wait(mut self) -> Ended {
        let status = self.process.wait(LIMIT);
        let text = |file: &mut File| {
            let mut text = String::new();
            file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("the output is UTF-8");
            text
        };
        Ended { code: status.code(), stdout: text(&mut self.stdout), stderr: text(&mut self.stderr) }
    }
}

/// Starts `inferscope observe --json ARGS…` and waits until it sees everything.
///
/// # Panics
/// When it does not.
#[must_use]
pub fn observing(args: &[&str]) -> Running {
    let all: Vec<&str> = ["observe", "--json"].iter().chain(args).copied().collect();
    let mut running = start(&all);
    running.wait_until_observing();
    running
}

/// Runs `inferscope ARGS…` to its end.
///
/// # Panics
/// When it can't be started or takes longer than two minutes.
#[must_use]
pub fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ended {
    start(args).wait()
}
