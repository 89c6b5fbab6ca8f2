//! What the server's processes did, as a whole.
//!
//! Owns the labelled lines: target, tracker, counts, CPU, memory. The single processes are `table`'s. Called by
//! `text`.

use super::humanize::{bytes, count, duration, file_name, nanos, number, or_dash, precise};
use super::layout::{Ink, Page};
use super::table;
use crate::report::model::{
    Efficiency, PeakKind, ProcessCounts, Processes, ProcessesCpu, Report, Resources, SizeBy, Stat, Target,
    TargetKind, Tracker,
};

/// An error beyond this part of the figure is shown.
const ROUGH: f64 = 0.01;
/// The share of a set at rest is shown from this part on.
const IDLE_MATTERS: f64 = 0.05;

pub(super) fn processes(page: &mut Page, report: &Report) {
    page.heading("Server processes");
    let p = &report.processes;
    page.pair("target", &target(&report.target));
    if p.tracker == Tracker::None {
        let why = p.tracker_reason.as_deref().unwrap_or("there is no target");
        page.pair("CPU, memory", &format!("unknown: {why}"));
        return;
    }
    let (ink, tracker) = tracker(p, &report.target);
    page.pair_in(ink, "tracker", &tracker);
    page.pair("processes", &p.counts.as_ref().map_or_else(|| "unknown".to_owned(), counts));
    page.pair("CPU", &cpu(p, &report.resources.cpu_percent));
    let in_cgroup = report.target.cgroup.is_some() || p.cpu.cgroup_ns.is_some();
    if in_cgroup {
        let differs = report.validity.iter().any(|v| v.code == "cgroup_mismatch");
        page.pair_in(if differs { Ink::Warn } else { Ink::Plain }, "against the cgroup", &against(&p.cpu));
    }
    if report.load.is_some() {
        let over = if report.sweep.is_some() { "over all steps' windows" } else { "over the load's window" };
        page.pair("CPU a token", &efficiency(&report.efficiency, over));
    }
    memory(page, &report.resources, in_cgroup);
    page.pair("peak threads", &peak(&report.resources.threads, |n| format!("≥{}", count(n))));
    if !p.list.is_empty() {
        page.blank();
        table::table(page, p);
    }
}

fn target(target: &Target) -> String {
    let pids: Vec<String> = target.pids.iter().map(u32::to_string).collect();
    let pids = format!("pid{} {}", if pids.len() == 1 { "" } else { "s" }, pids.join(", "));
    let set = if target.descendants { "with all descendants" } else { "WITHOUT descendants" };
    let cgroup = target.cgroup.as_deref().unwrap_or("unknown");
    let how = &target.how_found;
    match target.kind {
        TargetKind::None => format!("none: {how}"),
        TargetKind::Tree => format!("{pids} {set} ({how})"),
        TargetKind::Cgroup => {
            let roots = if target.pids.is_empty() { String::new() } else { format!(", and {pids} {set}") };
            format!("every process in cgroup {cgroup} and below{roots} ({how})")
        }
        TargetKind::Exec => {
            let within = target.cgroup.as_deref().map(|c| format!(" in cgroup {c}")).unwrap_or_default();
            let ended = match (&target.exit, &target.exit_reason) {
                (Some(exit), _) => format!(": {}", table::status(exit)),
                (None, Some(why)) => format!(": its end is unknown, {why}"),
                (None, None) => String::new(),
            };
            format!("the command, {pids} {set}{within} ({how}){ended}")
        }
    }
}

fn tracker(p: &Processes, target: &Target) -> (Ink, String) {
    let name = match p.tracker {
        Tracker::Ebpf => "eBPF",
        Tracker::Proc => "/proc polling",
        Tracker::None => "none",
    };
    let reason = p.tracker_reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
    if !target.descendants {
        (Ink::Warn, format!("{name} of the given pid ALONE{reason}"))
    } else if p.complete {
        (Ink::Good, format!("{name}, complete{reason}"))
    } else {
        (Ink::Warn, format!("{name}, INCOMPLETE{reason}"))
    }
}

