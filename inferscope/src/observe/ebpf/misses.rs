//! Runs of the kernel program that the kernel skipped.
//!
//! A program is not run on a CPU where it is running already; from Linux 7.0 on a tracepoint's can be preempted, and
//! what comes next on that CPU is skipped without a word. The kernel counts it for each program
//! (`recursion_misses`, Linux 5.12). Owns which program tells of what; pure, the counts are handed in. Draws no
//! conclusion (`event::Loss` does). Used by the tracker.

use crate::event::MissedRuns;

/// The sum over all programs, by what they tell of; `None` where the kernel did not answer for each of them.
pub(super) fn sum<'a, P: 'a>(
    programs: impl IntoIterator<Item = &'a (&'static str, P)>,
    mut misses: impl FnMut(&'static str, &P) -> Option<u64>,
) -> Option<MissedRuns> {
    let mut sum = MissedRuns::default();
    for (name, program) in programs {
        let of = match *name {
            "on_fork" | "on_wakeup_new" => &mut sum.forks,
            "on_exec" => &mut sum.execs,
            "on_exit" | "on_switch" => &mut sum.exits,
            "on_free" => &mut sum.frees,
            "on_cgroup_attach" => &mut sum.moves,
            // OOM kills.
            _ => &mut sum.others,
        };
        *of = of.saturating_add(misses(name, program)?);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_programs_misses_are_told_by_what_it_tells_of() {
        let programs = [
            ("on_fork", Some(1)),
            ("on_exec", Some(10)),
            ("on_exec", Some(20)),
            ("on_exit", Some(100)),
            ("on_switch", Some(200)),
            ("on_free", Some(1_000)),
            ("on_cgroup_attach", Some(10_000)),
            ("on_oom", Some(100_000)),
            ("on_wakeup_new", Some(2)),
        ];
        let told = sum(&programs, |_, misses| *misses).unwrap();
        let want =
            MissedRuns { forks: 3, execs: 30, exits: 300, frees: 1_000, moves: 10_000, others: 100_000 };
        assert_eq!(told, want);
        assert_eq!(told.sum(), 111_333);
    }

    #[test]
    fn a_program_that_the_kernel_does_not_tell_of_leaves_the_sum_unknown() {
        assert_eq!(sum(&[("on_fork", Some(0)), ("on_exit", None)], |_, misses| *misses), None);
        assert_eq!(sum::<()>(&[], |_, ()| None), Some(MissedRuns::default()));
    }

    #[test]
    fn every_tracepoint_program_is_known_by_its_name() {
        for (name, _) in super::super::every_tracepoint() {
            let told = sum(&[(name, ())], |_, ()| Some(1)).unwrap();
            assert_eq!((told.sum(), told.others == 1), (1, name == "on_oom"), "{name}");
        }
    }
}
