//! What makes which figure of a device doubtful.
//!
//! Owns the codes and words. A part of `gpus`, called for the report's `validity`.

use crate::report::model::{Gpu, GpuSummary, Level, Validity};

/// A driver that takes longer for one call is told of.
const SLOW_CALL_NS: u64 = 50_000_000;

pub(in crate::analysis) fn doubts(gpus: &[Gpu], summary: Option<&GpuSummary>) -> Vec<Validity> {
    let mut all = Vec::new();
    let mut say = |level, code: &str, message: String| {
        all.push(Validity { level, code: code.to_owned(), message });
    };
    for gpu in gpus {
        let index = gpu.index;
        if let Some(ns) = gpu.lost_ns {
            say(
                Level::Warn,
                "gpu_lost",
                format!(
                    "device {index} was lost {:.2} s into the run, and its figures end there: {}; {}",
                    ns as f64 / 1e9,
                    gpu.lost_reason.as_deref().unwrap_or("no reason given"),
                    remedy(gpu.lost_reason.as_deref())
                ),
            );
        }
        for away in &gpu.interruptions {
            say(
                Level::Warn,
                "gpu_interrupted",
                format!(
                    "device {index} was away from {:.2} to {:.2} s ({}): no energy is known of a load that meets that \
                     time, and its other figures have a gap",
                    away.from_ns as f64 / 1e9,
                    away.to_ns as f64 / 1e9,
                    away.reason
                ),
            );
        }
        // Of interest where the figures would be the target's.
        if gpu.used_by_target == Some(true) && !gpu.shared_with.is_empty() {
            say(
                Level::Warn,
                "gpu_shared",
                format!(
                    "device {index} was also used by {} of others: its utilisation, power and energy are theirs too",
                    match gpu.shared_with.len() {
                        1 => "a process".to_owned(),
                        n => format!("{n} processes"),
                    }
                ),
            );
        }
        if gpu.used_by_target == Some(true) && gpu.at_rest == Some(false) {
            say(
                Level::Warn,
                "gpu_not_at_rest",
                format!(
                    "{}: its power at rest is unknown, and so is what the load drew above it; wait until nothing computes on \
                     it, or name another device with --gpu",
                    gpu.idle_power_reason.as_deref().map_or_else(
                        || format!("device {index} was not at rest before the load"),
                        |why| why.replacen("the device", &format!("device {index}"), 1)
                    )
                ),
            );
        }
        // Of a device that was away that is said already.
        let was_there = gpu.lost_ns.is_none() && gpu.interruptions.is_empty();
        for (query, failed) in gpu.failed_queries.iter().filter(|_| was_there) {
            say(
                Level::Warn,
                "gpu_query_failed",
                format!("device {index} did not answer {query} {} times: {}", failed.count, failed.reason),
            );
        }
        for (what, n) in &gpu.dropped_values {
            say(
                Level::Ok,
                "gpu_values_dropped",
                format!(
                    "{n} values of device {index} could not be true and were dropped: {}",
                    what.replace('_', " ")
                ),
            );
        }
    }
    let poll = summary.map(|s| &s.poll);
    if let Some((call, ns)) = poll.and_then(|p| p.hanging_call.as_ref().zip(p.hanging_since_ns)) {
        say(
            Level::Warn,
            "gpu_driver_hangs",
            format!(
                "the driver did not come back from {call}, called {:.2} s into the run: the devices' figures end there; see \
                 the kernel's log (dmesg, NVRM and Xid lines)",
                ns as f64 / 1e9
            ),
        );
    }
    if let Some((call, ns)) = poll.and_then(|p| p.slowest_call.as_ref().zip(p.slowest_call_ns))
        && ns > SLOW_CALL_NS
    {
        say(
            Level::Ok,
            "gpu_driver_slow",
            format!(
                "the driver took up to {:.0} ms for a call ({call}): slow queries were made less often",
                ns as f64 / 1e6
            ),
        );
    }
    all
}

/// What to do about a device that does not come back.
fn remedy(reason: Option<&str>) -> &'static str {
    if reason.is_some_and(|words| words.contains("mismatch")) {
        "the driver was replaced under its library: restart inferscope's container, or the machine"
    } else {
        "see the kernel's log (dmesg, NVRM and Xid lines)"
    }
}
