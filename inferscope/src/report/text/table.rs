//! The table of processes.
//!
//! Owns which process gets a line and what is folded into one: the recycled workers of a slot where there
//! are many, everything else that used little by its command. Called by `processes`.

use std::collections::{BTreeMap, HashMap};

use super::humanize::{UNKNOWN, bytes, count, nanos, or_dash, share, signal};
use super::layout::{Align, Page};
use crate::report::model::{Exit, Process, Processes, Role};

/// Processes, or slots, with a line of their own; helpers never have one.
const LISTED: usize = 8;
/// Lines for the folded rest, by role and command.
const GROUPS: usize = 6;

pub(super) fn table(page: &mut Page, p: &Processes) {
    let total = p.cpu.total_ns.unwrap_or(0);
    let recycled = p.list.iter().any(|p| p.generation.is_some_and(|g| g > 0));
    let (helpers, lasting): (Vec<&Process>, Vec<&Process>) =
        p.list.iter().partition(|p| p.role == Role::Helper);
    let mut lines = if recycled && lasting.len() > LISTED { by_slot(lasting) } else { one_each(lasting) };
    lines.sort_by_key(|g| (std::cmp::Reverse(g.known_cpu()), g.first().map(|p| p.pid)));
    let rest = lines.split_off(lines.len().min(LISTED));
    let rest = rest.into_iter().flat_map(|g| g.members).chain(helpers);
    let mut rows: Vec<Vec<String>> = lines.iter().map(|g| g.line(recycled, total)).collect();
    rows.extend(folded(rest, recycled, total));
    if let Some(ns) = p.cpu.unlisted_ns.filter(|ns| *ns > 0) {
        let share = or_dash(share(ns, total), |s| s);
        rows.push(vec![UNKNOWN.to_owned(), String::new(), "(in no line)".to_owned(), nanos(ns), share]);
    }
    let right = |title| (title, Align::Right);
    let left = |title| (title, Align::Left);
    let header = [
        right("pid"),
        left("role"),
        ("command", Align::Elastic),
        right("CPU"),
        right("share"),
        right("peak RSS"),
        right("threads"),
        right("started"),
        left("ended"),
    ];
    page.table(&header, &rows);
}

/// Processes that are one line of the table.
#[derive(Default)]
struct Group<'a> {
    /// In the order of the list, which is that of birth.
    members: Vec<&'a Process>,
}

impl<'a> Group<'a> {
    fn first(&self) -> Option<&'a Process> {
        self.members.first().copied()
    }

    fn known_cpu(&self) -> u64 {
        self.members.iter().filter_map(|p| cpu_ns(p)).fold(0, u64::saturating_add)
    }

    /// One process, or the processes that filled a slot one after another.
    fn line(&self, recycled: bool, total: u64) -> Vec<String> {
        match self.members[..] {
            [only] => row(only, recycled, total),
            [first, .., last] => {
                let role = match (first.slot, first.generation, last.generation) {
                    (Some(slot), Some(from), Some(to)) => {
                        format!("{} #{slot} gen {from}–{to}", role(first.role))
                    }
                    _ => role(first.role).to_owned(),
                };
                let mut row = self.row(&role, &last.comm, total);
                row.extend([started(first), ended(last)]);
                row
            }
            [] => Vec::new(),
        }
    }

    /// The sums of many, without a beginning and an end.
    fn row(&self, role: &str, command: &str, total: u64) -> Vec<String> {
        let unknown = self.members.iter().filter(|p| cpu_ns(p).is_none()).count();
        // A sum without some of its parts is a lower bound; without any it is unknown.
        let cpu = match unknown {
            0 if self.members.iter().all(|p| !p.cpu_at_least) => nanos(self.known_cpu()),
            n if n == self.members.len() => UNKNOWN.to_owned(),
            _ => format!("≥{}", nanos(self.known_cpu())),
        };
        let share = share(self.known_cpu(), total).filter(|_| unknown == 0);
        let at_most = self.members.iter().map(|p| at_most(p)).collect::<Option<Vec<u64>>>();
        let at_least = || self.members.iter().filter_map(|p| p.max_rss_bytes).max();
        let peak = match at_most.and_then(|of_each| of_each.into_iter().max()) {
            Some(n) => format!("≤{}", bytes(n as f64)),
            None => or_dash(at_least(), |n| format!("≥{}", bytes(n as f64))),
        };
        let peak_threads = self.members.iter().filter_map(|p| p.peak_threads).max();
        vec![
            format!("{} ×", count(self.members.len() as u64)),
            role.to_owned(),
            command.to_owned(),
            cpu,
            or_dash(share, |s| s),
            peak,
            or_dash(peak_threads, |n| format!("≤{n}")),
        ]
    }
}

