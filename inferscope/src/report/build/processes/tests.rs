use std::collections::HashMap;

use super::*;
use crate::event::{ExitStatus, Loss, LostRecords, MissedRuns};
use crate::fixture::{Fixture, ObservationBuilder, ProcessBuilder, ms};

const POLLED: &str = "polling /proc misses what lives between two looks";
const ALONE: &str = "only the given pid was watched (--no-descendants)";

fn of(observation: Observation) -> model::Processes {
    Fixture { observation: Some(observation), ..Fixture::profile() }.report().processes
}

#[test]
fn any_loss_makes_the_set_incomplete_and_a_bounded_list_does_not() {
    let with = |loss| of(ObservationBuilder::new().loss(loss).build()).complete;
    assert!(with(Loss::default()));
    assert!(with(Loss { unlisted_events: 9, ..Loss::default() }));
    assert!(!with(Loss { unlisted_processes: 9, ..Loss::default() }));
    assert!(!with(Loss { ring_full: 1, ..Loss::default() }));
    assert!(!with(Loss { unmarked: 1, ..Loss::default() }));
    assert!(!with(Loss { undecodable: 1, ..Loss::default() }));
    assert!(!with(Loss { unreadable: 1, ..Loss::default() }));
}

#[test]
fn lost_records_add_up_by_cause_and_saturate() {
    let loss = Loss { ring_full: u64::MAX, unmarked: 2, undecodable: 3, ..Loss::default() };
    assert_eq!(of(ObservationBuilder::new().loss(loss).build()).counts.unwrap().lost_events, Some(u64::MAX));
}

#[test]
fn seen_is_alive_plus_forked_and_short_lived_is_never_sampled() {
    let p = of(ObservationBuilder::new()
        .processes(vec![
            ProcessBuilder::new(10, 1, "server"),
            ProcessBuilder::new(12, 10, "sh").forked(100).exited(105).sampled(0),
            ProcessBuilder::new(11, 10, "sh").forked(100).exited(500).sampled(3),
        ])
        .build());
    let c = p.counts.unwrap();
    assert_eq!((c.seen, c.alive_at_start, c.forks), (3, 1, 2));
    assert_eq!((c.short_lived, c.exits), (Some(1), 2));
    // In the order of birth, then of pid.
    assert_eq!(p.list.iter().map(|p| p.pid).collect::<Vec<_>>(), [10, 11, 12]);
}

#[test]
fn unknown_cpu_stays_null() {
    let mut o = ObservationBuilder::new().processes(vec![ProcessBuilder::new(10, 1, "x")]).build();
    o.processes[0].cpu = None;
    o.processes[0].max_rss_bytes = None;
    o.processes[0].sampled_peak_rss_bytes = None;
    let p = &of(o).list[0];
    assert_eq!((p.cpu_user_ns, p.cpu_system_ns, p.max_rss_bytes), (None, None, None));
}

#[test]
fn a_start_before_the_run_is_negative() {
    let p = of(ObservationBuilder::new().processes(vec![ProcessBuilder::new(10, 1, "x")]).build());
    assert_eq!(p.list[0].started_ns, Some(-60_000_000_000));
}

#[test]
fn events_are_on_the_timeline_in_order() {
    let mut o = ObservationBuilder::new().build();
    let exit = ProcessEventKind::Exit { status: ExitStatus::from_wait_status(9) };
    o.events = vec![
        ProcessEvent { t: ms(30), pid: 11, kind: exit },
        ProcessEvent { t: ms(20), pid: 11, kind: ProcessEventKind::Fork { parent: 10 } },
    ];
    let events = of(o).events;
    assert_eq!((events[0].t_ns, events[0].ppid), (20_000_000, Some(10)));
    assert_eq!((events[1].t_ns, events[1].signal, events[1].code), (30_000_000, Some(9), None));
}

