//! From figures and findings to the model.
//!
//! Owns the rounding, which happens here once, and the words beside a `null`. One file a part of the model. Never computes a
//! figure. Called by `session`.

pub(crate) mod bottleneck;
pub(crate) mod cpu_cost;
mod device_report;
pub(crate) mod distribution;
pub(crate) mod energy;
pub(crate) mod gpu_samples;
pub(crate) mod gpus;
pub(crate) mod insights;
pub(crate) mod load;
pub(crate) mod processes;
mod report;
pub(crate) mod requests;
pub(crate) mod resources;
pub(crate) mod self_cost;
mod stat;
pub(crate) mod sweep;
pub(crate) mod timing;
pub(crate) mod validity;

pub(crate) use report::{Inputs, TargetFound, report};

/// The name that scripts look for.
fn code(code: impl serde::Serialize) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
