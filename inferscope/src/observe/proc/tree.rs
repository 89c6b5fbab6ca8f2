//! The descendants of the members, for the /proc tracker.
//!
//! Pure, except for [`scan`].

use std::collections::HashSet;

use procfs::process::{Process, all_processes};

/// One process, with what membership needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    pub(crate) start_ticks: u64,
}

/// All processes. One that ends during the scan is left out.
pub(crate) fn scan() -> Vec<Node> {
    let Ok(all) = all_processes() else { return Vec::new() };
    let node = |process: Process| {
        let stat = process.stat().ok()?;
        Some(Node {
            pid: u32::try_from(stat.pid).ok()?,
            ppid: u32::try_from(stat.ppid).ok()?,
            start_ticks: stat.starttime,
        })
    };
    all.filter_map(Result::ok).filter_map(node).collect()
}

/// The `nodes` that descend from a member and are not members, parents before children. `own`, the tracer, is left out
/// with all its descendants: it would measure itself.
pub(crate) fn newcomers(nodes: &[Node], members: &HashSet<u32>, own: u32) -> Vec<Node> {
    let mut known = members.clone();
    let mut found = Vec::new();
    loop {
        let before = found.len();
        for node in nodes {
            if node.pid != own && known.contains(&node.ppid) && known.insert(node.pid) {
                found.push(*node);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_of_any_depth_are_found_whatever_the_order() {
        let node = |pid, ppid| Node { pid, ppid, start_ticks: 0 };
        let nodes = [node(30, 20), node(20, 10), node(10, 1), node(5, 30), node(99, 1)];
        let found: Vec<u32> = newcomers(&nodes, &HashSet::from([10]), 0).iter().map(|n| n.pid).collect();
        assert_eq!(found, [20, 30, 5]);
    }

    #[test]
    fn the_tracer_below_its_own_target_is_left_out_with_its_children() {
        let node = |pid, ppid| Node { pid, ppid, start_ticks: 0 };
        let nodes = [node(10, 1), node(20, 10), node(30, 20), node(40, 10)];
        let found: Vec<u32> = newcomers(&nodes, &HashSet::from([10]), 20).iter().map(|n| n.pid).collect();
        assert_eq!(found, [40]);
    }
}