#[test]
fn a_cgroup_is_told_by_its_path_where_that_is_known() {
    let mut o = ObservationBuilder::new()
        .processes(vec![ProcessBuilder::new(10, 1, "a").cgroup(7), ProcessBuilder::new(11, 1, "b").cgroup(8)])
        .build();
    o.cgroups = HashMap::from([(7, "/srv/a".to_owned())]);
    let moved = |to_cgroup_id| ProcessEventKind::MoveOut { to_cgroup_id };
    o.events = [7, 8].map(|id| ProcessEvent { t: ms(1), pid: 10, kind: moved(id) }).to_vec();
    let p = of(o);
    assert_eq!([&p.list[0].cgroup, &p.list[1].cgroup], [&Some("/srv/a".to_owned()), &None]);
    assert_eq!((p.events[0].cgroup_id, p.events[0].cgroup.as_deref()), (Some(7), Some("/srv/a")));
    assert_eq!((p.events[1].cgroup_id, p.events[1].cgroup.as_deref()), (Some(8), None));
}

#[test]
fn an_oom_kill_is_told_from_another_and_from_not_knowing() {
    let killed = || ProcessBuilder::new(10, 1, "a").oom_killed(500);
    let exit = |o: &ObservationBuilder| of(o.clone().build()).list[0].exit.clone().unwrap();
    let built = |p| ObservationBuilder::new().processes(vec![p]);
    assert_eq!((exit(&built(killed())).oom, exit(&built(killed())).signal), (Some(true), Some(9)));
    let other = built(ProcessBuilder::new(10, 1, "a").ended(500, 9));
    assert_eq!(exit(&other).oom, Some(false));
    assert_eq!(exit(&other.proc_tracker("asked for")).oom, None);
    // With a move or a kill among the lost records, nobody was told not to have been killed.
    let mut o = built(ProcessBuilder::new(10, 1, "a").ended(500, 9)).build();
    o.loss.ring_full_by.others = 1;
    assert_eq!(of(o).list[0].exit.as_ref().unwrap().oom, None);
    // The exit record was lost.
    let mut o = built(killed()).build();
    o.processes[0].exit = None;
    let exit = of(o).list[0].exit.clone().unwrap();
    assert_eq!((exit.oom, exit.code, exit.signal, exit.core), (Some(true), None, None, None));
}

#[test]
fn a_core_dump_and_a_cut_command_line_are_said() {
    let mut o = ObservationBuilder::new()
        .processes(vec![
            ProcessBuilder::new(10, 1, "a").ended(500, 11 | 0x80),
            ProcessBuilder::new(11, 1, "b"),
        ])
        .build();
    o.processes[1].argv_cut = true;
    let p = of(o);
    let exit = p.list[0].exit.as_ref().unwrap();
    assert_eq!((exit.signal, exit.core, p.list[0].argv_cut), (Some(11), Some(true), false));
    assert!(p.list[1].argv_cut);
}

#[test]
fn moves_are_counted_and_unknown_to_polling() {
    let moving = vec![
        ProcessBuilder::new(10, 1, "a"),
        ProcessBuilder::new(11, 1, "b").moved_in(100),
        ProcessBuilder::new(12, 1, "c").left(200),
    ];
    let p = of(ObservationBuilder::new().processes(moving.clone()).build());
    let c = p.counts.unwrap();
    assert_eq!((c.seen, c.alive_at_start, c.moved_in, c.moved_out), (3, 2, Some(1), Some(1)));
    let left: Vec<_> = p.list.iter().map(|p| p.left_ns).collect();
    assert_eq!(left, [None, Some(200_000_000), None]);
    let polled = ObservationBuilder::new().processes(moving[..1].to_vec()).proc_tracker("asked for");
    let c = of(polled.build()).counts.unwrap();
    assert_eq!((c.moved_in, c.moved_out), (None, None));
}

#[test]
fn each_cause_of_loss_has_its_count() {
    let loss = Loss {
        ring_full: 1,
        ring_full_by: LostRecords { forks: 7, execs: 8, exits: 9, frees: 10, others: 11 },
        unmarked: 2,
        undecodable: 3,
        unreadable: 4,
        unlisted_processes: 5,
        unlisted_events: 6,
        ..Loss::default()
    };
    let c = of(ObservationBuilder::new().loss(loss).build()).counts.unwrap();
    let lost = c.lost.unwrap();
    assert_eq!((lost.ring_full, lost.unmarked, lost.undecodable), (1, 2, 3));
    let by = lost.ring_full_by;
    assert_eq!([by.forks, by.execs, by.exits, by.frees, by.others], [7, 8, 9, 10, 11]);
    assert_eq!((lost.unlisted_processes, lost.unlisted_events), (5, 6));
    assert_eq!((c.lost_events, c.unreadable), (Some(6), 4));
}