fn one_each(processes: Vec<&Process>) -> Vec<Group<'_>> {
    processes.into_iter().map(|p| Group { members: vec![p] }).collect()
}

/// The workers of a slot together, everything else alone.
fn by_slot(processes: Vec<&Process>) -> Vec<Group<'_>> {
    let mut at: HashMap<(u32, u32), usize> = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for p in processes {
        let next = groups.len();
        let i = p.slot.map_or(next, |slot| *at.entry((p.ppid, slot)).or_insert(next));
        if i == next {
            groups.push(Group::default());
        }
        groups[i].members.push(p);
    }
    groups
}

fn row(p: &Process, recycled: bool, total: u64) -> Vec<String> {
    let cpu = cpu_ns(p);
    let role = match (p.slot, p.generation) {
        (Some(slot), Some(generation)) if recycled => format!("{} #{slot} gen {generation}", role(p.role)),
        _ => role(p.role).to_owned(),
    };
    // 0: it is outside of the tracer's pid namespace.
    let pid = Some(p.pid).filter(|pid| *pid != 0);
    vec![
        or_dash(pid, |pid| pid.to_string()),
        role,
        p.comm.clone(),
        or_dash(cpu, |ns| format!("{}{}", if p.cpu_at_least { "≥" } else { "" }, nanos(ns))),
        or_dash(cpu.and_then(|cpu| share(cpu, total)), |s| s),
        peak_rss(p),
        or_dash(p.peak_threads, |n| n.to_string()),
        started(p),
        ended(p),
    ]
}

/// The kernel's mark, or the bound that there is.
fn peak_rss(p: &Process) -> String {
    match (p.max_rss_bytes, p.max_rss_at_most_bytes) {
        (Some(n), _) if !p.max_rss_at_least => bytes(n as f64),
        (Some(n), _) => format!("≥{}", bytes(n as f64)),
        (None, at_most) => or_dash(at_most, |n| format!("≤{}", bytes(n as f64))),
    }
}

fn at_most(p: &Process) -> Option<u64> {
    p.max_rss_at_most_bytes.or(p.max_rss_bytes.filter(|_| !p.max_rss_at_least))
}

fn started(p: &Process) -> String {
    or_dash(p.started_ns, |ns| u64::try_from(ns).map_or("before".to_owned(), |ns| format!("+{}", nanos(ns))))
}

fn ended(p: &Process) -> String {
    match (p.exited_ns, &p.exit) {
        _ if p.left_ns.is_some() => "moved out".to_owned(),
        (None, _) => "alive".to_owned(),
        (Some(_), Some(exit)) => status(exit),
        (Some(_), None) => "ended".to_owned(),
    }
}

/// How a process ended.
pub(super) fn status(exit: &Exit) -> String {
    match (exit.code, exit.signal) {
        _ if exit.oom == Some(true) => "OOM kill".to_owned(),
        (_, Some(n)) if exit.core == Some(true) => format!("{}, core", signal(n)),
        (_, Some(n)) => signal(n),
        (Some(code), _) => format!("exit {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// By role and command; what used most CPU first, and one line for what is left.
fn folded<'a>(processes: impl Iterator<Item = &'a Process>, recycled: bool, total: u64) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<(&str, &str), Group<'a>> = BTreeMap::new();
    for p in processes {
        groups.entry((role(p.role), &p.comm)).or_default().members.push(p);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(name, g)| (std::cmp::Reverse((g.known_cpu(), g.members.len())), *name));
    let rest = groups.split_off(groups.len().min(GROUPS));
    let mut rows: Vec<_> = groups
        .iter()
        .map(|((role, comm), g)| match g.members[..] {
            [only] => row(only, recycled, total),
            _ => g.row(role, comm, total),
        })
        .collect();
    if !rest.is_empty() {
        let commands = rest.len();
        let all = Group { members: rest.into_iter().flat_map(|(_, g)| g.members).collect() };
        rows.push(all.row("", &format!("({commands} others)"), total));
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
        Role::Service => "service",
        Role::Unknown => "unknown",
    }
}
