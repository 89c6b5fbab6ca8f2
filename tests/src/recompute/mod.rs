//! A second reckoning of a report's figures, from the report's own lists.
//!
//! Owns the definitions as this package understands them (docs/contract.md, `timing.definitions`), written anew: it shares
//! no code with what it judges, and reads nothing but the JSON document. Every number of the report is either recomputed
//! here, or named with the reason why the lists don't tell it; a number that is neither is a finding of its own.
//! Called by `it/report/recompute.rs`.

mod book;
mod dist;
mod efficiency;
mod energy;
mod gpus;
mod in_flight;
mod left_out;
mod load;
mod processes;
mod request;
mod resources;
mod steps;
mod timing;
mod window;

use serde_json::Value;

pub use book::{Difference, Outcome};

use book::Book;
use load::Load;

/// Recomputes all that can be.
///
/// # Panics
/// When the document is no report at all.
#[must_use]
pub fn recompute(report: &Value) -> Outcome {
    assert_eq!(report["schema_version"], 1, "no report: {report}");
    let mut book = Book::new(report);
    let load = Load::of(report);
    if let Some(load) = &load {
        load::check(&mut book, load);
        steps::check(&mut book, load);
    }
    processes::check(&mut book);
    resources::check(&mut book);
    let windows = load.as_ref().map(Load::windows);
    gpus::check(&mut book, windows.as_deref());
    efficiency::check(&mut book, load.as_ref());
    dist::check_own(&mut book);
    book.close()
}
