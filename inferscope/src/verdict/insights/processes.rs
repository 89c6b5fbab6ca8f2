//! What stands out in the lives of the processes.
//!
//! Owns the rules on OOM kills, replaced workers and moves. A part of `insights`.

use std::collections::HashMap;

use serde_json::json;

use super::{SetFinding, SetFindingCode, evidence};
use crate::figures::set::{Member, SetFigures};
use crate::units::Nanos;

/// Fewer replaced workers than this are worth no word, and fewer than there are slots neither.
const LEAST_REPLACED: u64 = 3;

pub(super) fn oom_kill(figures: &SetFigures<'_>) -> Option<SetFinding> {
    let mut killed: Vec<&Member<'_>> = figures.members.iter().filter(|m| m.is_oom_killed()).collect();
    killed.sort_by_key(|m| (m.exited, m.record.pid));
    let first = killed.first()?.record;
    let resources = &figures.resources;
    let headline = match killed.len() {
        1 => format!("the kernel's OOM killer ended pid {} ({})", first.pid, first.comm),
        n => {
            format!(
                "the kernel's OOM killer ended {n} processes, the first was pid {} ({})",
                first.pid, first.comm
            )
        }
    };
    Some(SetFinding {
        code: SetFindingCode::OomKill,
        is_warning: true,
        headline,
        evidence: evidence([
            ("pid", json!(first.pid)),
            ("pid_max_rss_bytes", json!(first.max_rss_bytes)),
            ("killed_processes", json!(killed.len())),
            ("peak_rss_bytes", json!(resources.peak_rss_bytes())),
            ("peak_pss_bytes", json!(resources.peak_pss_bytes())),
            ("cgroup_peak_bytes", json!(resources.cgroup_peak.bytes)),
        ]),
        advice:
            "which limit it met is in the kernel's log, and in memory.events of its cgroup and those above; \
                 it takes more memory or fewer processes"
                .to_owned(),
    })
}

/// Workers that took over from others, of all arbiters.
pub(super) fn worker_churn(figures: &SetFigures<'_>) -> Option<SetFinding> {
    type Slot = (u32, u32);
    let place = |m: &Member<'_>| m.place.map(|p| ((m.record.ppid, p.slot), p.generation));
    let mut newest: HashMap<Slot, u32> = HashMap::new();
    for (slot, generation) in figures.members.iter().filter_map(place) {
        let newest = newest.entry(slot).or_default();
        *newest = generation.max(*newest);
    }
    let slots = newest.len() as u64;
    let was_replaced =
        |m: &&Member<'_>| place(m).is_some_and(|(slot, generation)| generation < newest[&slot]);
    let replaced: Vec<&Member<'_>> = figures.members.iter().filter(was_replaced).collect();
    let n = replaced.len() as u64;
    if n < slots.max(LEAST_REPLACED) {
        return None;
    }
    let failed = replaced.iter().filter(|m| m.exit.is_some_and(|exit| exit.is_failure())).count();
    // A worker from before the run has no whole life in it.
    let lives: Vec<u64> = replaced.iter().filter_map(|m| m.life()).map(|life| life.0).collect();
    let mean = lives.iter().sum::<u64>().checked_div(lives.len() as u64);
    let advice = if failed > 0 {
        format!("{failed} of them ended by a signal or with an error: the server's log says why")
    } else {
        "where that is more often than you want, see the server's limit of requests a worker (gunicorn: \
         --max-requests)"
            .to_owned()
    };
    Some(SetFinding {
        code: SetFindingCode::WorkerChurn,
        is_warning: failed > 0,
        headline: format!(
            "workers were replaced {n} times in {slots} slot{}",
            if slots == 1 { "" } else { "s" }
        ),
        evidence: evidence([
            ("replaced_workers", json!(n)),
            ("slots", json!(slots)),
            ("newest_generation", json!(newest.values().max())),
            ("replaced_cpu_ns", json!(sum(&replaced))),
            ("replaced_mean_life_ns", json!(mean)),
            ("failed_workers", json!(failed)),
        ]),
        advice,
    })
}

