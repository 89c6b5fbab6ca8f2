//! What the events of a run add up to, while it runs.
//!
//! Owns the bounded state that events are applied to, one aggregate a concern. Never reads a clock, a file or a socket, never
//! judges, and never names a type of the report: parts hold [`Mono`], `Nanos`, counts and `f64`. Driven by
//! `hub`'s collector; what comes out is joined across sources by `figures`.

mod aggregates;
pub mod command;
pub mod devices;
pub mod load;
pub mod packages;
pub mod set;
pub mod slow_gaps;
pub mod timeline;

use crate::clock::Mono;

pub use aggregates::{Aggregates, Finals, Snapshot};

/// Takes in events as they come. Its memory does not grow with the run beyond the bounds that its module names.
pub trait Aggregate {
    type Event;
    /// The state as values that a view or `figures` can hold.
    type Part;
    /// What only the end of the run tells.
    type Finals;

    fn apply(&mut self, event: Self::Event);

    /// As of `now`, and provisional: later events may change any of it, counts only upwards.
    fn snapshot(&self, now: Mono) -> Self::Part;

    /// After the last event.
    fn finish(self, finals: &Self::Finals) -> Self::Part;
}
