use super::*;
use proptest::prelude::*;

use super::super::kernel::{ForkHook, Hooks};
use super::super::tracepoint::{Stage, missed_runs};
use crate::event::MissedRuns;

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes, 4096);
    }

    /// Random bytes seldom begin with a kind.
    #[test]
    fn a_record_of_any_kind_that_is_cut_off_is_an_error(
        kind in 1_u32..=9,
        rest in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let bytes = [&kind.to_ne_bytes()[..], &rest].concat();
        let decoded = decode(&bytes, 4096);
        prop_assert_eq!(decoded.is_ok(), bytes.len() >= bytes_of(kind));
    }
}

fn bytes_of(kind: u32) -> usize {
    match kind {
        ForkRecord::KIND => size_of::<ForkRecord>(),
        ExecRecord::KIND => size_of::<ExecRecord>(),
        ExitRecord::KIND => size_of::<ExitRecord>(),
        FreeRecord::KIND => size_of::<FreeRecord>(),
        MigrateRecord::KIND => size_of::<MigrateRecord>(),
        MoveInRecord::KIND => size_of::<MoveInRecord>(),
        MoveOutRecord::KIND => size_of::<MoveOutRecord>(),
        OomRecord::KIND => size_of::<OomRecord>(),
        AliveRecord::KIND => size_of::<AliveRecord>(),
        _ => usize::MAX,
    }
}

fn names(hooks: Hooks, oom_has_task: bool) -> Vec<&'static str> {
    tracepoints(&Kernel { hooks, oom_has_task }).map(|tracepoint| tracepoint.program).collect()
}

#[test]
fn ends_are_attached_before_births_and_spares_only_where_runs_are_skipped() {
    let before_7 = Hooks { fork: ForkHook::ProcessFork, spares: false };
    assert_eq!(
        names(before_7, false),
        ["on_free", "on_switch", "on_exit", "on_exec", "on_cgroup_attach", "on_fork"]
    );
    let from_7 = Hooks { fork: ForkHook::WakeupNew, spares: true };
    assert_eq!(
        names(from_7, true),
        [
            "on_oom",
            "on_free",
            "on_switch",
            "on_exit",
            "on_exit",
            "on_exec",
            "on_exec",
            "on_exec",
            "on_exec",
            "on_cgroup_attach",
            "on_wakeup_new"
        ]
    );
    let last_death = TRACEPOINTS.iter().rposition(|tracepoint| tracepoint.stage == Stage::Deaths);
    let first_birth = TRACEPOINTS.iter().position(|tracepoint| tracepoint.stage == Stage::Births);
    assert!(last_death < first_birth);
}

#[test]
fn each_programs_misses_are_counted_by_what_it_tells_of() {
    let misses = |tracepoint: &Tracepoint| match tracepoint.program {
        "on_fork" => 1,
        "on_wakeup_new" => 2,
        "on_exec" => 10,
        "on_exit" => 100,
        "on_switch" => 200,
        "on_free" => 1_000,
        "on_cgroup_attach" => 10_000,
        "on_oom" => 100_000,
        _ => 0,
    };
    let programs: Vec<_> = TRACEPOINTS.iter().map(|tracepoint| (tracepoint, ())).collect();
    let sum = missed_runs(&programs, |tracepoint, ()| Some(misses(tracepoint))).unwrap();
    let want = MissedRuns { forks: 3, execs: 10, exits: 300, frees: 1_000, moves: 10_000, others: 100_000 };
    assert_eq!(sum, want);
    assert_eq!(sum.sum(), 111_313);
    assert!(TRACEPOINTS.iter().all(|tracepoint| misses(tracepoint) > 0));
}

#[test]
fn a_program_of_which_the_kernel_tells_nothing_leaves_the_sum_unknown() {
    let programs = [(&TRACEPOINTS[0], Some(0)), (&TRACEPOINTS[1], None)];
    assert_eq!(missed_runs(&programs, |_, misses| *misses), None);
    assert_eq!(missed_runs::<()>(&[], |_, ()| None), Some(MissedRuns::default()));
}
