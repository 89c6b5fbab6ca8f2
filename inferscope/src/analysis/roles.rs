//! What part each process plays.
//!
//! Owns the rules that name a process root, wrapper, arbiter, worker or helper. They are plain
//! thresholds on what was observed; a role is a label for a reader and changes no figure. Called by
//! `processes`.

use std::collections::{HashMap, HashSet};

use crate::clock::Origin;
use crate::event::{Birth, Observation, ProcessRecord};
use crate::report::model::Role;
use crate::units::Nanos;

/// A process smaller than this, with one thread and no CPU use to speak of, serves nothing itself.
pub(super) const WRAPPER_RSS_BYTES: u64 = 10 << 20;
/// A forked process that ended sooner is a helper, even where a sample happened to catch it.
const HELPER_LIFE: Nanos = Nanos::from_millis(200);
/// Children that last, from which a process counts as the workers' arbiter.
const ARBITER_CHILDREN: usize = 2;

/// The role of each record, in their order.
pub(super) fn roles(origin: Origin, roots: &[u32], observation: &Observation) -> Vec<Role> {
    let records = &observation.processes;
    let mut children: HashMap<u32, usize> = HashMap::new();
    let mut lasting_children: HashMap<u32, usize> = HashMap::new();
    for record in records {
        *children.entry(record.ppid).or_default() += 1;
        let lasting = record.times_sampled > 0 && !is_helper(origin, record);
        if lasting || record.birth == Birth::AliveAtStart {
            *lasting_children.entry(record.ppid).or_default() += 1;
        }
    }
    let set_cpu = observation.cpu_exited.total() + observation.cpu_living.total();
    let roots = root_records(roots, records);
    records
        .iter()
        .enumerate()
        .map(|(i, record)| {
            if roots.contains(&i) {
                let has_children = children.get(&record.pid).is_some_and(|n| *n > 0);
                return if has_children && only_waits(record, set_cpu) { Role::Wrapper } else { Role::Root };
            }
            if is_helper(origin, record) {
                return Role::Helper;
            }
            let workers = lasting_children.get(&record.pid).copied().unwrap_or(0);
            if workers >= ARBITER_CHILDREN { Role::Arbiter } else { Role::Worker }
        })
        .collect()
}

/// For each root pid its earliest record: a later one is a process that got the same pid.
fn root_records(roots: &[u32], records: &[ProcessRecord]) -> HashSet<usize> {
    let earliest = |pid: u32| {
        let of_pid = records.iter().enumerate().filter(|(_, r)| r.pid == pid);
        of_pid.min_by_key(|(_, r)| (r.birth == Birth::Forked, r.started_boottime_ns)).map(|(i, _)| i)
    };
    roots.iter().filter_map(|pid| earliest(*pid)).collect()
}

/// One thread, little memory, under 1% of the set's CPU. What is unknown speaks against it.
fn only_waits(record: &ProcessRecord, set_cpu: Nanos) -> bool {
    let rss = record.max_rss_bytes.or(record.sampled_peak_rss_bytes);
    let cpu = record.cpu.map(|c| c.total().0);
    record.peak_threads == Some(1)
        && rss.is_some_and(|rss| rss < WRAPPER_RSS_BYTES)
        && cpu.is_some_and(|cpu| cpu == 0 || cpu.saturating_mul(100) < set_cpu.0)
}

/// Forked and ended within the run, never sampled or gone in no time.
fn is_helper(origin: Origin, record: &ProcessRecord) -> bool {
    let Some(exited) = record.exited.filter(|_| record.birth == Birth::Forked) else { return false };
    let short = record.started_boottime_ns.is_some_and(|started| {
        let lived = i128::from(origin.at(exited).0) - i128::from(origin.at_boottime(started));
        lived < i128::from(HELPER_LIFE.0)
    });
    record.times_sampled == 0 || short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{ORIGIN, ObservationBuilder, ProcessBuilder};

    fn of(processes: Vec<ProcessBuilder>, roots: &[u32]) -> Vec<Role> {
        let observation = ObservationBuilder::new().processes(processes).build();
        roles(ORIGIN, roots, &observation)
    }

    fn bash() -> ProcessBuilder {
        ProcessBuilder::new(10, 1, "bash").rss_mib(4).threads(1)
    }

    #[test]
    fn a_root_that_waits_for_its_child_is_a_wrapper() {
        let server = ProcessBuilder::new(11, 10, "server").cpu_ms(900, 100);
        assert_eq!(of(vec![bash(), server], &[10]), [Role::Wrapper, Role::Worker]);
    }

    #[test]
    fn a_root_without_children_is_no_wrapper() {
        assert_eq!(of(vec![bash()], &[10]), [Role::Root]);
    }

    #[test]
    fn a_root_that_works_is_no_wrapper() {
        let server = || ProcessBuilder::new(11, 10, "server").cpu_ms(900, 100);
        assert_eq!(of(vec![bash().cpu_ms(11, 0), server()], &[10])[0], Role::Root);
        assert_eq!(of(vec![bash().cpu_ms(9, 0), server()], &[10])[0], Role::Wrapper);
        assert_eq!(of(vec![bash().threads(2), server()], &[10])[0], Role::Root);
        assert_eq!(of(vec![bash().rss_mib(10), server()], &[10])[0], Role::Root);
    }

    #[test]
    fn a_process_that_forked_two_lasting_children_is_an_arbiter() {
        let processes = vec![
            bash(),
            ProcessBuilder::new(11, 10, "gunicorn"),
            ProcessBuilder::new(12, 11, "gunicorn").forked(100),
            ProcessBuilder::new(13, 11, "gunicorn").forked(100),
        ];
        assert_eq!(of(processes, &[10]), [Role::Wrapper, Role::Arbiter, Role::Worker, Role::Worker]);
    }

    #[test]
    fn a_parent_of_helpers_alone_is_a_worker() {
        let helper = |pid| ProcessBuilder::new(pid, 11, "sh").forked(100).exited(105).sampled(0);
        let processes = vec![bash(), ProcessBuilder::new(11, 10, "server"), helper(12), helper(13)];
        assert_eq!(of(processes, &[10])[1..], [Role::Worker, Role::Helper, Role::Helper]);
    }

    #[test]
    fn a_short_life_makes_a_helper_even_when_sampled_and_a_long_one_does_not() {
        let child = |to| ProcessBuilder::new(11, 10, "sh").forked(1_000).exited(to).sampled(1);
        assert_eq!(of(vec![bash(), child(1_199)], &[10])[1], Role::Helper);
        assert_eq!(of(vec![bash(), child(1_200)], &[10])[1], Role::Worker);
    }

    #[test]
    fn a_process_that_no_sample_caught_is_a_helper_however_long_it_lived() {
        let child = ProcessBuilder::new(11, 10, "sh").forked(1_000).exited(5_000).sampled(0);
        assert_eq!(of(vec![bash(), child], &[10])[1], Role::Helper);
    }

    #[test]
    fn a_process_forked_just_before_the_end_is_no_helper() {
        let late = ProcessBuilder::new(11, 10, "server").forked(9_990).sampled(0);
        assert_eq!(of(vec![bash(), late], &[10])[1], Role::Worker);
    }

    #[test]
    fn a_reused_root_pid_is_not_the_root() {
        let again = ProcessBuilder::new(10, 11, "sh").forked(500).exited(900);
        let server = ProcessBuilder::new(11, 10, "server").cpu_ms(900, 100);
        assert_eq!(of(vec![again, bash(), server], &[10]), [Role::Worker, Role::Wrapper, Role::Worker]);
    }
}
