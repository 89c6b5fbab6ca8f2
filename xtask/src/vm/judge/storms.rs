//! The checks in which a storm runs: counts exact, CPU within a tolerance, never more than there was.
//!
//! Owns the tolerances. Called by `judge.rs`.

use serde_json::Value;

use super::reading::{NO_REASON, Report};
use super::{Guest, Outcome};

/// The tolerance, as a part of wait4's sum and an amount for each process: emulated, the last context switch takes
/// long.
const CPU_SHARE: f64 = 0.003;
const CPU_EACH_NS: u64 = 5_000;
/// A cgroup's own figure includes some microseconds for each process and thread that no process has.
const CGROUP_PCT: f64 = 3.0;
/// A signal ends the observation.
const SIGNALLED: [i64; 3] = [0, 130, 143];

/// The requested tracker is unavailable.
const REFUSED: i64 = 5;

/// The storm's own record.
struct Truth {
    forks: u64,
    execs: u64,
    threads: u64,
    killed: u64,
    /// The CPU time of all but the storm's root.
    cpu_ns: u64,
}

impl Truth {
    fn of(value: &Value) -> Option<Self> {
        let number = |name: &str| value[name].as_u64();
        Some(Self {
            forks: number("forks")?,
            execs: number("execs")?,
            threads: number("threads")?,
            killed: number("killed").unwrap_or(0),
            cpu_ns: number("waited_cpu_ns")? + number("daemons_cpu_ns")?,
        })
    }
}

/// The tolerated difference between a report's sum and the truth.
fn tolerance(cpu_ns: u64, processes: u64) -> u64 {
    (cpu_ns as f64 * CPU_SHARE) as u64 + processes * CPU_EACH_NS
}

pub(super) fn tree(guest: &Guest<'_>) -> Outcome {
    observed(guest, "tree", |_| Vec::new())
}

pub(super) fn cgroup(guest: &Guest<'_>) -> Outcome {
    if !guest.tracked {
        // Polling can't follow a cgroup, which is refused.
        return Outcome::of(guest.ended("cgroup", &[REFUSED]).into_iter().collect(), || {
            Outcome::FellBack("refused".to_owned())
        });
    }
    observed(guest, "cgroup", |report| {
        let apart = report.processes()["cpu"]["reconciliation_error_pct"].as_f64();
        match apart {
            Some(apart) if apart.abs() <= CGROUP_PCT => Vec::new(),
            Some(apart) => vec![format!("{apart:.2}% apart from the cgroup's own figure")],
            None => vec!["no comparison with the cgroup's own figure".to_owned()],
        }
    })
}

/// inferscope and the storm in a pid namespace of their own.
pub(super) fn pidns(guest: &Guest<'_>) -> Outcome {
    observed(guest, "pidns", |report| {
        let visible = report.list().iter().filter(|process| {
            let (pid, host) = (&process["pid"], &process["host_pid"]);
            pid.as_u64().is_some_and(|pid| pid > 0) && host.is_u64() && pid != host
        });
        let (visible, listed) = (visible.count(), report.list().len());
        if visible == listed {
            Vec::new()
        } else {
            vec![format!("{visible} of {listed} have pids of both namespaces")]
        }
    })
}

fn observed(guest: &Guest<'_>, check: &str, further: impl FnOnce(&Report) -> Vec<String>) -> Outcome {
    let (report, truth) = match both(guest, check) {
        Ok(both) => both,
        Err(fault) => return Outcome::Failed(vec![fault]),
    };
    let ended = guest.ended(check, &SIGNALLED);
    let exited = report.cpu("exited_ns");
    if !guest.tracked {
        return by_polling(&report, &truth, exited, ended);
    }
    let mut faults: Vec<String> = ended.into_iter().chain(report.complete()).collect();
    let expected =
        [("forks", truth.forks), ("exits", truth.forks), ("execs", truth.execs), ("threads", truth.threads)];
    faults.extend(counts(&report, &expected));
    if report.count("alive_at_start") != Some(1) {
        faults.push(format!("alive_at_start {}", report.processes()["counts"]["alive_at_start"]));
    }
    faults.extend(listed(&report, &truth, 1));
    faults.extend(cpu(exited, &truth));
    faults.extend(further(&report));
    Outcome::of(faults, || Outcome::Passed(figure(&truth, exited, &report)))
}

/// The storm as the command of exec: its launcher and its root are members, too.
pub(super) fn exec(guest: &Guest<'_>) -> Outcome {
    let (report, truth, root) = match commanded(guest) {
        Ok(all) => all,
        Err(fault) => return Outcome::Failed(vec![fault]),
    };
    let ended = guest.ended("exec", &[0]);
    let launcher = report.0["target"]["pid"].as_u64().unwrap_or(0);
    let others = report.cpu_of(root) + report.cpu_of(launcher);
    let children = report.cpu("total_ns").map(|total| total.saturating_sub(others));
    if !guest.tracked {
        return by_polling(&report, &truth, children, ended);
    }
    let mut faults: Vec<String> = ended.into_iter().chain(report.complete()).collect();
    let expected = [
        ("forks", truth.forks + 1),
        ("exits", truth.forks + 2),
        ("execs", truth.execs + 1),
        ("threads", truth.threads),
    ];
    faults.extend(counts(&report, &expected));
    faults.extend(listed(&report, &truth, 2));
    faults.extend(cpu(children, &truth));
    Outcome::of(faults, || Outcome::Passed(figure(&truth, children, &report)))
}

