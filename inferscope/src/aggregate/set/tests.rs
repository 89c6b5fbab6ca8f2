use super::folded::MAX_COMMANDS;
use super::*;
use crate::event::{Birth, CpuTime, ProcessEventKind, RssMarks};
use crate::units::Nanos;

fn account(number: usize, comm: &str, listed: bool) -> Box<ProcessAccount> {
    let pid = 100 + (number % 30_000) as u32;
    let record = ProcessRecord {
        pid,
        host_pid: Some(pid),
        ppid: 1,
        birth: Birth::Forked,
        started_boottime_ns: Some(number as u64),
        exited: Some(Mono(number as u64 + 1)),
        exit: None,
        left: None,
        oom_killed: None,
        comm: comm.to_owned(),
        exe: None,
        argv: None,
        argv_cut: false,
        execs: 0,
        cpu_before: CpuTime::default(),
        cpu: Some(CpuTime { user: Nanos(7), system: Nanos(3) }),
        cpu_is_final: true,
        max_rss_bytes: None,
        max_rss_is_peak: false,
        max_rss_at_most_bytes: None,
        sampled_peak_rss_bytes: None,
        peak_threads: Some(1),
        minor_faults: Some(2),
        major_faults: Some(0),
        voluntary_switches: Some(1),
        involuntary_switches: Some(0),
        times_sampled: 0,
        cgroup_id: None,
    };
    Box::new(ProcessAccount { number, listed, record, rss: RssMarks::default(), inherited: None })
}

fn sample(t: u64, rss_bytes: u64) -> SetSample {
    let (cpu, cpu_error) = (Nanos(t), Nanos::ZERO);
    SetSample { t: Mono(t), processes: 1, threads: 1, rss_bytes, pss_bytes: None, cpu, cpu_error }
}

fn fork(t: u64) -> ProcessEvent {
    ProcessEvent { t: Mono(t), pid: 7, kind: ProcessEventKind::Fork { parent: 1 } }
}

#[test]
fn an_account_that_closed_late_is_listed_by_its_birth() {
    let mut set = SetAggregate::new();
    set.apply(SetEvent::Closed(vec![account(2, "b", true), account(0, "a", true)]));
    set.apply(SetEvent::Closed(vec![account(1, "c", true)]));
    let names: Vec<_> = set.finish(&()).lists.processes.into_iter().map(|p| p.comm).collect();
    assert_eq!(names, ["a", "c", "b"]);
}

#[test]
fn the_last_sample_is_kept_though_others_are_merged() {
    let mut set = SetAggregate::new();
    let all = 3 * MAX_SAMPLES as u64;
    for t in 0..all {
        set.apply(SetEvent::Sample(sample(t, if t == 12_345 { 900 } else { t % 7 })));
    }
    let lists = set.finish(&()).lists;
    assert!(lists.samples.len() <= MAX_SAMPLES + 2);
    assert_eq!(lists.samples.last().map(|s| s.t), Some(Mono(all - 1)));
    assert_eq!(lists.samples.iter().map(|s| s.rss_bytes).max(), Some(900));
    assert_eq!(lists.samples.len() as u64 + lists.samples_thinned, all);
}

#[test]
fn counts_of_snapshots_never_fall_and_the_last_is_the_report() {
    let mut set = SetAggregate::new();
    let mut before = (0, 0);
    for n in 0..1_000_usize {
        set.apply(SetEvent::Changes(vec![fork(n as u64)]));
        set.apply(SetEvent::Closed(vec![account(n, "sh", n < 500)]));
        let part = set.snapshot(Mono(0));
        assert!(part.provisional && part.closed > before.0 && part.happened > before.1);
        before = (part.closed, part.happened);
    }
    let last = set.snapshot(Mono(0));
    let part = set.finish(&());
    assert!(!part.provisional);
    assert_eq!((part.closed, part.happened), (last.closed, last.happened));
    assert_eq!((part.folded.clone(), part.latest), (last.folded, last.latest));
    assert_eq!((part.lists.processes.len(), part.folded.count()), (500, 500));
}

#[test]
fn names_without_end_fold_into_one() {
    let mut set = SetAggregate::new();
    for n in 0..MAX_COMMANDS + 1_000 {
        set.apply(SetEvent::Closed(vec![account(n, &format!("c{n}"), false)]));
    }
    let folded = set.finish(&()).folded;
    assert_eq!(folded.commands().len(), MAX_COMMANDS + 1);
    assert_eq!((folded.count(), folded.commands()[""].count), (MAX_COMMANDS as u64 + 1_000, 1_000));
}
