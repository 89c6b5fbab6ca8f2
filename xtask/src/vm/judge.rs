//! Judges the results of a guest: each report against the truth, which the storm has from wait4(2).
//!
//! Owns the checks, their names and their tolerances. Pure: it reads `Results` alone. Called by `vm.rs`.

mod reading;
mod storms;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

use super::console::Results;
use super::kernels::numbers;
use reading::{Report, is_known};

/// From this version on the tracker must load. On an older kernel the report must name this version as its reason.
const OLDEST: [u32; 2] = [5, 13];
/// From this version on the kernel names the process that its OOM killer took.
const OOM_KNOWN: [u32; 2] = [6, 9];

/// A check by its name in the guest's script and in the table, with its judge.
type Check = (&'static str, fn(&Guest<'_>) -> Outcome);

const CHECKS: [Check; 11] = [
    ("doctor", doctor),
    ("tree", storms::tree),
    ("cgroup", storms::cgroup),
    ("exec", storms::exec),
    ("pidns", storms::pidns),
    ("proc", storms::proc),
    ("oom", oom),
    ("nobody", nobody),
    ("demo", demo),
    ("self", own),
    ("log", log),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a remark for the table, or empty.
    Passed(String),
    Failed(Vec<String>),
    /// Right, by /proc: the kernel lacks what the tracker needs, and the report has that reason.
    FellBack(String),
}

impl Outcome {
    /// `Failed` if there is a fault, else `passed`.
    fn of(faults: Vec<String>, passed: impl FnOnce() -> Self) -> Self {
        if faults.is_empty() { passed() } else { Self::Failed(faults) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) check: &'static str,
    pub(super) outcome: Outcome,
}

impl Verdict {
    pub(super) fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, what) = match &self.outcome {
            Outcome::Passed(what) => ("ok", what.clone()),
            Outcome::FellBack(what) => ("fallback", what.clone()),
            Outcome::Failed(faults) => ("FAILED", faults.join("; ")),
        };
        write!(f, "{:<8} {word:<9} {what}", self.check)
    }
}

/// The results to judge.
struct Guest<'a> {
    results: &'a Results,
    /// Major and minor.
    version: [u32; 2],
    /// The kernel program loads, by doctor's result. Without one, the kernel's version decides.
    tracked: bool,
}

/// The names of all checks, in the table's order.
pub(super) fn checks() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(check, _)| *check)
}

/// Judges all checks, or the named ones (and the log).
pub(super) fn judge(results: &Results, asked: &[String]) -> Vec<Verdict> {
    let version = numbers(&results.text("kernel").unwrap_or_default());
    let version = [0, 1].map(|index| version.get(index).copied().unwrap_or(0));
    let tracked = tracker(results).map_or(version >= OLDEST, |status| status == "ok");
    let guest = Guest { results, version, tracked };
    // `self` uses the report of the tree.
    let wanted = |check: &str| {
        let source = if check == "self" { "tree" } else { check };
        check == "log" || asked.is_empty() || asked.iter().any(|name| name == source)
    };
    let checks = CHECKS.iter().filter(|(check, _)| wanted(check));
    checks.map(|&(check, judged)| Verdict { check, outcome: judged(&guest) }).collect()
}

fn tracker(results: &Results) -> Option<String> {
    let found = results.json("doctor.out")?;
    let check = found["checks"].as_array()?.iter().find(|check| check["code"] == "tracker")?;
    Some(check["status"].as_str()?.to_owned())
}

impl Guest<'_> {
    /// The report in a file, after whatever a command of exec wrote to the same file.
    fn report(&self, file: &str) -> Result<Report, String> {
        let text = self.results.text(file).ok_or_else(|| format!("no {file}"))?;
        let start = if text.starts_with('{') { 0 } else { text.find("\n{\n").map_or(0, |at| at + 1) };
        let report: Value = serde_json::from_str(&text[start..]).map_err(|error| {
            let errors = self.results.text(&file.replace(".out", ".err").replace(".json", ".err"));
            format!("{file} is no report ({error}): {}", errors.unwrap_or_default().trim())
        })?;
        Ok(Report(report))
    }

    fn code(&self, check: &str) -> Option<i64> {
        self.results.number(&format!("{check}.rc"))
    }

    /// The fault of the exit code, if it has one.
    fn ended(&self, check: &str, with: &[i64]) -> Option<String> {
        match self.code(check) {
            None => Some("did not come to its end".to_owned()),
            Some(code) if with.contains(&code) => None,
            Some(code) => {
                let errors = self.results.text(&format!("{check}.err")).unwrap_or_default();
                Some(format!("exit code {code}: {}", errors.trim()))
            }
        }
    }
}

