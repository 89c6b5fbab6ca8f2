//! Whose program a fork runs.
//!
//! Owns the way up from a process that executed nothing, and of which no look told what it runs, to the ancestor whose program it
//! runs: its parent's as of the fork, as far as nobody has executed another since. An ancestor whose account is closed is remembered as
//! long as an open account names it. A part of `table`.

use std::collections::HashMap;

use super::Table;
use super::entry::Entry;
use crate::event::Program;

/// Closed parents of open accounts.
pub(super) type Ancestors = HashMap<usize, Ancestor>;

pub(super) struct Ancestor {
    program: Option<Program>,
    execs: u32,
    children: u32,
}

impl Table {
    /// The member that forked `i`, and how many programs that had executed by then.
    pub(super) fn set_forked_by(&mut self, i: usize, forked_by: Option<(usize, u32)>) {
        if let Some(parent) = forked_by.and_then(|(p, _)| self.entries.get_mut(&p)) {
            parent.children += 1;
        }
        if let Some(entry) = self.entries.get_mut(&i) {
            entry.forked_by = forked_by;
        }
    }

    /// For an account that is being closed, and has left the open ones. One that no sample has seen is left without a program: in a
    /// storm that would be a copy for each.
    pub(super) fn settle_program(&mut self, i: usize, entry: &mut Entry) {
        let was_sampled = entry.record().times_sampled > 0;
        if was_sampled || entry.children > 0 {
            let own = entry.program();
            let inherited = if own.is_none() { self.runs_as(entry) } else { None };
            if entry.children > 0 {
                let (program, execs) = (own.or_else(|| inherited.clone()), entry.record().execs);
                self.ancestors.insert(i, Ancestor { program, execs, children: entry.children });
            }
            entry.account.inherited = inherited.filter(|_| was_sampled);
        }
        if let Some((parent, _)) = entry.forked_by {
            self.release_parent(parent);
        }
    }

    fn runs_as(&self, entry: &Entry) -> Option<Program> {
        let mut forked_by = entry.forked_by.filter(|_| entry.record().execs == 0);
        loop {
            let (parent, execs) = forked_by?;
            let Some(entry) = self.entries.get(&parent) else {
                let closed = self.ancestors.get(&parent).filter(|ancestor| ancestor.execs == execs)?;
                return closed.program.clone();
            };
            if entry.record().execs != execs {
                return None;
            }
            if let Some(program) = entry.program() {
                return Some(program);
            }
            forked_by = entry.forked_by.filter(|_| execs == 0);
        }
    }

    fn release_parent(&mut self, parent: usize) {
        if let Some(parent) = self.entries.get_mut(&parent) {
            parent.children = parent.children.saturating_sub(1);
        } else if let Some(ancestor) = self.ancestors.get_mut(&parent) {
            ancestor.children = ancestor.children.saturating_sub(1);
            if ancestor.children == 0 {
                self.ancestors.remove(&parent);
            }
        }
    }
}
