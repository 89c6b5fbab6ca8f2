//! From what the aggregates hold to what can be said: the figures, joined across sources by time.
//!
//! Owns every derived figure, as `f64`, `Nanos` and [`Known`](crate::reason::Known), with its error. Never rounds, never words a
//! finding (`verdict` does), never names a type of the report. Called with the aggregates' parts, at the end of a run or on a
//! snapshot.

pub(crate) mod client;
pub(crate) mod cost;
pub(crate) mod cpu_cost;
pub(crate) mod devices;
pub(crate) mod energy;
pub mod load;
pub(crate) mod set;
pub(crate) mod stat;
