//! Who forked whom.
//!
//! Owns the search for the record of a process's parent: a pid names several processes where it was used
//! again within the run. Never takes a process for a parent that had ended by then. Called by `roles`.

use std::collections::HashMap;

use crate::clock::Origin;
use crate::event::ProcessRecord;

/// A parent may end right after its fork, and the start of the child is on another clock, which is
/// brought onto the timeline to a microsecond.
const CLOCKS_DIFFER_NS: i64 = 1_000_000;

/// Parents and children, as indices into the records.
pub(super) struct Lineage {
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

impl Lineage {
    pub(super) fn of(origin: Origin, records: &[ProcessRecord]) -> Self {
        let mut by_pid: HashMap<u32, Vec<usize>> = HashMap::new();
        for (i, record) in records.iter().enumerate() {
            // 0 is what a pid shows as where it can't be seen, and so nobody's.
            if record.pid != 0 {
                by_pid.entry(record.pid).or_default().push(i);
            }
        }
        // The oldest first; an unknown start is before all.
        by_pid.values_mut().for_each(|of_pid| of_pid.sort_by_key(|&i| records[i].started_boottime_ns));
        let parents: Vec<Option<usize>> = (0..records.len())
            .map(|i| {
                let of_pid = by_pid.get(&records[i].ppid)?;
                parent(origin, records, i, of_pid)
            })
            .collect();
        let mut children = vec![Vec::new(); records.len()];
        for (i, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(i);
            }
        }
        Self { parents, children }
    }

    pub(super) fn parent(&self, i: usize) -> Option<usize> {
        self.parents[i]
    }

    pub(super) fn children(&self, i: usize) -> &[usize] {
        &self.children[i]
    }

    /// Every record once, each after its parent.
    pub(super) fn downwards(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.parents.len()).filter(|i| self.parents[*i].is_none()).collect();
        let mut next = 0;
        while let Some(&i) = order.get(next) {
            order.extend(&self.children[i]);
            next += 1;
        }
        order
    }
}

/// Of those with the parent's pid the last that had started by then, unless it had ended again.
fn parent(origin: Origin, records: &[ProcessRecord], child: usize, of_pid: &[usize]) -> Option<usize> {
    // Where /proc tells of starts in ticks, a child may seem as old as its parent, but the earlier of two
    // that are alike in all is the parent, so that no circle arises.
    let age = |i: usize| (records[i].started_boottime_ns, i);
    let started = of_pid.partition_point(|&i| age(i) < age(child));
    let i = *of_pid.get(started.checked_sub(1)?)?;
    let born = origin.at_boottime(records[child].started_boottime_ns.unwrap_or(0));
    let ended = records[i].exited.map(|t| i64::try_from(origin.at(t).0).unwrap_or(i64::MAX));
    let alive = ended.is_none_or(|ended| ended.saturating_add(CLOCKS_DIFFER_NS) >= born);
    alive.then_some(i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ORIGIN, ObservationBuilder, ProcessBuilder};

    fn of(processes: Vec<ProcessBuilder>) -> Lineage {
        Lineage::of(ORIGIN, &ObservationBuilder::new().processes(processes).build().processes)
    }

    #[test]
    fn a_pid_that_was_used_again_has_the_children_of_its_own_time() {
        let l = of(vec![
            ProcessBuilder::new(10, 1, "first").exited(500),
            ProcessBuilder::new(20, 10, "of the first").forked(400),
            ProcessBuilder::new(10, 1, "second").forked(600),
            ProcessBuilder::new(21, 10, "of the second").forked(700),
            ProcessBuilder::new(22, 10, "of neither").forked(550),
        ]);
        assert_eq!([1, 3, 4].map(|i| l.parent(i)), [Some(0), Some(2), None]);
        assert_eq!((l.children(0), l.children(2)), (&[1][..], &[3][..]));
    }

    #[test]
    fn a_parent_that_ended_in_the_moment_of_its_fork_is_the_parent() {
        let l = of(vec![
            ProcessBuilder::new(10, 1, "daemonizes").forked(100).exited(200),
            ProcessBuilder::new(11, 10, "daemon").forked(200),
        ]);
        assert_eq!(l.parent(1), Some(0));
    }

    #[test]
    fn a_pid_that_cannot_be_seen_is_nobodys_parent() {
        let l = of(vec![ProcessBuilder::new(0, 0, "a"), ProcessBuilder::new(0, 0, "b").forked(5)]);
        assert_eq!((l.parent(0), l.parent(1)), (None, None));
    }

    #[test]
    fn parents_come_before_their_children_and_nobody_is_left_out() {
        let l = of(vec![
            ProcessBuilder::new(12, 11, "grandchild").forked(20),
            ProcessBuilder::new(11, 10, "child").forked(10),
            ProcessBuilder::new(10, 1, "root"),
            // Alike in every tick: no circle.
            ProcessBuilder::new(30, 31, "a").forked(50),
            ProcessBuilder::new(31, 30, "b").forked(50),
        ]);
        let order = l.downwards();
        let at = |i: usize| order.iter().position(|&o| o == i).unwrap();
        assert!(at(2) < at(1) && at(1) < at(0));
        assert_eq!(order.len(), 5);
    }
}
