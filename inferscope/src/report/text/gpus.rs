//! What the devices did.
//!
//! Owns the lines of the GPUs. Called by `text`.

use super::humanize::{bytes, number};
use super::layout::{Ink, Page};
use crate::report::model::{Gpu, Report, Stat};

pub(super) fn gpus(page: &mut Page, report: &Report) {
    page.heading("GPUs");
    if report.gpus.is_empty() {
        page.note(
            Ink::Plain,
            &format!("none: {}", report.gpus_reason.as_deref().unwrap_or("no reason given")),
        );
    }
    for gpu in &report.gpus {
        let name = gpu.name.as_deref().unwrap_or("unknown device");
        page.pair(&format!("{} {name}", gpu.index), &device(gpu));
    }
}

fn device(gpu: &Gpu) -> String {
    let of = |limit: Option<u64>, show: fn(f64) -> String| {
        limit.map_or(String::new(), |l| format!(" of {}", show(l as f64)))
    };
    let watts = |mw: f64| format!("{} W", number(mw / 1_000.0));
    let stat = |name: &str, s: &Stat, show: fn(f64) -> String, limit: String| match (s.mean, s.max) {
        (Some(mean), Some(max)) => format!("{name} {} on average, {} at most{limit}", show(mean), show(max)),
        _ => format!("{name} unknown ({})", s.reason.as_deref().unwrap_or("not read")),
    };
    let used = match (gpu.used_by_target, gpu.target_memory_bytes) {
        (Some(true), Some(n)) => format!("used by the target, {} of memory", bytes(n as f64)),
        (Some(true), None) => "used by the target".to_owned(),
        (Some(false), _) => "not used by the target".to_owned(),
        (None, _) => {
            format!(
                "use by the target unknown ({})",
                gpu.used_by_target_reason.as_deref().unwrap_or("not told")
            )
        }
    };
    [
        used,
        stat("memory", &gpu.memory_used_bytes, bytes, of(gpu.limits.memory_bytes, bytes)),
        stat("SM", &gpu.sm_percent, |v| format!("{v:.0}%"), String::new()),
        stat("power", &gpu.power_mw, watts, of(gpu.limits.power_mw, watts)),
    ]
    .join("; ")
}