/// `None` where that of any is unknown.
fn sum(members: &[&Member<'_>]) -> Option<Nanos> {
    members.iter().map(|m| m.cpu()).sum()
}

pub(super) fn moved_out(figures: &SetFigures<'_>) -> Option<SetFinding> {
    let n = figures.counts.moved_out.filter(|n| *n > 0)?;
    let left = figures.members.iter().filter(|m| m.record.left.is_some()).count();
    let advice = if left > 0 {
        "they left the set: what they used since is in no figure; without --strict-cgroup they stay in it"
    } else {
        "they stay in the set, but the cgroup's limits hold them no more, and what they used since is charged \
         elsewhere; --strict-cgroup leaves them out"
    };
    Some(SetFinding {
        code: SetFindingCode::MovedOut,
        is_warning: false,
        headline: format!(
            "{n} process{} moved out of the target's cgroup",
            if n == 1 { " was" } else { "es were" }
        ),
        evidence: evidence([("moved_out", json!(n)), ("left_the_set", json!(left))]),
        advice: advice.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, ObservationBuilder, ProcessBuilder};
    use crate::report::model::{Insight, Severity};

    fn of(processes: Vec<ProcessBuilder>) -> Vec<Insight> {
        let o = ObservationBuilder::new().processes(processes).build();
        Fixture { observation: Some(o), ..Fixture::profile() }.report().insights
    }

    fn worker(pid: u32) -> ProcessBuilder {
        ProcessBuilder::new(pid, 42, "gunicorn").cpu_ms(100, 0)
    }

    fn arbiter() -> ProcessBuilder {
        ProcessBuilder::new(42, 1, "gunicorn").cpu_ms(100, 0)
    }

    #[test]
    fn an_oom_kill_names_the_first_and_another_kill_is_none() {
        assert_eq!(of(vec![arbiter(), worker(43).ended(900, 9)]), []);
        let found = of(vec![arbiter(), worker(43).oom_killed(900).rss_mib(300)]);
        assert_eq!((found.len(), found[0].code.as_str(), found[0].severity), (1, "oom_kill", Severity::Warn));
        assert_eq!(found[0].headline, "the kernel's OOM killer ended pid 43 (gunicorn)");
        assert_eq!(found[0].evidence["pid_max_rss_bytes"], 300 << 20);
        assert!(found[0].evidence["cgroup_peak_bytes"].is_null());
        let found = of(vec![arbiter(), worker(43).oom_killed(900), worker(44).oom_killed(800)]);
        assert_eq!(
            found[0].headline,
            "the kernel's OOM killer ended 2 processes, the first was pid 44 (gunicorn)"
        );
    }

    /// One slot, and how its workers but the last ended.
    fn recycled(statuses: &[u32]) -> Vec<ProcessBuilder> {
        let mut processes = vec![arbiter()];
        for (n, status) in (0u32..).zip(statuses) {
            let at = 1_000 + 1_000 * u64::from(n);
            processes.push(worker(43 + n).forked(at).ended(at + 800, *status));
        }
        processes.push(worker(90).forked(9_000));
        processes
    }

    #[test]
    fn replaced_workers_are_told_from_three_on() {
        assert_eq!(of(recycled(&[0, 0])), []);
        let found = of(recycled(&[0, 0, 0]));
        assert_eq!(
            (found.len(), found[0].code.as_str(), found[0].severity),
            (1, "worker_churn", Severity::Info)
        );
        assert_eq!(found[0].headline, "workers were replaced 3 times in 1 slot");
        let of = |name: &str| found[0].evidence[name].as_u64();
        assert_eq!(
            (of("replaced_workers"), of("slots"), of("newest_generation")),
            (Some(3), Some(1), Some(3))
        );
        assert_eq!(of("replaced_cpu_ns"), Some(300_000_000));
        assert_eq!(of("replaced_mean_life_ns"), Some(800_000_000));
    }

    #[test]
    fn fewer_replaced_workers_than_slots_are_no_churn() {
        let lasting = |n: u32| (0..n).map(|n| worker(100 + n)).collect::<Vec<_>>();
        let with = |n| of([recycled(&[0, 0, 0]), lasting(n)].concat());
        assert_eq!(with(2).len(), 1);
        assert_eq!(with(3), []);
    }

    #[test]
    fn workers_that_failed_make_it_a_warning() {
        let found = of(recycled(&[0, 9, 256]));
        assert_eq!((found[0].severity, &found[0].evidence["failed_workers"]), (Severity::Warn, &json!(2)));
        assert!(found[0].advice.starts_with("2 of them ended by a signal or with an error"));
    }

    #[test]
    fn what_was_moved_out_is_told_with_what_becomes_of_it() {
        let found = of(vec![arbiter(), worker(43).left(500)]);
        assert_eq!((found.len(), found[0].code.as_str()), (1, "moved_out"));
        assert_eq!(found[0].headline, "1 process was moved out of the target's cgroup");
        assert!(found[0].advice.starts_with("they left the set"), "{}", found[0].advice);
        let mut o = ObservationBuilder::new().processes(vec![arbiter(), worker(43)]).build();
        o.counts.moved_out = 2;
        let found = Fixture { observation: Some(o), ..Fixture::profile() }.report().insights;
        assert_eq!(found[0].headline, "2 processes were moved out of the target's cgroup");
        assert!(found[0].advice.starts_with("they stay in the set"), "{}", found[0].advice);
    }
}
