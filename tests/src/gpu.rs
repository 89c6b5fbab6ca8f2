//! A run against the stand-in for NVIDIA's driver, and what is true of it.
//!
//! Owns the scenario's files, the server that is driven meanwhile, and the truth about energy, by arithmetic of its own. The
//! target is the test itself, which serves. Called by `gpu.rs` and the bench.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::binary;
use crate::clock::monotonic_ns;
use crate::process::Group;
use crate::report::{Named, Report};
use crate::script::steady;
use crate::timed_server::{Answer, Exchange, TimedServer};
use crate::wait::wait_until;

/// The stand-in of the profile that the tests were built with.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn library() -> PathBuf {
    let path = binary::sibling("libnvml_standin.so");
    assert!(path.is_file(), "there is no {}: run the tests with `cargo xtask test`", path.display());
    path
}

/// A scenario with its files. `server` is the name of the process that serves.
#[derive(Debug)]
pub struct Scene {
    dir: tempfile::TempDir,
}

/// What is sent: a second and a half for every three requests.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub requests: u64,
    pub tokens: u64,
}

pub const LOAD: Load = Load { requests: 4, tokens: 25 };

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    pub report: Report,
    pub text: String,
    /// When the curves began, in CLOCK_MONOTONIC.
    pub begun_ns: u64,
    /// As the server saw them.
    pub exchanges: Vec<Exchange>,
}

impl Scene {
    /// The scenario's curves begin with the first request.
    ///
    /// # Panics
    /// Where files can't be written.
    #[must_use]
    pub fn new(mut scenario: Value) -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let path = |name: &str| dir.path().join(name);
        scenario["load_file"] = json!(path("begun"));
        scenario["pids_file"] = json!(path("pids.json"));
        let pids = json!({"server": std::process::id()});
        std::fs::write(path("pids.json"), pids.to_string()).expect("the folder is ours");
        std::fs::write(path("scenario.json"), scenario.to_string()).expect("the folder is ours");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names one more process of the scenario.
    ///
    /// # Panics
    /// Where files can't be written.
    pub fn name(&self, process: &Group, name: &str) {
        let pids = json!({"server": std::process::id(), name: process.pid()});
        std::fs::write(self.path("pids.json"), pids.to_string()).expect("the folder is ours");
    }

