//! inferscope: the profiler for LLM inference servers.
//!
//! The tree shows the data flow: [`cli`] parses, [`plan`] validates, [`session`] spawns the sources
//! ([`load`] and [`observe`]; a command to observe is started by [`launch`]), which send an [`event`] stream through the
//! [`hub`]; [`aggregate`] adds it up, [`figures`] and [`verdict`] say what it means, [`report`] turns that into bytes. ARCHITECTURE.md tells why.

// Text that bypasses `console` is not cleaned and does not survive a full disk.
#![deny(clippy::print_stderr, clippy::print_stdout, clippy::dbg_macro)]

pub mod aggregate;
mod bounded_series;
pub mod clean;
pub mod cli;
pub mod clock;
pub mod console;
pub mod demo;
pub mod doctor;
pub mod event;
pub mod figures;
#[cfg(test)]
pub(crate) mod fixture;
pub mod hub;
pub mod launch;
pub mod load;
pub mod observe;
pub mod plan;
pub mod privilege;
pub mod reason;
pub mod report;
pub mod secrets;
pub mod session;
pub mod signals;
pub mod units;
pub mod verdict;
