mod bounded;

use super::super::proc::handle::Reading;
use super::polled::MAX_UNLISTED;
use super::*;
use crate::aggregate::Aggregate;
use crate::aggregate::set::SetAggregate;
use crate::event::CpuTime;
use crate::event::{ProcessRecord, SetEnd};
use crate::observe::proc::tree::Node;
use crate::units::Nanos;

impl Table {
    /// The lists that come of it.
    pub(crate) fn finish(
        mut self,
        tells_oom: bool,
        tells_execs: bool,
    ) -> (Vec<ProcessRecord>, Vec<ProcessEvent>) {
        let mut set = SetAggregate::new();
        self.close_all();
        self.take_events().for_each(|event| set.apply(event));
        set.apply(SetEvent::Ended(SetEnd { tells_oom, tells_execs }));
        let lists = set.finish(&()).lists;
        (lists.processes, lists.events)
    }
}

fn record(t: u64, pid: u32, what: What) -> Record {
    let id = Id { host_pid: pid, start_boottime_ns: u64::from(pid) * 10 };
    Record { t: Mono(t), id, pid, what }
}

fn alive(pid: u32) -> Record {
    record(0, pid, What::Alive(living(0)))
}

fn living(base_ns: u64) -> Alive {
    let base = Run { exec_ns: base_ns, utime_ns: base_ns, stime_ns: 0 };
    Alive { parent: 1, cgroup_id: 1, comm: "root".into(), base, rss_before_bytes: 0 }
}

fn fork(pid: u32) -> Record {
    record(1, pid, What::Fork { parent: 1, cgroup_id: 1, comm: "w".into() })
}

fn usage(user: u64) -> GroupUsage {
    let run = Run { exec_ns: user, utime_ns: user, stime_ns: 0 };
    GroupUsage { cpu: cpu_of(run), run, ..GroupUsage::default() }
}

fn reading(user: u64) -> Reading {
    Reading {
        ppid: 1,
        comm: "root".into(),
        zombie: false,
        threads: 1,
        rss_bytes: 1,
        cpu: CpuTime { user: Nanos(user), system: Nanos(0) },
        waited: CpuTime::default(),
        minor_faults: 0,
        major_faults: 0,
    }
}

fn exit(pid: u32, user: u64) -> Record {
    let status = ExitStatus::from_wait_status(0);
    record(
        2,
        pid,
        What::Exit {
            status,
            peak_threads: 1,
            usage: usage(user),
            base: Run::default(),
            is_final: false,
            comm: "last".into(),
        },
    )
}

#[test]
fn the_final_figure_replaces_exits_figure() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    table.apply(exit(5, 100));
    assert_eq!(table.exited_cpu().total(), Nanos(100));
    assert_eq!(table.unsettled().len(), 1);
    table.apply(record(3, 5, What::Free { usage: usage(130), base: Run::default() }));
    assert_eq!(table.exited_cpu().total(), Nanos(130));
    assert!(table.unsettled().is_empty());
    assert_eq!(table.counts.exits, 1);
}

#[test]
fn a_process_that_the_snapshot_and_an_event_tell_of_counts_once_as_born() {
    let mut table = Table::new(100);
    table.apply(alive(5));
    table.apply(fork(5));
    assert_eq!((table.counts.alive_at_start, table.counts.forks), (0, 1));
    assert_eq!(table.finish(true, true).0.len(), 1);
}

#[test]
fn a_process_that_a_look_after_a_loss_found_before_its_record_was_read_was_not_there_at_the_start() {
    let mut table = Table::new(100);
    table.apply(alive(4));
    assert!(table.adopt(alive(5)));
    table.apply(fork(5));
    assert_eq!((table.counts.alive_at_start, table.counts.forks), (1, 1));
    assert_eq!(table.finish(true, true).0.len(), 2);
}