    /// The command with the scenario in its environment.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary::inferscope_bin());
        command.args(args).arg("--nvml-lib").arg(library());
        command.env("INFERSCOPE_NVML_SCENARIO", self.path("scenario.json"));
        command
    }

    /// Lets the curves begin at this time of CLOCK_MONOTONIC.
    ///
    /// # Panics
    /// Where files can't be written.
    pub fn begin_at(&self, ns: u64) {
        // At once, so that nothing reads a part of it.
        std::fs::write(self.path("begun.new"), ns.to_string()).expect("the folder is ours");
        std::fs::rename(self.path("begun.new"), self.path("begun")).expect("the folder is ours");
    }

    /// The report of an observation of the test itself.
    ///
    /// # Panics
    /// When it does not go well.
    #[must_use]
    pub fn observe(&self, duration: &str) -> Report {
        let pid = std::process::id().to_string();
        let args = ["observe", "--pid", &pid, "--duration", duration, "--json"];
        binary::start_as(self.command(&args)).wait().report()
    }

    /// What a script of `tests/py` prints that finds the stand-in in the driver's place.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[must_use]
    pub fn python(&self, python: &Path, script: &str) -> Value {
        let name = self.path("libnvidia-ml.so.1");
        std::os::unix::fs::symlink(library(), &name).expect("the folder is ours");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("py").join(script);
        let mut command = Command::new(python);
        command.arg(script).env("LD_LIBRARY_PATH", self.dir.path());
        let output = command.env("INFERSCOPE_NVML_SCENARIO", self.path("scenario.json")).output();
        let output = output.unwrap_or_else(|e| panic!("can't start {command:?}: {e}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }

    /// Drives a server of the test's own and reads both reports.
    ///
    /// # Panics
    /// When the run does not go well.
    #[must_use]
    pub fn run(&self, load: Load, more: &[&str]) -> Ran {
        let requests = load.requests.to_string();
        let args = [&["--requests", &requests, "--gpu-baseline", "400ms"], more].concat();
        self.drive(Answer::Stream(steady(load.tokens, 20, 20)), &args)
    }

    /// The same with a server that answers in this way.
    ///
    /// # Panics
    /// When the run does not go well.
    #[must_use]
    pub fn drive(&self, answer: Answer, args: &[&str]) -> Ran {
        let server = TimedServer::start(answer);
        let json = self.path("report.json");
        let mut command = self.command(&["--endpoint", &server.endpoint()]);
        command.arg("-o").arg(&json).args(args);
        let mut running = binary::start_as(command);
        wait_until("it sends something, or ends", || !server.exchanges().is_empty() || running.has_ended());
        if server.exchanges().is_empty() {
            panic!("it ended before it sent anything: {:#?}", running.wait());
        }
        let begun_ns = monotonic_ns();
        self.begin_at(begun_ns);
        let ended = running.wait();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let text = std::fs::read(&json).expect("the report was written");
        let document: Value = serde_json::from_slice(&text).expect("it is JSON");
        let report = document.into();
        Ran { report, text: ended.stdout, begun_ns, exchanges: server.exchanges() }
    }
}

impl Ran {
    #[must_use]
    pub fn gpu(&self, place: usize) -> &Value {
        &self.report["gpus"][place]
    }

    /// First send to last byte, in milliseconds of the curves.
    ///
    /// # Panics
    /// When nothing was sent.
    #[must_use]
    pub fn window_ms(&self) -> (f64, f64) {
        let requests = || self.report.requests.iter();
        let first = requests().map(|request| request.sent_ns).min().expect("something was sent");
        let last = requests().map(|request| request.done_ns).max().expect("something was sent");
        let origin = self.report.run.origin_monotonic_ns;
        (self.on_curve_ms(first + origin), self.on_curve_ms(last + origin))
    }

    /// Millijoules of a curve of milliwatts in the window, summed by the tenth of a millisecond.
    #[must_use]
    pub fn truth_mj(&self, curve: &[(f64, f64)]) -> f64 {
        let (from, to) = self.window_ms();
        area_mj(curve, from, to)
    }

    /// A moment of CLOCK_MONOTONIC in milliseconds of the curves.
    #[must_use]
    pub fn on_curve_ms(&self, ns: u64) -> f64 {
        (ns as f64 - self.begun_ns as f64) / 1e6
    }

    /// How much later than its write each token was stamped, in nanoseconds.
    ///
    /// # Panics
    /// When the report has other tokens than the server wrote.
    #[must_use]
    pub fn stamp_errors(&self) -> Vec<f64> {
        let origin = self.report.run.origin_monotonic_ns;
        let mut errors = Vec::new();
        for (request, exchange) in self.report.requests.iter().zip(&self.exchanges) {
            let seen: Vec<u64> = request.text().map(|chunk| chunk.t_ns + origin).collect();
            let written: Vec<u64> = exchange.tokens().map(|w| w.before_ns).collect();
            assert_eq!(seen.len(), written.len(), "{request:?}");
            errors.extend(seen.iter().zip(written).map(|(seen, written)| *seen as f64 - written as f64));
        }
        errors
    }

    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn insight(&self, code: &str) -> &Value {
        let all = self.report.list("insights");
        all.iter().find(|i| i["code"] == code).unwrap_or_else(|| panic!("no {code} among {all:#?}"))
    }

    #[must_use]
    pub fn has_doubt(&self, code: &str) -> bool {
        self.report.finding(code).is_some()
    }
}

/// Millijoules of a curve of milliwatts between two of its moments, summed by the tenth of a millisecond.
#[must_use]
pub fn area_mj(curve: &[(f64, f64)], from_ms: f64, to_ms: f64) -> f64 {
    const STEP_MS: f64 = 0.1;
    let steps = ((to_ms - from_ms) / STEP_MS) as usize;
    (0..steps).map(|n| at(curve, (n as f64 + 0.5).mul_add(STEP_MS, from_ms)) * STEP_MS / 1e3).sum()
}

/// The scenario's form: straight lines between points.
fn at(curve: &[(f64, f64)], t: f64) -> f64 {
    let mut last = curve[0];
    for &point in curve {
        if point.0 > t {
            return if point.0 > last.0 {
                last.1 + (point.1 - last.1) * (t - last.0) / (point.0 - last.0)
            } else {
                last.1
            };
        }
        last = point;
    }
    last.1
}