fn doctor(guest: &Guest<'_>) -> Outcome {
    let Some(status) = tracker(guest.results) else {
        return Outcome::Failed(vec![guest.ended("doctor", &[]).unwrap_or_default()]);
    };
    let works = status == "ok";
    let found = guest.results.json("doctor.out").unwrap_or_default();
    let checks = found["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let check = checks.iter().find(|check| check["code"] == "tracker");
    let why = check.and_then(|check| check["finding"].as_str()).unwrap_or_default();
    let mut faults = Vec::new();
    if !works && guest.version >= OLDEST {
        faults.push(format!("the tracker can't be had: {why}"));
    }
    if works && guest.version < OLDEST {
        faults.push("says that the tracker works, which can't be".to_owned());
    }
    let [major, minor] = OLDEST;
    if !works && guest.version < OLDEST && !why.contains(&format!("{major}.{minor}")) {
        faults.push(format!("names no kernel that would do: {why}"));
    }
    Outcome::of(faults, || match works {
        true => Outcome::Passed(String::new()),
        false => Outcome::FellBack(String::new()),
    })
}

/// A child is killed in a cgroup of 24 MiB.
fn oom(guest: &Guest<'_>) -> Outcome {
    let report = match guest.report("oom.out") {
        Ok(report) => report,
        Err(fault) => return Outcome::Failed(vec![fault]),
    };
    let mut faults: Vec<String> = guest.ended("oom", &[0]).into_iter().collect();
    let events = guest.results.text("oom.events").unwrap_or_default();
    if !events.lines().any(|line| line == "oom_kill 1") {
        faults.push(format!("the kernel killed no process: {}", events.replace('\n', ", ")));
    }
    if !guest.tracked {
        faults.extend(report.fell_back());
        return Outcome::of(faults, || Outcome::FellBack(String::new()));
    }
    faults.extend(report.complete());
    let killed: Vec<&Value> = report.list().iter().filter(|process| process["exit"]["signal"] == 9).collect();
    let oom = killed.first().map(|process| process["exit"]["oom"].clone()).unwrap_or_default();
    if killed.len() != 1 {
        faults.push(format!("{} processes died by SIGKILL, 1 did", killed.len()));
    } else if oom != true && (guest.version >= OOM_KNOWN || !oom.is_null()) {
        faults.push(format!("the victim's exit.oom is {oom}"));
    }
    Outcome::of(faults, || {
        Outcome::Passed(if oom == true { String::new() } else { "victim not told".to_owned() })
    })
}

/// Without privileges: /proc by itself, and exit code 5 if eBPF is requested.
fn nobody(guest: &Guest<'_>) -> Outcome {
    let mut faults: Vec<String> = guest.ended("nobody", &[0]).into_iter().collect();
    match guest.report("nobody.out") {
        Ok(report) => faults.extend(report.fell_back()),
        Err(fault) => faults.push(fault),
    }
    faults.extend(guest.ended("nobody-ebpf", &[5]).map(|fault| format!("--tracker ebpf: {fault}")));
    Outcome::of(faults, || Outcome::Passed(String::new()))
}

/// A load, its server and the tracker together.
fn demo(guest: &Guest<'_>) -> Outcome {
    let report = match guest.report("demo.out") {
        Ok(report) => report,
        Err(fault) => return Outcome::Failed(vec![fault]),
    };
    let mut faults: Vec<String> = guest.ended("demo", &[0]).into_iter().collect();
    let requests = report.0["requests"].as_array().map_or(0, Vec::len);
    if requests == 0 {
        faults.push("no request was measured".to_owned());
    }
    if !guest.tracked {
        faults.extend(report.fell_back());
        return Outcome::of(faults, || Outcome::FellBack(format!("{requests} requests")));
    }
    faults.extend(report.complete());
    Outcome::of(faults, || Outcome::Passed(format!("{requests} requests")))
}

/// The report of the tree, about the program itself and the machine.
fn own(guest: &Guest<'_>) -> Outcome {
    const MIB: u64 = 1 << 20;
    let report = match guest.report("tree.json") {
        Ok(report) => report,
        Err(fault) => return Outcome::Failed(vec![fault]),
    };
    let (own, host) = (&report.0["self"], &report.0["host"]);
    let mut faults = Vec::new();
    let rss = own["max_rss_bytes"].as_u64().unwrap_or(0);
    if !(2 * MIB..100 * MIB).contains(&rss) {
        faults.push(format!("self.max_rss_bytes {}", own["max_rss_bytes"]));
    }
    if !(1..=8).contains(&own["threads"].as_u64().unwrap_or(0)) {
        faults.push(format!("self.threads {}", own["threads"]));
    }
    if own["cpu_ns"].as_u64().unwrap_or(0) == 0 {
        faults.push(format!("self.cpu_ns {}", own["cpu_ns"]));
    }
    if host["cpus"] != 2 {
        faults.push(format!("host.cpus {} of 2", host["cpus"]));
    }
    let kernel = guest.results.text("kernel").unwrap_or_default();
    if host["kernel"] != kernel.trim() {
        faults.push(format!("host.kernel {} on {}", host["kernel"], kernel.trim()));
    }
    Outcome::of(faults, || Outcome::Passed(format!("{:.0} MiB", rss as f64 / MIB as f64)))
}

/// The kernel's log has no complaint.
fn log(guest: &Guest<'_>) -> Outcome {
    const COMPLAINTS: [&str; 6] =
        ["WARNING: CPU", "WARNING: kernel", "BUG: ", "Oops", "general protection fault", "Modules linked in"];
    let Some(log) = guest.results.text("log") else { return Outcome::Failed(vec!["no log".to_owned()]) };
    // An emulated CPU that gets no time of a real one is no fault of the kernel.
    let complaints = log.lines().filter(|line| {
        COMPLAINTS.iter().any(|complaint| line.contains(complaint))
            && !line.contains("soft lockup")
            && !is_known(line)
    });
    Outcome::of(complaints.take(3).map(str::to_owned).collect(), || Outcome::Passed(String::new()))
}