#[test]
fn what_was_used_before_the_window_is_left_out() {
    let mut table = Table::new(100);
    table.apply(alive(5));
    table.sampled(0, &reading(1_000));
    table.sampled(0, &reading(1_500));
    assert_eq!(table.living_cpu().total(), Nanos(500));
    table.apply(exit(5, 1_600));
    assert_eq!(table.exited_cpu().total(), Nanos(600));
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    table.apply(exit(5, 100));
    let mut again = fork(5);
    again.id.start_boottime_ns = 99;
    table.apply(again);
    table.apply(record(3, 5, What::Free { usage: usage(130), base: Run::default() }));
    assert_eq!(table.living().count(), 1);
    assert_eq!(table.exited_cpu().total(), Nanos(130));
}

/// What the kernel program's totals would say.
fn ended(ns: u64) -> Run {
    Run { exec_ns: ns, utime_ns: ns, stime_ns: 0 }
}

#[test]
fn the_cpu_of_a_process_whose_birth_was_lost_is_unlisted_and_not_missing() {
    let mut table = Table::new(100);
    table.apply(exit(5, 100));
    table.apply(record(3, 5, What::Free { usage: usage(130), base: Run::default() }));
    assert_eq!(table.exited_cpu().total(), Nanos(0));
    assert_eq!(table.unlisted(ended(130)).total(), Nanos(130));
    assert!(table.finish(true, true).0.is_empty());
}

#[test]
fn whichever_records_are_lost_the_sum_is_the_kernels() {
    let free = || record(3, 5, What::Free { usage: usage(130), base: Run::default() });
    let all = [vec![fork(5), exit(5, 100), free()], vec![fork(5), exit(5, 100)], vec![fork(5), free()]];
    for records in all.into_iter().chain([vec![exit(5, 100), free()], vec![free()], vec![]]) {
        let mut table = Table::new(100);
        for record in &records {
            table.apply(record.clone());
        }
        let sum = table.exited_cpu().total() + table.unlisted(ended(130)).total();
        assert_eq!(sum, Nanos(130), "{records:?}");
    }
}

#[test]
fn one_that_is_found_gone_without_a_record_is_in_the_sum_once() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    table.sampled(0, &reading(70));
    table.vanish(Mono(9), 0, true);
    assert_eq!(table.exited_cpu().total() + table.unlisted(ended(130)).total(), Nanos(130));
    let (list, _) = table.finish(true, true);
    assert_eq!((list[0].cpu.unwrap().total(), list[0].exit), (Nanos(70), None));
}

#[test]
fn one_that_was_waited_for_before_it_told_of_its_end_is_in_the_sums_once() {
    let free = || record(4, 5, What::Free { usage: usage(130), base: Run::default() });
    let status = Some(ExitStatus::from_wait_status(0));
    for (told, exit_status) in [(vec![exit(5, 100), free()], status), (vec![free()], None)] {
        let mut table = Table::new(100);
        table.apply(fork(5));
        table.sampled(0, &reading(70));
        table.vanish(Mono(9), 0, true);
        assert_eq!((table.counts.exits, table.vanished()), (1, 1));
        for record in &told {
            table.apply(record.clone());
        }
        assert_eq!(table.exited_cpu().total(), Nanos(130), "{told:?}");
        assert_eq!(table.unlisted(ended(130)).total(), Nanos(0), "{told:?}");
        assert_eq!((table.counts.exits, table.vanished()), (1, 0), "{told:?}");
        let (list, _) = table.finish(true, true);
        assert_eq!((list[0].cpu.unwrap().total(), list[0].exit), (Nanos(130), exit_status));
        assert_eq!(list[0].exited, Some(told[0].t));
    }
}

#[test]
fn beyond_the_lists_limit_processes_are_counted_and_summed() {
    let mut table = Table::new(1);
    table.apply(fork(5));
    table.apply(fork(6));
    table.apply(exit(6, 40));
    table.apply(exit(5, 60));
    assert_eq!((table.counts.forks, table.counts.exits, table.loss.unlisted_processes), (2, 2, 1));
    assert_eq!(table.unlisted(ended(100)).total(), Nanos(40));
    assert!(!table.adopt(alive(7)));
    assert_eq!(table.finish(true, true).0.len(), 1);
}