#[test]
fn a_birth_that_the_kernel_skipped_makes_the_report_incomplete_and_its_counts_lower_bounds() {
    let with = |loss| of(ObservationBuilder::new().loss(loss).build());
    let missed_runs = MissedRuns { forks: 3, ..MissedRuns::default() };
    let p = with(Loss { missed_runs, ..Loss::default() });
    assert!(!p.complete && p.complete_reason.unwrap().contains("counts.lost.missed_runs"));
    let c = p.counts.unwrap();
    let lost = c.lost.unwrap();
    assert_eq!((lost.missed_runs, lost.missed_runs_made_good, lost.missed_runs_by.forks), (Some(3), 0, 3));
    assert_eq!(c.lost_events, Some(3));
    assert!(c.lower_bounds.contains(&"forks".to_owned()), "{:?}", c.lower_bounds);

    let p = with(Loss { missed_runs_unknown: true, ..Loss::default() });
    let lost = p.counts.unwrap().lost.unwrap();
    assert!(!p.complete && lost.missed_runs.is_none() && lost.missed_runs_reason.is_some());
}

#[test]
fn a_skipped_run_that_was_made_good_is_counted_and_leaves_the_report_complete() {
    let with = |loss| of(ObservationBuilder::new().loss(loss).build());
    let missed_runs = MissedRuns { execs: 5, exits: 40, frees: 300, ..MissedRuns::default() };
    let good = Loss { missed_runs, late_execs: Some(0), ..Loss::default() };
    let p = with(good);
    let lost = p.counts.unwrap().lost.unwrap();
    assert!(p.complete, "{:?}", p.complete_reason);
    assert_eq!((lost.missed_runs, lost.missed_runs_made_good), (Some(345), 345));
    // A member that was gone without a word, an exec that only its count tells of, a kernel that tells no count.
    for bad in [
        Loss { vanished: 1, ..good },
        Loss { late_execs: Some(1), ..good },
        Loss { late_execs: None, ..good },
    ] {
        assert!(!with(bad).complete, "{bad:?}");
    }
}

#[test]
fn a_member_that_was_gone_without_a_word_makes_the_report_incomplete_whatever_took_the_word() {
    let with = |loss| of(ObservationBuilder::new().loss(loss).build());
    let p = with(Loss { vanished: 2, ..Loss::default() });
    assert_eq!(p.complete_reason.as_deref(), Some("2 processes were gone without a record of their end"));
    let c = p.counts.unwrap();
    assert_eq!((c.lower_bounds, c.lost_events), (vec!["exits".to_owned()], Some(0)));
    // One of the two ends is that of a record that was lost in a full ring, the other in a skipped run.
    let ring_full_by = LostRecords { exits: 1, ..LostRecords::default() };
    let missed_runs = MissedRuns { frees: 1, ..MissedRuns::default() };
    let loss = Loss { vanished: 2, ring_full: 1, ring_full_by, missed_runs, ..Loss::default() };
    let p = with(loss);
    assert!(!p.complete && loss.unexplained_ends() == 0, "{:?}", p.complete_reason);
}

#[test]
fn a_recycled_worker_has_its_slot_and_generation() {
    let p = of(ObservationBuilder::new()
        .processes(vec![
            ProcessBuilder::new(42, 1, "gunicorn"),
            ProcessBuilder::new(43, 42, "gunicorn").exited(2_000),
            ProcessBuilder::new(44, 42, "gunicorn").forked(2_010),
        ])
        .build());
    let places: Vec<_> = p.list.iter().map(|p| (p.role, p.slot, p.generation)).collect();
    let worker = |generation| (model::Role::Worker, Some(0), Some(generation));
    assert_eq!(places, [(model::Role::Arbiter, None, None), worker(0), worker(1)]);
}

