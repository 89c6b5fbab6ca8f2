//! What the figures show that a reader should not have to find.
//!
//! Owns the rules; each fires on evidence in the report alone and carries it. Never guesses a cause.
//! Called by `analysis`.

mod processes;

use std::collections::BTreeMap;

use serde_json::json;

use crate::report::model::{Insight, Process, Processes, Resources, Role, Severity};
use crate::units::Nanos;

use super::Inputs;

/// Share of the set's CPU, in percent, from which unsampled processes are worth a word.
const SHORT_LIVED_PERCENT: f64 = 5.0;
/// A share of nothing is noise.
const LEAST_CPU_NS: u64 = 10_000_000;

pub(super) fn insights(inputs: &Inputs<'_>, processes: &Processes, resources: &Resources) -> Vec<Insight> {
    let mut all: Vec<Insight> = processes::oom_kill(processes, resources).into_iter().collect();
    // Only of a pid that somebody gave: the shells within a container mislead nobody.
    let given = |p: &&Process| p.role == Role::Wrapper && inputs.target.roots.contains(&p.pid);
    all.extend(processes.list.iter().filter(given).map(|w| wrapper_pid(w, processes, resources)));
    let interval = inputs.observation.map_or(inputs.plan.observe.sample_interval, |o| o.sample_interval);
    all.extend(short_lived_cpu(interval, processes, resources));
    all.extend(processes::worker_churn(processes));
    all.extend(processes::moved_out(processes));
    all
}

/// The given pid is a shell around the server: whoever watches it alone sees nothing.
fn wrapper_pid(wrapper: &Process, processes: &Processes, resources: &Resources) -> Insight {
    Insight {
        code: "wrapper_pid".to_owned(),
        severity: Severity::Info,
        headline: format!("pid {} ({}) is a wrapper: the work is in its children", wrapper.pid, wrapper.comm),
        evidence: evidence([
            ("pid", json!(wrapper.pid)),
            ("pid_max_rss_bytes", json!(wrapper.max_rss_bytes)),
            ("pid_cpu_ns", json!(cpu_ns(wrapper))),
            ("tree_peak_rss_bytes", json!(resources.peak_rss_bytes)),
            ("tree_cpu_ns", json!(processes.cpu.total_ns)),
        ]),
        advice: "figures of this pid alone say nothing about the server; keep the whole tree as the target"
            .to_owned(),
    }
}

/// CPU in processes that lived between two looks at /proc.
fn short_lived_cpu(interval: Nanos, processes: &Processes, resources: &Resources) -> Option<Insight> {
    let total = processes.cpu.total_ns.filter(|t| *t >= LEAST_CPU_NS)?;
    // Without samples to miss them, "never sampled" means nothing.
    if resources.samples.len() < 2 {
        return None;
    }
    let unsampled = || processes.list.iter().filter(|p| !p.sampled);
    let cpu = unsampled().filter_map(cpu_ns).fold(0u64, u64::saturating_add);
    let percent = cpu as f64 / total as f64 * 100.0;
    if percent < SHORT_LIVED_PERCENT {
        return None;
    }
    let interval_ms = interval.as_secs_f64() * 1e3;
    Some(Insight {
        code: "short_lived_cpu".to_owned(),
        severity: Severity::Info,
        headline: format!(
            "{percent:.0}% of the CPU time went to {} processes too short-lived for any sample",
            unsampled().count()
        ),
        evidence: evidence([
            ("short_lived_cpu_ns", json!(cpu)),
            ("total_cpu_ns", json!(total)),
            ("short_lived_processes", json!(unsampled().count())),
            ("sample_interval_ns", json!(interval.0)),
        ]),
        advice: format!(
            "a profiler that polls /proc every {interval_ms:.0} ms misses this share; it is counted here"
        ),
    })
}

/// User and system time; `None` where either is unknown.
fn cpu_ns(p: &Process) -> Option<u64> {
    Some(p.cpu_user_ns?.saturating_add(p.cpu_system_ns?))
}

fn evidence<const N: usize>(figures: [(&str, serde_json::Value); N]) -> BTreeMap<String, serde_json::Value> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{Fixture, ObservationBuilder, ProcessBuilder};

    fn of(processes: Vec<ProcessBuilder>) -> Vec<Insight> {
        let o = ObservationBuilder::new().processes(processes).build();
        Fixture { observation: Some(o), ..Fixture::profile() }.report().insights
    }

    fn helper(pid: u32, cpu_ms: u64) -> ProcessBuilder {
        ProcessBuilder::new(pid, 42, "sh").forked(100).exited(105).sampled(0).cpu_ms(cpu_ms, 0)
    }

    #[test]
    fn a_wrapper_is_shown_beside_its_tree() {
        let bash = ProcessBuilder::new(42, 1, "bash").rss_mib(3).threads(1);
        let found = of(vec![bash, ProcessBuilder::new(43, 42, "server").cpu_ms(900, 100)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].code, "wrapper_pid");
        assert_eq!(found[0].evidence["pid_max_rss_bytes"], 3 << 20);
        assert_eq!(found[0].evidence["pid_cpu_ns"], 0);
        assert_eq!(found[0].evidence["tree_cpu_ns"], 1_000_000_000);
    }

    #[test]
    fn a_root_that_works_gives_no_insight() {
        assert_eq!(of(vec![ProcessBuilder::new(42, 1, "server").cpu_ms(900, 100)]), []);
    }

    #[test]
    fn unsampled_cpu_is_told_from_five_percent_on() {
        let root = |ms| ProcessBuilder::new(42, 1, "server").cpu_ms(ms, 0);
        assert_eq!(of(vec![root(951), helper(43, 24), helper(44, 25)]), []);
        let found = of(vec![root(950), helper(43, 25), helper(44, 25)]);
        assert_eq!(found[0].code, "short_lived_cpu");
        assert_eq!(found[0].evidence["short_lived_cpu_ns"], 50_000_000);
        assert!(found[0].headline.starts_with("5% of the CPU time went to 2 processes"));
    }

    #[test]
    fn never_sampled_means_nothing_without_samples() {
        let o = ObservationBuilder::new()
            .processes(vec![ProcessBuilder::new(42, 1, "server").sampled(0).cpu_ms(900, 0)])
            .samples(vec![])
            .build();
        assert_eq!(Fixture { observation: Some(o), ..Fixture::profile() }.report().insights, []);
    }
}
