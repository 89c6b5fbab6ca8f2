//! The table of processes.
//!
//! Owns which process gets a line and what is folded into one. Called by `server`.

use std::collections::BTreeMap;

use super::humanize::{UNKNOWN, bytes, count, nanos, or_dash, share};
use super::layout::{Align, Page};
use crate::report::model::{Process, Processes, Role};

/// Processes with a line of their own; helpers never have one.
const LISTED: usize = 8;
/// Lines for the folded rest, by role and command.
const GROUPS: usize = 6;

/// The processes that used most CPU, then everything else folded by role and command.
pub(super) fn table(page: &mut Page, p: &Processes) {
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