#[test]
fn without_a_target_nothing_is_claimed() {
    let why = SetReason::Unobserved("the endpoint is on another machine".to_owned());
    let p = none(&why);
    assert_eq!((p.tracker, p.complete, p.cpu.total_ns), (model::Tracker::None, false, None));
    assert_eq!(p.tracker_reason.as_deref(), Some("the endpoint is on another machine"));
}

#[test]
fn what_polling_cannot_know_is_null_and_what_it_may_miss_is_a_lower_bound() {
    let members = vec![
        ProcessBuilder::new(42, 1, "server").cpu_ms(900, 0),
        ProcessBuilder::new(43, 42, "sh").forked(100).exited(900).cpu_ms(5, 0),
    ];
    let mut o = ObservationBuilder::new().processes(members).proc_tracker("asked for").build();
    (o.counts.execs, o.counts.threads) = (None, None);
    o.processes[1].cpu_is_final = false;
    let p = of(o);
    assert_eq!((p.complete, p.complete_reason.as_deref()), (false, Some(POLLED)));
    let c = p.counts.unwrap();
    assert_eq!((c.short_lived, c.short_lived_reason.as_deref()), (None, Some(POLLED)));
    assert_eq!((c.lost_events, c.lost_events_reason.is_some()), (None, true));
    assert_eq!((c.execs, c.threads, c.moved_in), (None, None, None));
    assert!(c.execs_reason.is_some() && c.threads_reason.is_some() && c.moved_reason.is_some());
    assert_eq!((c.seen, c.forks, c.exits), (2, 1, 1));
    assert_eq!(
        (&c.lower_bounds[..], c.lower_bounds_reason.as_deref()),
        (&POLLED_COUNTS.map(String::from)[..], Some(POLLED))
    );
    assert!(p.commands.iter().all(|c| c.short_lived.is_none()));
    assert!(p.cpu.lower_bound_reason.is_some() && p.list[1].cpu_at_least && !p.list[0].cpu_at_least);
}

const POLLED_COUNTS: [&str; 4] = ["seen", "forks", "exits", "peak_alive"];

#[test]
fn one_pid_alone_is_not_the_server() {
    let o = ObservationBuilder::new().processes(vec![ProcessBuilder::new(42, 1, "bash")]);
    let mut f = Fixture { observation: Some(o.proc_tracker("alone").build()), ..Fixture::profile() };
    f.target.descendants = false;
    let p = f.report().processes;
    assert_eq!((p.complete, p.complete_reason.as_deref()), (false, Some(ALONE)));
    let c = p.counts.unwrap();
    assert_eq!((c.short_lived, c.lower_bounds_reason.as_deref()), (None, Some(ALONE)));
    assert_eq!(c.lower_bounds, POLLED_COUNTS);
    // Of that pid the CPU is all there is.
    assert_eq!(p.cpu.lower_bound_reason, None);
}

#[test]
fn a_complete_run_has_no_lower_bounds_and_a_loss_names_its_own() {
    let with = |loss| {
        let p = of(ObservationBuilder::new().loss(loss).build());
        let c = p.counts.unwrap();
        assert_eq!(c.lower_bounds.is_empty(), c.lower_bounds_reason.is_none());
        (c.lower_bounds, p.complete_reason.is_some(), p.cpu.lower_bound_reason.is_some())
    };
    assert_eq!(with(Loss::default()), (vec![], false, false));
    let listed = ["peak_alive", "short_lived"].map(String::from).to_vec();
    // The kernel program counts and sums beside its records.
    assert_eq!(with(Loss { unlisted_processes: 1, ..Loss::default() }), (listed, true, false));
    let unfollowed = with(Loss { unmarked: 1, ..Loss::default() });
    assert!(unfollowed.0.contains(&"forks".to_owned()) && unfollowed.2);
    assert_eq!(with(Loss { unreadable: 1, ..Loss::default() }), (vec![], true, true));
}

#[test]
fn what_no_sample_could_catch_is_not_short_lived() {
    let outside = ProcessBuilder::new(0, 0, "elsewhere").sampled(0);
    let o = ObservationBuilder::new().processes(vec![ProcessBuilder::new(42, 1, "server"), outside]);
    assert_eq!(of(o.build()).counts.unwrap().short_lived, Some(0));
}