/// /proc polling, by request.
pub(super) fn proc(guest: &Guest<'_>) -> Outcome {
    match both(guest, "proc") {
        Ok((report, truth)) => {
            let ended = guest.ended("proc", &SIGNALLED);
            match by_polling(&report, &truth, report.cpu("exited_ns"), ended) {
                Outcome::FellBack(what) => Outcome::Passed(what),
                other => other,
            }
        }
        Err(fault) => Outcome::Failed(vec![fault]),
    }
}

fn both(guest: &Guest<'_>, check: &str) -> Result<(Report, Truth), String> {
    let truth = guest.results.json(&format!("{check}.truth"));
    let truth = truth.as_ref().and_then(Truth::of).ok_or_else(|| {
        let output = guest.results.text(&format!("{check}.storm")).unwrap_or_default();
        format!("the storm told no truth: {}", output.trim())
    })?;
    Ok((guest.report(&format!("{check}.json"))?, truth))
}

/// The report, the truth, and the pid of the storm's root, which the storm wrote into inferscope's output.
fn commanded(guest: &Guest<'_>) -> Result<(Report, Truth, u64), String> {
    let output = ["exec.out", "exec.err"].map(|file| guest.results.text(file).unwrap_or_default()).concat();
    let values: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let root = values.iter().find_map(|value| value["root"].as_u64());
    let (Some(truth), Some(root)) = (values.iter().find_map(Truth::of), root) else {
        return Err(format!("the storm told no truth: {}", output.trim()));
    };
    Ok((guest.report("exec.json")?, truth, root))
}

fn counts(report: &Report, expected: &[(&str, u64)]) -> Vec<String> {
    let counts = &report.processes()["counts"];
    let wrong = expected.iter().filter(|(name, truth)| counts[*name] != *truth);
    wrong.map(|(name, truth)| format!("{name} {} of {truth}", counts[*name])).collect()
}

/// Each process has its entry, with the right end.
fn listed(report: &Report, truth: &Truth, besides: u64) -> Vec<String> {
    let lines = report.list();
    let mut faults = Vec::new();
    if lines.len() as u64 != truth.forks + besides {
        faults.push(format!("{} of {} processes listed", lines.len(), truth.forks + besides));
    }
    let killed = lines.iter().filter(|process| process["exit"]["signal"] == 9).count() as u64;
    if killed != truth.killed {
        faults.push(format!("{killed} of {} listed as killed", truth.killed));
    }
    faults
}

fn cpu(reported: Option<u64>, truth: &Truth) -> Option<String> {
    let Some(reported) = reported else { return Some("CPU of the children unknown".to_owned()) };
    let apart = reported.abs_diff(truth.cpu_ns);
    (apart > tolerance(truth.cpu_ns, truth.forks)).then(|| {
        format!(
            "CPU of the children {} µs of {} ({:+.2}%)",
            reported / 1_000,
            truth.cpu_ns / 1_000,
            percent(reported, truth.cpu_ns)
        )
    })
}

/// The fallback sees less, reports that, and never reports more than there was.
fn by_polling(report: &Report, truth: &Truth, children: Option<u64>, ended: Option<String>) -> Outcome {
    let mut faults: Vec<String> = ended.into_iter().collect();
    // A requested tracker needs no reason.
    let asked =
        report.0["run"]["argv"].as_array().is_some_and(|argv| argv.iter().any(|arg| arg == "--tracker"));
    faults.extend(report.fell_back().into_iter().filter(|fault| !(asked && fault == NO_REASON)));
    let seen = report.count("forks").unwrap_or(0);
    // The sum includes the storm's root if the storm is exec's command.
    if seen > truth.forks + 1 {
        faults.push(format!("forks {seen} of {}", truth.forks));
    }
    let error = report.cpu("error_ns").unwrap_or(0);
    let most = truth.cpu_ns + tolerance(truth.cpu_ns, truth.forks) + error;
    if let Some(reported) = children.filter(|&reported| reported > most) {
        faults.push(format!("CPU of the children {} µs of {}", reported / 1_000, truth.cpu_ns / 1_000));
    }
    let share = children.map_or(0.0, |reported| reported as f64 / truth.cpu_ns as f64 * 100.0);
    Outcome::of(faults, || Outcome::FellBack(format!("{seen} of {} forks, {share:.0}% of CPU", truth.forks)))
}

fn percent(reported: u64, truth: u64) -> f64 {
    (reported as f64 / truth as f64 - 1.0) * 100.0
}

fn figure(truth: &Truth, cpu_ns: Option<u64>, report: &Report) -> String {
    let apart = cpu_ns.map_or(0.0, |reported| percent(reported, truth.cpu_ns));
    let missed = match report.missed() {
        0 => String::new(),
        missed => format!(", {missed} missed and made good"),
    };
    format!("{} forks, CPU {apart:+.2}%{missed}", truth.forks)
}
