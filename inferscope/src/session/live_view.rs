//! What is shown of a run while it runs.
//!
//! Owns the trait of live views: the bar is one. Called by whoever has the latest snapshot to show.

use crate::aggregate::Snapshot;
use crate::clock::Mono;

/// From a snapshot, which is provisional, to a text. Pure: the time is an argument.
pub(super) trait LiveView {
    fn render(&self, snapshot: &Snapshot, now: Mono) -> String;
}