fn counts(c: &ProcessCounts) -> String {
    let some = |n: Option<u64>| n.filter(|n| *n > 0);
    let of = |name: &str, n: u64| {
        let at_least = if c.lower_bounds.iter().any(|bound| bound == name) { "≥" } else { "" };
        format!("{at_least}{}", count(n))
    };
    let moved_in = some(c.moved_in).map(|n| format!(" + {} moved in", count(n))).unwrap_or_default();
    let moved_out = some(c.moved_out).map(|n| format!(", {} moved out", count(n))).unwrap_or_default();
    let at_once = if c.lower_bounds.iter().any(|bound| bound == "peak_alive") { "least" } else { "most" };
    let mut text = format!(
        "{} seen: {} at the start + {} forked{moved_in}, {} ended{moved_out}; at {at_once} {} at once; {} never caught \
         by a sample",
        of("seen", c.seen),
        of("alive_at_start", c.alive_at_start),
        of("forks", c.forks),
        of("exits", c.exits),
        count(c.peak_alive),
        or_dash(c.short_lived, |n| of("short_lived", n)),
    );
    if some(c.lost_events).is_some() || c.unreadable > 0 {
        text.push_str(&format!(
            "; {} records lost, {} unreadable",
            or_dash(c.lost_events, count),
            count(c.unreadable)
        ));
    }
    if let Some(n) = some(c.lost.as_ref().map(|l| l.unlisted_processes)) {
        text.push_str(&format!("; {} not listed", count(n)));
    }
    if let Some(why) = &c.lower_bounds_reason {
        text.push_str(&format!(" (≥: {why})"));
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
    let at_least = if cpu.lower_bound_reason.is_some() { "≥" } else { "" };
    let rough = cpu.error_ns.filter(|error| *error as f64 > total as f64 * ROUGH);
    let rough = rough.map(|error| format!(" ± {}", nanos(error))).unwrap_or_default();
    let unseen = cpu.reaped_ns.filter(|ns| *ns > 0).map(|ns| {
        format!(", of which {} by children that no sample saw, from their parents' cutime", nanos(ns))
    });
    let unseen = unseen.unwrap_or_default();
    format!(
        "{at_least}{}{rough} ({}, {}; {} by processes that ended{unseen}); {busy}",
        nanos(total),
        part(cpu.user_ns, "user"),
        part(cpu.system_ns, "system"),
        or_dash(cpu.exited_ns, nanos),
    )
}

/// The set's CPU beside the cgroup's own figure, and why the two differ where the kernel makes them.
fn against(cpu: &ProcessesCpu) -> String {
    let reason = cpu.reconciliation_reason.as_deref();
    let (Some(set), Some(cgroup)) = (cpu.total_ns, cpu.cgroup_ns) else {
        return format!("unknown: {}", reason.unwrap_or("not read"));
    };
    let file = cpu.cgroup_file.as_deref().map_or("the cgroup", file_name);
    let both = format!("{} by the set, {} by {file}", precise(set), precise(cgroup));
    let Some(apart) = cpu.reconciliation_error_pct.map(f64::abs) else {
        return format!("{both}, not to be compared: {}", reason.unwrap_or("no reason given"));
    };
    let apart = if apart > 0.0 && apart < 0.05 { "<0.1".to_owned() } else { format!("{apart:.1}") };
    let why = match cpu.cgroup_overhead_ns {
        // Where it explains next to nothing, it would only mislead.
        Some(overhead) if cgroup > set && overhead.saturating_mul(10) >= cgroup - set => format!(
            " (the kernel charges 0.3–1.6 µs a process and some 7 µs a thread to the cgroup that no process's own \
             figure has: up to {} here)",
            nanos(overhead)
        ),
        _ => String::new(),
    };
    format!("{both}: {apart}% apart{why}")
}

fn efficiency(e: &Efficiency, over: &str) -> String {
    match (e.cpu_ns_per_token, e.cpu_ns_per_request) {
        (None, None) => format!("unknown: {}", e.cpu_reason.as_deref().unwrap_or("not measured")),
        (token, request) => {
            let rough = e.cpu_ns_per_token_error.zip(token).filter(|(error, token)| *error > token * ROUGH);
            let rough = rough.map(|(error, _)| format!(" ± {}", duration(error))).unwrap_or_default();
            let at_rest =
                e.cpu_idle_ns_per_token.zip(token).filter(|(idle, token)| *idle >= token * IDLE_MATTERS);
            let at_rest = at_rest.map(|(idle, token)| {
                let share = number((idle / token * 100.0).min(100.0));
                format!(
                    "; {} of a token's ({share}%) is what the set used at rest before the load",
                    duration(idle)
                )
            });
            format!(
                "{}{rough}, {} a request, {over}{}",
                or_dash(token, duration),
                or_dash(request, duration),
                at_rest.unwrap_or_default()
            )
        }
    }
}

/// Three answers to how much memory it takes, each with its question. What a sample saw is a lower bound; what to
/// size memory by is said of the one that is more, if any.
fn memory(page: &mut Page, r: &Resources, in_cgroup: bool) {
    page.pair("peak RSS", &peak_rss(r));
    page.pair("peak PSS", &peak(&r.pss_bytes, |v| peak_pss(r, v)));
    if !in_cgroup {
        return;
    }
    let reason = r.memory_peak_reason.as_deref();
    let since = match r.size_memory_by {
        Some(SizeBy::CgroupPeakOfRun) => "of the run: the number to size memory by",
        Some(SizeBy::CgroupPeakOfLife) => "since the cgroup was made: the number to size memory by",
        _ => "since the cgroup was made",
    };
    let limit = r.memory_limit_bytes.map(|n| format!(" of {} allowed", bytes(n as f64))).unwrap_or_default();
    let text = match r.memory_peak_bytes {
        Some(n) => format!(
            "{}{limit} by {}: page cache and kernel memory included, {since}{}",
            bytes(n as f64),
            r.memory_peak_source.as_deref().map_or("its own account", file_name),
            reason.map(|r| format!("; {r}")).unwrap_or_default()
        ),
        None => format!("unknown: {}", reason.unwrap_or("not read")),
    };
    page.pair("cgroup's peak", &text);
}

fn peak_rss(r: &Resources) -> String {
    // One process alone shares with nobody in the set.
    let summed = r.processes.max.is_some_and(|n| n > 1);
    let note = if summed { ", summed: pages that forked processes share count once for each" } else { "" };
    let sampled = r.rss_bytes.max.map(|n| bytes(n as f64));
    let (Some(peak), Some(sampled)) = (r.peak_rss_bytes.map(|n| bytes(n as f64)), sampled) else {
        return format!("unknown: {}", r.rss_bytes.reason.as_deref().unwrap_or("not sampled"));
    };
    match (r.peak_rss_kind, r.peak_rss_pid) {
        (Some(PeakKind::Exact), Some(pid)) => format!("{peak} since the start of pid {pid}"),
        (_, Some(pid)) => format!("≥{peak}: what pid {pid} alone held; samples saw {sampled} at most{note}"),
        (_, None) => format!("≥{peak}, the most that a sample saw{note}"),
    }
}

fn peak_pss(r: &Resources, pss: u64) -> String {
    let pages = "pages divided among those that share them";
    if r.size_memory_by == Some(SizeBy::PssAtPeakRss) {
        return format!(
            "{}, {pages}, read at the peak of RSS: the number to size memory by",
            bytes(pss as f64)
        );
    }
    let (read, samples) = (count(r.pss_bytes.count), count(r.rss_bytes.count));
    format!("≥{}, {pages} (read in {read} of {samples} samples)", bytes(pss as f64))
}

fn peak(stat: &Stat<u64>, show: impl FnOnce(u64) -> String) -> String {
    stat.max.map_or_else(|| format!("unknown: {}", stat.reason.as_deref().unwrap_or("not sampled")), show)
}
