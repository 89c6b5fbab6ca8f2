//! What the figures show that a reader should not have to find.
//!
//! Owns the rules; each fires on evidence in the report alone and carries it. Never guesses a cause.
//! Called for the report.

mod processes;

use std::collections::BTreeMap;

use serde_json::json;

use crate::figures::set::{Member, MemberRole, SetFigures};
use crate::units::Nanos;

/// Share of the set's CPU, in percent, from which unsampled processes are worth a word.
const SHORT_LIVED_PERCENT: f64 = 5.0;
/// A share of nothing is noise.
const LEAST_CPU: Nanos = Nanos::from_millis(10);

/// What stands out in the process set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SetFinding {
    pub(crate) code: SetFindingCode,
    pub(crate) is_warning: bool,
    pub(crate) headline: String,
    /// The figures that it rests on.
    pub(crate) evidence: BTreeMap<String, serde_json::Value>,
    pub(crate) advice: String,
}

/// Serialized in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SetFindingCode {
    MovedOut,
    OomKill,
    ShortLivedCpu,
    WorkerChurn,
    WrapperPid,
}

/// `roots`: the pids that were given.
pub(crate) fn findings(roots: &[u32], figures: &SetFigures<'_>) -> Vec<SetFinding> {
    let mut all: Vec<SetFinding> = processes::oom_kill(figures).into_iter().collect();
    // Only of a pid that somebody gave: the shells within a container mislead nobody.
    let given = |m: &&Member<'_>| m.role == MemberRole::Wrapper && roots.contains(&m.record.pid);
    all.extend(figures.members.iter().filter(given).map(|w| wrapper_pid(w, figures)));
    all.extend(short_lived_cpu(figures));
    all.extend(processes::worker_churn(figures));
    all.extend(processes::moved_out(figures));
    all
}

/// The given pid is a shell around the server: whoever watches it alone sees nothing.
fn wrapper_pid(wrapper: &Member<'_>, figures: &SetFigures<'_>) -> SetFinding {
    let (pid, comm) = (wrapper.record.pid, &wrapper.record.comm);
    SetFinding {
        code: SetFindingCode::WrapperPid,
        is_warning: false,
        headline: format!("pid {pid} ({comm}) is a wrapper: the work is in its children"),
        evidence: evidence([
            ("pid", json!(pid)),
            ("pid_max_rss_bytes", json!(wrapper.record.max_rss_bytes)),
            ("pid_cpu_ns", json!(wrapper.cpu())),
            ("tree_peak_rss_bytes", json!(figures.resources.peak_rss_bytes())),
            ("tree_cpu_ns", json!(figures.cpu.used.total())),
        ]),
        advice: "figures of this pid alone say nothing about the server; keep the whole tree as the target"
            .to_owned(),
    }
}

/// CPU in processes that lived between two looks at /proc.
fn short_lived_cpu(figures: &SetFigures<'_>) -> Option<SetFinding> {
    let (o, total) = (figures.observation, figures.cpu.used.total());
    // Without samples to miss them, "never sampled" means nothing.
    if total < LEAST_CPU || o.samples.len() < 2 {
        return None;
    }
    let interval = o.sample_interval;
    let unsampled = || figures.members.iter().filter(|m| !m.was_sampled());
    let cpu: Nanos = unsampled().filter_map(Member::cpu).sum();
    let percent = cpu.0 as f64 / total.0 as f64 * 100.0;
    if percent < SHORT_LIVED_PERCENT {
        return None;
    }
    let interval_ms = interval.as_secs_f64() * 1e3;
    Some(SetFinding {
        code: SetFindingCode::ShortLivedCpu,
        is_warning: false,
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

fn evidence<const N: usize>(figures: [(&str, serde_json::Value); N]) -> BTreeMap<String, serde_json::Value> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use crate::fixture::{Fixture, ObservationBuilder, ProcessBuilder};
    use crate::report::model::Insight;

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