#[test]
fn what_was_used_before_the_move_is_kept_apart() {
    let mut table = Table::new(100);
    table.apply(record(1, 5, What::MoveIn(living(1_000))));
    table.sampled(0, &reading(1_300));
    assert_eq!(table.living_cpu().total(), Nanos(300));
    let base = ended(1_000);
    table.apply(record(2, 5, What::MoveOut { to_cgroup_id: 9, usage: usage(1_400), base }));
    assert_eq!(table.exited_cpu().total(), Nanos(400));
    assert_eq!(table.unlisted(ended(400)).total(), Nanos(0));
    assert_eq!((table.counts.moved_in, table.counts.moved_out, table.living().count()), (1, 1, 0));
    // It comes back as another line.
    table.apply(record(3, 5, What::MoveIn(living(2_000))));
    let (list, events) = table.finish(true, true);
    assert_eq!((list.len(), list[0].left, list[1].left), (2, Some(Mono(2)), None));
    assert_eq!(events.len(), 3);
}

#[test]
fn one_that_was_alive_and_ends_before_it_could_be_read_has_the_kernels_base() {
    let mut table = Table::new(100);
    table.apply(record(0, 5, What::Alive(living(1_000))));
    let status = ExitStatus::from_wait_status(0);
    let usage = usage(1_600);
    table.apply(record(
        2,
        5,
        What::Exit {
            status,
            peak_threads: 1,
            usage,
            base: ended(1_000),
            is_final: false,
            comm: "last".into(),
        },
    ));
    assert_eq!(table.finish(true, true).0[0].cpu.unwrap().total(), Nanos(600));
}

#[test]
fn an_unknown_beginning_makes_the_cpu_unknown_and_not_zero() {
    let mut table = Table::new(100);
    let node = Node { pid: 5, ppid: 1, start_ticks: 1 };
    table.appear(Mono(0), node, Birth::AliveAtStart, 10);
    table.vanish(Mono(1), 0, false);
    assert_eq!(table.without_cpu(), 1);
    assert_eq!(table.finish(false, true).0[0].cpu, None);
}

#[test]
fn an_oom_kill_is_no_where_it_would_have_been_told_and_else_unknown() {
    let oom = |told: bool, tells: bool| {
        let mut table = Table::new(100);
        table.apply(fork(5));
        if told {
            table.apply(record(2, 5, What::Oom));
        }
        table.finish(tells, true).0[0].oom_killed
    };
    assert_eq!((oom(true, true), oom(false, true), oom(false, false)), (Some(true), Some(false), None));
}

#[test]
fn a_final_exit_leaves_nothing_to_wait_for() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    let status = ExitStatus::from_wait_status(0);
    let base = Run::default();
    table.apply(record(
        2,
        5,
        What::Exit { status, peak_threads: 1, usage: usage(130), base, is_final: true, comm: "last".into() },
    ));
    assert!(table.unsettled().is_empty());
    assert_eq!(table.unlisted(ended(130)).total(), Nanos(0));
    assert!(table.finish(true, true).0[0].cpu_is_final);
}

#[test]
fn the_window_begins_with_the_exact_clock_and_the_first_sample_does_not_move_it() {
    let mut table = Table::new(100);
    table.apply(record(0, 5, What::Alive(living(1_000))));
    table.window_began(0, Nanos(1_003));
    table.sampled(0, &reading(1_500));
    assert_eq!(table.living_cpu().total(), Nanos(497));
}

#[test]
fn a_process_that_renamed_itself_is_told_by_its_last_name() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    table.apply(exit(5, 1));
    assert_eq!(table.finish(true, true).0[0].comm, "last");
}

const MIB: u64 = 1 << 20;

