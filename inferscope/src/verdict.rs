//! From figures to findings: what makes a figure doubtful, what stands out, what limits the server.
//!
//! Owns the rules with their thresholds and words. Pure functions of [`figures`](crate::figures). Never computes a figure that a
//! reader may want to see, and never names a type of the report.

pub(crate) mod bottleneck;
pub(crate) mod devices;
pub mod doubt;
pub(crate) mod insights;
pub(crate) mod validity;
mod wrapper_warning;

use crate::event::GpuLog;
use crate::plan::Plan;

pub use wrapper_warning::idle_target;

/// What verdicts go by beside the figures.
pub(crate) struct RunFacts<'a> {
    pub(crate) plan: &'a Plan,
    /// The server is the built-in one.
    pub(crate) is_demo: bool,
    /// The target is a command that was started for the run.
    pub(crate) is_exec: bool,
    pub(crate) interrupted: bool,
    /// The plan's, or the one that the server lists.
    pub(crate) asked_model: Option<&'a str>,
    /// The pids of the target.
    pub(crate) roots: &'a [u32],
    pub(crate) descendants: bool,
    /// In words: why no process was observed.
    pub(crate) unobserved: &'a str,
    pub(crate) gpu: &'a GpuLog,
}
