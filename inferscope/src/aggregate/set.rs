//! The process set: closed accounts, what happened when, and samples.
//!
//! Owns the bounded lists of a run and what lies beyond their bounds: processes fold into totals by command, events are counted,
//! samples are merged. Never knows who is a member now (`observe::table` does). Driven by `hub`'s collector.
//!
//! Bounds: as many processes as the plan lists, [`MAX_EVENTS`] events, [`MAX_SAMPLES`] samples, 4,096 names of commands.

mod account;
mod folded;

use crate::bounded_series::BoundedSeries;
use crate::clock::Mono;
use crate::event::{Observation, ProcessAccount, ProcessEvent, ProcessRecord, SetEnd, SetEvent, SetSample};

use super::Aggregate;

pub use folded::{CommandFold, FoldedProcesses};

pub const MAX_EVENTS: usize = 200_000;
/// An hour at 50 ms fits.
pub const MAX_SAMPLES: usize = 100_000;

/// What the events of the process set add up to.
#[derive(Debug)]
pub struct SetAggregate {
    #[expect(
        clippy::vec_box,
        reason = "an account of half a kilobyte moves as a pointer, from the table into the list"
    )]
    listed: Vec<Box<ProcessAccount>>,
    folded: FoldedProcesses,
    events: Vec<ProcessEvent>,
    unlisted_events: u64,
    samples: BoundedSeries<SetSample>,
    /// Kept as it is, whatever is merged before it.
    latest: Option<SetSample>,
    /// Where no end came, nothing is taken for told.
    end: SetEnd,
}

/// The lists and totals, or, in a snapshot, the totals alone.
#[derive(Debug, Clone, Default)]
pub struct SetPart {
    /// Later events may change any of it, counts only upwards.
    pub provisional: bool,
    /// Accounts that are closed, listed or not.
    pub closed: u64,
    /// Events so far, listed or not.
    pub happened: u64,
    pub latest: Option<SetSample>,
    pub folded: FoldedProcesses,
    /// Empty in a snapshot.
    pub lists: SetLists,
}

#[derive(Debug, Clone, Default)]
pub struct SetLists {
    /// In the order of births.
    pub processes: Vec<ProcessRecord>,
    pub events: Vec<ProcessEvent>,
    pub unlisted_events: u64,
    pub samples: Vec<SetSample>,
    pub samples_thinned: u64,
}

impl Default for SetAggregate {
    fn default() -> Self {
        Self::new()
    }
}

impl SetAggregate {
    #[must_use]
    pub fn new() -> Self {
        Self {
            listed: Vec::new(),
            folded: FoldedProcesses::default(),
            events: Vec::new(),
            unlisted_events: 0,
            samples: BoundedSeries::new(MAX_SAMPLES, |a, b| a.rss_bytes > b.rss_bytes),
            latest: None,
            end: SetEnd::default(),
        }
    }

    fn totals(&self, provisional: bool) -> SetPart {
        SetPart {
            provisional,
            closed: self.listed.len() as u64 + self.folded.count(),
            happened: self.events.len() as u64 + self.unlisted_events,
            latest: self.latest,
            folded: self.folded.clone(),
            lists: SetLists::default(),
        }
    }
}

impl Aggregate for SetAggregate {
    type Event = SetEvent;
    type Part = SetPart;
    type Finals = ();

    fn apply(&mut self, event: SetEvent) {
        match event {
            SetEvent::Changes(changes) => {
                let room = MAX_EVENTS.saturating_sub(self.events.len());
                self.unlisted_events += changes.len().saturating_sub(room) as u64;
                self.events.extend(changes.into_iter().take(room));
            }
            SetEvent::Closed(accounts) => {
                for account in accounts {
                    if account.listed {
                        self.listed.push(account);
                    } else {
                        self.folded.add(&account);
                    }
                }
            }
            SetEvent::Sample(sample) => {
                if let Some(before) = self.latest.replace(sample) {
                    self.samples.push(before);
                }
            }
            SetEvent::Ended(end) => self.end = end,
        }
    }

    /// The lists stay where they are: they may hold hundreds of megabytes.
    fn snapshot(&self, _now: Mono) -> SetPart {
        self.totals(true)
    }

    fn finish(mut self, (): &()) -> SetPart {
        let totals = self.totals(false);
        // A child that outlived its parent closed after it.
        self.listed.sort_by_key(|account| account.number);
        let (samples, samples_thinned) = self.samples.finish(self.latest);
        let processes = self.listed.into_iter().map(|a| account::complete(*a, self.end)).collect();
        let lists = SetLists {
            processes,
            events: self.events,
            unlisted_events: self.unlisted_events,
            samples,
            samples_thinned,
        };
        SetPart { lists, ..totals }
    }
}

impl SetPart {
    /// The observation with its lists, and with what has no line.
    #[must_use]
    pub fn complete(self, observation: Observation) -> Observation {
        let (mut loss, mut cpu_unlisted) = (observation.loss, observation.cpu_unlisted);
        loss.unlisted_processes = loss.unlisted_processes.saturating_add(self.folded.count());
        loss.unlisted_events = loss.unlisted_events.saturating_add(self.lists.unlisted_events);
        cpu_unlisted += self.folded.cpu();
        Observation {
            processes: self.lists.processes,
            events: self.lists.events,
            samples: self.lists.samples,
            samples_thinned: self.lists.samples_thinned,
            loss,
            cpu_unlisted,
            ..observation
        }
    }
}

#[cfg(test)]
mod tests;