fn exec(pid: u32, rss_before_bytes: u64) -> Record {
    let (comm, exe) = ("program".to_owned(), Some("/bin/program".to_owned()));
    record(2, pid, What::Exec { comm, exe, argv: None, cut: false, rss_before_bytes })
}

fn ended_at(pid: u32, max_rss_bytes: u64) -> Record {
    let mut record = exit(pid, 1);
    if let What::Exit { usage, .. } = &mut record.what {
        usage.max_rss_bytes = max_rss_bytes;
    }
    record
}

fn rss_reading(rss_bytes: u64) -> Reading {
    Reading { rss_bytes, ..reading(1) }
}

/// Own peak, whether it is the kernel's mark, and the bound above.
fn rss(table: Table, tells_execs: bool) -> (Option<u64>, bool, Option<u64>) {
    let record = table.finish(true, tells_execs).0.pop().unwrap();
    (record.max_rss_bytes, record.max_rss_is_peak, record.max_rss_at_most_bytes)
}

#[test]
fn pages_of_the_parent_before_an_exec_are_not_the_programs_peak() {
    let forked = |record: Option<Record>, end| {
        let mut table = Table::new(100);
        table.apply(fork(5));
        if let Some(record) = record {
            // A sample between the fork and the exec sees the parent's pages.
            table.sampled(0, &rss_reading(325 * MIB));
            table.apply(record);
        }
        table.apply(ended_at(5, end));
        table
    };
    // A fork that executed nothing holds what it holds.
    assert_eq!(rss(forked(None, 325 * MIB), true), (Some(325 * MIB), true, None));
    // The same figure after an exec says nothing of the program but that it was not larger.
    assert_eq!(rss(forked(Some(exec(5, 325 * MIB)), 325 * MIB), true), (None, false, Some(325 * MIB)));
    assert_eq!(rss(forked(Some(exec(5, 325 * MIB)), 400 * MIB), true), (Some(400 * MIB), true, None));
    // Where word of an exec may be lost, no figure of an end is a program's.
    assert_eq!(rss(forked(None, 325 * MIB), false), (None, false, Some(325 * MIB)));
}

#[test]
fn a_sample_is_a_bound_below_where_the_end_tells_only_one_above() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    table.apply(exec(5, 325 * MIB));
    table.sampled(0, &rss_reading(9 * MIB));
    table.apply(ended_at(5, 325 * MIB));
    assert_eq!(rss(table, true), (Some(9 * MIB), false, Some(325 * MIB)));
}

#[test]
fn what_a_process_was_before_the_run_is_not_its_peak_in_it() {
    let mut launched = living(0);
    launched.rss_before_bytes = 325 * MIB;
    let of = |end| {
        let mut table = Table::new(100);
        table.apply(record(0, 5, What::Alive(launched.clone())));
        table.apply(ended_at(5, end));
        rss(table, true)
    };
    assert_eq!(of(325 * MIB), (None, false, Some(325 * MIB)));
    assert_eq!(of(326 * MIB), (Some(326 * MIB), true, None));
    // Alive at the end, its own mark is read.
    let mut table = Table::new(100);
    table.apply(record(0, 5, What::Alive(launched.clone())));
    table.sampled(0, &rss_reading(20 * MIB));
    table.note_peak_rss(0, 30 * MIB);
    assert_eq!(rss(table, true), (Some(30 * MIB), true, None));
}

#[test]
fn a_program_that_was_replaced_counts_with_what_it_held() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    table.apply(exec(5, 10 * MIB));
    // It grew to 500 MiB and then executed a small one.
    table.apply(exec(5, 500 * MIB));
    table.apply(ended_at(5, 500 * MIB));
    assert_eq!(rss(table, true), (Some(500 * MIB), true, None));
}

#[test]
fn a_process_that_moved_out_has_no_peak_by_the_kernel() {
    let mut table = Table::new(100);
    table.apply(fork(5));
    let mut usage = usage(1);
    usage.max_rss_bytes = 3 * MIB;
    table.apply(record(3, 5, What::MoveOut { to_cgroup_id: 7, usage, base: Run::default() }));
    assert_eq!(rss(table, true), (None, false, None));
}

