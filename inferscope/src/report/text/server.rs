//! What the server's processes did, as a whole.
//!
//! Owns the labelled lines: target, tracker, counts, CPU, memory. The single processes are `table`'s. Called by
//! `text`.

use super::humanize::{bytes, count, duration, nanos, number, or_dash};
use super::layout::{Ink, Page};
use super::table;
use crate::report::model::{Efficiency, Processes, Report, Stat, Target, TargetKind, Tracker};

pub(super) fn processes(page: &mut Page, report: &Report) {
    page.heading("Server processes");
    let p = &report.processes;
    page.pair("target", &target(&report.target));
    if p.tracker == Tracker::None {
        let why = p.tracker_reason.as_deref().unwrap_or("there is no target");
        page.pair("CPU, memory", &format!("unknown: {why}"));
        return;
    }
    let (ink, tracker) = tracker(p);
    page.pair_in(ink, "tracker", &tracker);
    page.pair("processes", &counts(p));
    page.pair("CPU", &cpu(p, &report.resources.cpu_percent));
    page.pair("CPU a token", &efficiency(&report.efficiency));
    let r = &report.resources;
    page.pair(
        "peak RSS",
        &peak(&r.rss_bytes, |v| {
            // One process alone shares with nobody in the set.
            let summed = r.processes.max.is_some_and(|n| n > 1.0);
            let note =
                if summed { ", summed: pages that forked processes share count once for each" } else { "" };
            format!("{}{note}", bytes(v))
        }),
    );
    page.pair("peak threads", &peak(&r.threads, |v| count(v as u64)));
    if !p.list.is_empty() {
        page.blank();
        table::table(page, p);
    }
}

fn target(target: &Target) -> String {
    if target.kind == TargetKind::None {
        return format!("none: {}", target.how_found);
    }
    let pids: Vec<String> = target.pids.iter().map(u32::to_string).collect();
    let pids = format!("pid{} {}", if pids.len() == 1 { "" } else { "s" }, pids.join(", "));
    let set = if target.descendants { "with all descendants" } else { "WITHOUT descendants" };
    format!("{pids} {set} ({})", target.how_found)
}

fn tracker(p: &Processes) -> (Ink, String) {
    let name = match p.tracker {
        Tracker::Ebpf => "eBPF",
        Tracker::Proc => "/proc polling",
        Tracker::None => "none",
    };
    let reason = p.tracker_reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
    if p.complete {
        (Ink::Good, format!("{name}, complete{reason}"))
    } else {
        (Ink::Warn, format!("{name}, INCOMPLETE{reason}"))
    }
}

fn counts(p: &Processes) -> String {
    let Some(c) = &p.counts else { return "unknown".to_owned() };
    let mut text = format!(
        "{} seen: {} at the start + {} forked, {} ended; at most {} at once; {} never caught by a sample",
        count(c.seen),
        count(c.alive_at_start),
        count(c.forks),
        count(c.exits),
        count(c.peak_alive),
        count(c.short_lived),
    );
    if c.lost_events > 0 || c.unreadable > 0 {
        text.push_str(&format!(
            "; {} records lost, {} unreadable",
            count(c.lost_events),
            count(c.unreadable)
        ));
    }
    text
}

fn cpu(p: &Processes, percent: &Stat) -> String {
    let cpu = &p.cpu;
    let Some(total) = cpu.total_ns else { return "unknown".to_owned() };
    let part = |ns: Option<u64>, what: &str| format!("{} {what}", or_dash(ns, nanos));
    let busy = match percent.mean {
        Some(mean) => format!(
            "{} CPUs busy on average, {} at most",
            number(mean / 100.0),
            or_dash(percent.max, |m| number(m / 100.0))
        ),
        None => format!("over time unknown: {}", percent.reason.as_deref().unwrap_or("not sampled")),
    };
    format!(
        "{} ({}, {}; {} by processes that ended); {busy}",
        nanos(total),
        part(cpu.user_ns, "user"),
        part(cpu.system_ns, "system"),
        or_dash(cpu.exited_ns, nanos),
    )
}

fn efficiency(e: &Efficiency) -> String {
    match (e.cpu_ns_per_token, e.cpu_ns_per_request) {
        (None, None) => format!("unknown: {}", e.cpu_reason.as_deref().unwrap_or("not measured")),
        (token, request) => format!("{}, {} a request", or_dash(token, duration), or_dash(request, duration)),
    }
}

fn peak(stat: &Stat, show: impl FnOnce(f64) -> String) -> String {
    stat.max.map_or_else(|| format!("unknown: {}", stat.reason.as_deref().unwrap_or("not sampled")), show)
}
