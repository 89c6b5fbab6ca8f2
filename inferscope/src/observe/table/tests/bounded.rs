//! A run without an end: what the table and the set's aggregate hold, and that their totals stay exact.

use super::*;
use crate::aggregate::set::{MAX_EVENTS, SetPart};

/// Processes that live at a time beside the server.
const LIVING: u64 = 8;

/// A server whose helpers come and go, `processes` of them, each one alive while the next [`LIVING`] are born.
fn fast_forwarded(processes: u64, listed: usize, drain: u64) -> (Table, SetPart) {
    let mut table = Table::new(listed);
    let mut set = SetAggregate::new();
    table.apply(alive(1));
    let id = |n: u64| Id { host_pid: 2 + (n % 30_000) as u32, start_boottime_ns: 1_000 + n };
    let record = |t, n, what| Record { t: Mono(t), id: id(n), pid: id(n).host_pid, what };
    for n in 0..processes + LIVING {
        let t = n * 100_000_000;
        if n < processes {
            let comm = if n % 3 == 0 { "convert" } else { "sh" };
            table.apply(record(t, n, What::Fork { parent: 1, cgroup_id: 1 + n % 2, comm: comm.into() }));
        }
        if let Some(old) = n.checked_sub(LIVING) {
            let comm = if old % 3 == 0 { "convert".to_owned() } else { "sh".to_owned() };
            let (status, base, usage) = (ExitStatus::from_wait_status(0), Run::default(), usage(1 + old % 5));
            let exit = What::Exit { status, peak_threads: 1, usage, base, is_final: old % 2 == 0, comm };
            table.apply(record(t, old, exit));
            if old % 2 == 1 {
                table.apply(record(t + 1, old, What::Free { usage, base }));
            }
        }
        if n % drain == 0 {
            table.take_events().for_each(|event| set.apply(event));
            assert!(table.entries.len() as u64 <= LIVING + 2, "{} accounts are open", table.entries.len());
        }
    }
    assert!(table.ancestors.is_empty() && table.by_pid.len() <= 1 && table.open.len() <= 1);
    table.close_all();
    table.take_events().for_each(|event| set.apply(event));
    (table, set.finish(&()))
}

/// The CPU of so many helpers.
fn used(processes: u64) -> Nanos {
    Nanos((0..processes).map(|n| 1 + n % 5).sum())
}

#[test]
fn an_hour_at_ten_forks_a_second_is_listed_whole() {
    let processes = 36_000;
    let (table, part) = fast_forwarded(processes, 200_000, 1);
    assert_eq!((table.counts.forks, table.counts.exits), (processes, processes));
    assert_eq!(part.lists.processes.len() as u64, processes + 1);
    assert_eq!((part.folded.count(), part.lists.unlisted_events), (0, 0));
    assert_eq!(table.exited_cpu().total(), used(processes));
    let numbers: Vec<_> = part.lists.processes.iter().map(|p| p.started_boottime_ns).collect();
    assert!(numbers[1..].is_sorted(), "births in their order");
}

#[test]
fn half_a_million_processes_leave_a_bounded_list_and_exact_totals() {
    processes_beyond_the_list_are_exact(500_000);
}

#[test]
#[ignore = "it takes two minutes in a debug build"]
fn ten_million_processes_leave_a_bounded_list_and_exact_totals() {
    processes_beyond_the_list_are_exact(10_000_000);
}

fn processes_beyond_the_list_are_exact(processes: u64) {
    let listed = 1_000;
    let (table, part) = fast_forwarded(processes, listed, 500);
    assert_eq!((table.counts.forks, table.counts.exits), (processes, processes));
    assert_eq!(table.exited_cpu().total(), used(processes));
    // The server is one of those that have a line.
    let lines = &part.lists.processes;
    assert_eq!((lines.len(), part.folded.count()), (listed, processes - (listed as u64 - 1)));
    let in_lines: Nanos = lines.iter().filter_map(|p| p.cpu).map(CpuTime::total).sum();
    assert_eq!(in_lines + part.folded.cpu().total(), used(processes));
    let commands = part.folded.commands();
    let of_sh = lines.iter().filter(|p| p.comm == "sh").count() as u64;
    assert_eq!((commands.len(), commands["sh"].count + of_sh), (2, processes - processes.div_ceil(3)));
    assert_eq!(part.lists.events.len(), MAX_EVENTS);
    assert_eq!(part.happened, 2 * processes);
    assert!(table.cgroups.len() <= 3);
}