#[test]
fn a_zombie_that_stays_is_one_process_and_one_end() {
    let mut table = Table::new(100);
    table.follow_waits(100);
    let node = |pid, ppid| Node { pid, ppid, start_ticks: 0 };
    table.appear(Mono(1), node(10, 1), Birth::AliveAtStart, 1_000);
    table.appear(Mono(1), node(20, 10), Birth::Forked, 2_000);
    table.found_dead(Mono(2), 1);
    // The next looks.
    for t in 3..6 {
        table.appear(Mono(t), node(20, 10), Birth::Forked, 2_000);
        table.look_for_the_dead(|_, _| true);
    }
    assert_eq!((table.counts.forks, table.counts.exits, table.living_pids().len()), (1, 1, 1));
    // Waited for; the pid comes back with another process.
    table.look_for_the_dead(|_, _| false);
    table.appear(Mono(7), node(20, 10), Birth::Forked, 9_000);
    assert_eq!((table.counts.forks, table.counts.exits, table.living_pids().len()), (2, 1, 2));
}

#[test]
fn a_living_process_without_a_line_is_one_birth_however_often_it_is_seen() {
    let mut table = Table::new(1);
    let node = |pid| Node { pid, ppid: 10, start_ticks: 0 };
    table.appear(Mono(1), node(10), Birth::AliveAtStart, 1_000);
    for t in 2..9 {
        table.appear(Mono(t), node(20), Birth::Forked, 2_000);
    }
    assert_eq!((table.counts.forks, table.loss.unlisted_processes, table.changes.len()), (1, 1, 1));
    table.keep_unlisted(|pid, _| pid == 20);
    assert_eq!(table.counts.exits, 0);
    // It ends, and its pid comes back with another process.
    table.keep_unlisted(|_, _| false);
    table.appear(Mono(9), node(20), Birth::Forked, 9_000);
    assert_eq!((table.counts.forks, table.counts.exits, table.loss.unlisted_processes), (2, 1, 2));
}

#[test]
fn without_a_line_nobody_is_remembered_beyond_the_bound() {
    let mut table = Table::new(0);
    let bound = MAX_UNLISTED as u64;
    for start in 0..bound + 9 {
        table.appear(Mono(1), Node { pid: 20, ppid: 10, start_ticks: 0 }, Birth::Forked, start);
    }
    assert_eq!((table.unlisted.len(), table.loss.unlisted_processes), (MAX_UNLISTED, bound));
}

#[test]
fn a_fork_that_executed_nothing_runs_what_its_parent_ran_then() {
    let child = |pid, parent| record(1, pid, What::Fork { parent, cgroup_id: 1, comm: "w".into() });
    let argv = || Some(vec!["server".to_owned(), "--port".to_owned()]);
    let told = |sampled: bool, tells_execs, late: Option<Record>| {
        let mut table = Table::new(100);
        table.apply(alive(5));
        // The grandchild is born before a look has told what the first of the three runs.
        table.apply(child(6, 5));
        table.apply(child(7, 6));
        table.identify(0, Some("/bin/server".into()), argv());
        if sampled {
            table.sampled(2, &reading(1));
        }
        table.apply(exit(7, 2));
        if let Some(record) = late {
            table.apply(record);
        }
        let grandchild = table.finish(true, tells_execs).0.pop().unwrap();
        (grandchild.exe, grandchild.argv)
    };
    assert_eq!(told(true, true, None), (Some("/bin/server".into()), argv()));
    assert_eq!(told(true, true, Some(exec(8, 0))), (Some("/bin/server".into()), argv()));
    // What its parents run now is nobody else's.
    assert_eq!(told(true, true, Some(exec(5, 0))), (None, None));
    assert_eq!(told(true, true, Some(exec(6, 0))), (None, None));
    assert_eq!(told(true, false, None), (None, None));
    assert_eq!(told(false, true, None), (None, None));
}
