//! Processes beyond the list, by what they ran.
//!
//! Owns the sums of those that have no line: exact, whatever their number. Never a sum of some for a sum of all. A part of `set`.

use std::collections::HashMap;

use crate::event::{CpuTime, ProcessAccount};

use super::account::peak;

/// Names that are told apart; a process may call itself anything. Further ones are one.
pub(super) const MAX_COMMANDS: usize = 4_096;
/// The name of the further ones.
const OTHERS: &str = "";

/// By command name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FoldedProcesses(HashMap<String, CommandFold>);

/// All processes of one name that have no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommandFold {
    pub count: u64,
    pub ended: u64,
    /// No /proc sample caught them.
    pub never_sampled: u64,
    pub cpu: CpuTime,
    /// Those whose CPU is not known.
    pub cpu_unknown: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// The largest that is known of one of them, with no figure of an end where word of an exec may be lost.
    pub max_rss_bytes: Option<u64>,
}

impl FoldedProcesses {
    pub(super) fn add(&mut self, account: &ProcessAccount) {
        let record = &account.record;
        let has_room = self.0.len() < MAX_COMMANDS || self.0.contains_key(&record.comm);
        let name = if has_room { record.comm.as_str() } else { OTHERS };
        // Most names are known, so that nothing is allocated.
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), CommandFold::default());
        }
        let Some(fold) = self.0.get_mut(name) else { return };
        fold.count += 1;
        fold.ended += u64::from(record.exited.is_some());
        fold.never_sampled += u64::from(record.times_sampled == 0);
        match record.cpu {
            Some(cpu) => fold.cpu += cpu,
            None => fold.cpu_unknown += 1,
        }
        fold.minor_faults = fold.minor_faults.saturating_add(record.minor_faults.unwrap_or(0));
        fold.major_faults = fold.major_faults.saturating_add(record.major_faults.unwrap_or(0));
        let peak = peak(&account.rss, record.exited.is_some(), false);
        fold.max_rss_bytes = fold.max_rss_bytes.max(peak.bytes);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().map(|fold| fold.count).sum()
    }

    #[must_use]
    pub fn cpu(&self) -> CpuTime {
        let mut sum = CpuTime::default();
        for fold in self.0.values() {
            sum += fold.cpu;
        }
        sum
    }

    #[must_use]
    pub fn commands(&self) -> &HashMap<String, CommandFold> {
        &self.0
    }
}
