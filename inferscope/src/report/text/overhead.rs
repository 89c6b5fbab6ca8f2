//! What this program itself cost, and how late it was.
//!
//! Owns the last section. Called by `text`.

use super::humanize::{bytes, count, counted, duration, nanos, number, or_dash};
use super::latencies::p99;
use super::layout::Page;
use crate::report::model::{Dist, Privileges, Report, SelfCost};

pub(super) fn overhead(page: &mut Page, report: &Report) {
    let own = &report.own;
    page.heading("inferscope itself");
    let unknown = || "unknown".to_owned();
    let cpu = own.cpu_ns.map_or_else(unknown, nanos);
    let rss = own.max_rss_bytes.map_or_else(unknown, |n| bytes(n as f64));
    let threads = own.threads.map(|n| format!(", {}", counted(n, "thread", "threads"))).unwrap_or_default();
    page.pair("cost", &format!("{cpu} of CPU, {rss} at peak{threads}"));
    if report.load.is_some() {
        client(page, own);
    }
    let kernel = match (own.bpf_run_ns, own.bpf_run_count) {
        (Some(ns), Some(runs)) => {
            let each = if runs > 0 {
                format!(" ({} each)", duration(ns as f64 / runs as f64))
            } else {
                String::new()
            };
            format!("{} in {} runs{each}", nanos(ns), count(runs))
        }
        _ => format!("unknown: {}", own.bpf_reason.as_deref().unwrap_or("not measured")),
    };
    page.pair("kernel program", &kernel);
    if let Some(privileges) = &own.privileges {
        page.pair("privileges", &in_force(privileges));
    }
}

/// What each thread could do, in the order in which that matters.
fn in_force(privileges: &Privileges) -> String {
    let threads = ["load", "observer", "gpu", "collector", "main", "janitor"];
    let of = |name: &str| {
        let thread = privileges.threads.get(name)?;
        let capabilities = match thread.effective.as_deref() {
            None => "not read".to_owned(),
            Some([]) => "none".to_owned(),
            Some(names) => {
                names.iter().map(|name| name.trim_start_matches("CAP_")).collect::<Vec<_>>().join("+")
            }
        };
        let filtered = if thread.seccomp { ", filtered" } else { "" };
        Some(format!("{name} {capabilities}{filtered}"))
    };
    let listed: Vec<String> = threads.into_iter().filter_map(of).collect();
    if listed.is_empty() { "not given up".to_owned() } else { listed.join("; ") }
}

/// The thread that sends and reads.
fn client(page: &mut Page, own: &SelfCost) {
    let busy = match (own.load_cpu_ns, own.load_cpu_percent) {
        (Some(cpu), Some(percent)) => format!("{} of CPU, {}% of its time", nanos(cpu), number(percent)),
        (Some(cpu), None) => format!("{} of CPU", nanos(cpu)),
        (None, _) => "unknown: it had no load".to_owned(),
    };
    page.pair("load thread", &busy);
    let read = own.read_lag_reason.as_deref();
    page.pair("read lag", &lag(own.read_lag_ns.as_ref(), read, ", from the kernel's receipt to the reading"));
    page.pair("timer lag", &lag(own.timer_lag_ns.as_ref(), None, ", of the load thread's own timer"));
}

fn lag(dist: Option<&Dist>, reason: Option<&str>, what: &str) -> String {
    match dist.map(|d| (d.p50, p99(d), d.max)) {
        Some((Some(p50), p99, Some(max))) => {
            format!("{} (p50), {} (p99), {} at most{what}", nanos(p50), or_dash(p99, nanos), nanos(max))
        }
        _ => {
            let reason = reason.or_else(|| dist?.reason.as_deref()).unwrap_or("not measured");
            format!("unknown: {reason}")
        }
    }
}
