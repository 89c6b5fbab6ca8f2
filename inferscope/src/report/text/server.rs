//! What the server's processes and devices did.
//!
//! Owns the table of processes and what is folded into one of its lines. Called by `text`.

use std::collections::BTreeMap;

use super::humanize::{UNKNOWN, bytes, count, duration, nanos, number, or_dash, share};
use super::layout::{Align, Ink, Page};
use crate::report::model::{
    Efficiency, Gpu, Process, Processes, Report, Role, Stat, Target, TargetKind, Tracker,
};

/// Processes with a line of their own; helpers never have one.
const LISTED: usize = 8;
/// Lines for the folded rest, by role and command.
const GROUPS: usize = 6;

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
        table(page, p);
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

/// The processes that used most CPU, then everything else folded by role and command.
fn table(page: &mut Page, p: &Processes) {
    let total = p.cpu.total_ns.unwrap_or(0);
    let (helpers, mut lasting): (Vec<&Process>, Vec<&Process>) =
        p.list.iter().partition(|p| p.role == Role::Helper);
    lasting.sort_by_key(|p| (std::cmp::Reverse(cpu_ns(p)), p.pid));
    let rest = lasting.split_off(lasting.len().min(LISTED));
    let mut rows: Vec<Vec<String>> = lasting.iter().map(|p| row(p, total)).collect();
    rows.extend(folded(rest.into_iter().chain(helpers), total));
    let right = |title| (title, Align::Right);
    let left = |title| (title, Align::Left);
    let header = [
        right("pid"),
        left("role"),
        left("command"),
        right("CPU"),
        right("share"),
        right("peak RSS"),
        right("threads"),
        right("started"),
        left("ended"),
    ];
    page.table(&header, &rows);
}

fn row(p: &Process, total: u64) -> Vec<String> {
    let cpu = cpu_ns(p);
    let started = or_dash(p.started_ns, |ns| {
        u64::try_from(ns).map_or("before".to_owned(), |ns| format!("+{}", nanos(ns)))
    });
    vec![
        p.pid.to_string(),
        role(p.role).to_owned(),
        p.comm.clone(),
        or_dash(cpu, nanos),
        or_dash(cpu.and_then(|cpu| share(cpu, total)), |s| s),
        or_dash(p.max_rss_bytes, |n| bytes(n as f64)),
        or_dash(p.peak_threads, |n| n.to_string()),
        started,
        ended(p),
    ]
}

fn ended(p: &Process) -> String {
    match (p.exited_ns, &p.exit) {
        (None, _) => "alive".to_owned(),
        (Some(_), Some(exit)) => match (exit.code, exit.signal) {
            (_, Some(signal)) => format!("signal {signal}"),
            (Some(code), _) => format!("exit {code}"),
            (None, None) => "ended".to_owned(),
        },
        (Some(_), None) => "ended".to_owned(),
    }
}

/// One line of the table that stands for many processes.
#[derive(Default)]
struct Group<'a> {
    first: Option<&'a Process>,
    processes: u64,
    cpu_ns: u64,
    cpu_unknown: u64,
    max_rss_bytes: Option<u64>,
    peak_threads: Option<u32>,
}

impl<'a> Group<'a> {
    fn add(&mut self, p: &'a Process) {
        self.first = self.first.or(Some(p));
        self.processes += 1;
        match cpu_ns(p) {
            Some(ns) => self.cpu_ns = self.cpu_ns.saturating_add(ns),
            None => self.cpu_unknown += 1,
        }
        self.max_rss_bytes = self.max_rss_bytes.max(p.max_rss_bytes);
        self.peak_threads = self.peak_threads.max(p.peak_threads);
    }

    fn merge(&mut self, other: &Group<'_>) {
        self.processes += other.processes;
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.cpu_unknown += other.cpu_unknown;
        self.max_rss_bytes = self.max_rss_bytes.max(other.max_rss_bytes);
        self.peak_threads = self.peak_threads.max(other.peak_threads);
    }

    fn row(&self, role: &str, command: &str, total: u64) -> Vec<String> {
        if let Some(only) = self.first.filter(|_| self.processes == 1) {
            return row(only, total);
        }
        // A sum without some of its parts is a lower bound; without any it is unknown.
        let cpu = match self.cpu_unknown {
            0 => nanos(self.cpu_ns),
            n if n == self.processes => UNKNOWN.to_owned(),
            _ => format!("≥{}", nanos(self.cpu_ns)),
        };
        let share = share(self.cpu_ns, total).filter(|_| self.cpu_unknown == 0);
        vec![
            format!("{} ×", count(self.processes)),
            role.to_owned(),
            command.to_owned(),
            cpu,
            or_dash(share, |s| s),
            or_dash(self.max_rss_bytes, |n| format!("≤{}", bytes(n as f64))),
            or_dash(self.peak_threads, |n| format!("≤{n}")),
        ]
    }
}

fn folded<'a>(processes: impl Iterator<Item = &'a Process>, total: u64) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<(&str, &str), Group<'a>> = BTreeMap::new();
    for p in processes {
        groups.entry((role(p.role), &p.comm)).or_default().add(p);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(name, g)| (std::cmp::Reverse((g.cpu_ns, g.processes)), *name));
    let rest = groups.split_off(groups.len().min(GROUPS));
    let mut rows: Vec<_> = groups.iter().map(|((role, comm), g)| g.row(role, comm, total)).collect();
    if !rest.is_empty() {
        let mut all = Group::default();
        rest.iter().for_each(|(_, g)| all.merge(g));
        rows.push(all.row("", &format!("({} others)", rest.len()), total));
    }
    rows
}

fn cpu_ns(p: &Process) -> Option<u64> {
    Some(p.cpu_user_ns?.saturating_add(p.cpu_system_ns?))
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Root => "root",
        Role::Wrapper => "wrapper",
        Role::Arbiter => "arbiter",
        Role::Worker => "worker",
        Role::Helper => "helper",
    }
}

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
