//! The processes folded by command.
//!
//! Owns the sums of processes that a reader tells apart by role and command alone: thousands of helpers are a
//! line each. Never shows a sum of some for a sum of all. A part of `set`.

use std::collections::HashMap;
use std::path::Path;

use crate::event::{Observation, TrackerKind};
use crate::units::Nanos;

use super::members::Member;
use super::roles::MemberRole;

/// Listed processes of one role and command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandTotals {
    pub(crate) comm: String,
    /// The executed file's name, where all of them that told have the same.
    pub(crate) exe: Option<String>,
    pub(crate) role: MemberRole,
    pub(crate) count: u64,
    /// Those that no sample caught; `None` where only what a sample catches is known.
    pub(crate) short_lived: Option<u64>,
    /// `None` where that of any of them is unknown.
    pub(crate) cpu: Option<Nanos>,
    /// The sum of those that are known.
    pub(crate) cpu_at_least: Nanos,
    /// The largest that is known of one process.
    pub(crate) max_rss_bytes: Option<u64>,
    /// No process of them was larger; `None` where that can't be told.
    pub(crate) max_rss_at_most_bytes: Option<u64>,
}

/// What used most CPU comes first.
pub(super) fn commands(members: &[Member<'_>], o: &Observation) -> Vec<CommandTotals> {
    // Only where processes that no sample caught are in the list, too.
    let tells_short = o.tracker == TrackerKind::Ebpf;
    let mut at: HashMap<(MemberRole, &str), usize> = HashMap::new();
    let mut commands: Vec<(CommandTotals, Exe)> = Vec::new();
    for m in members {
        let next = commands.len();
        let i = *at.entry((m.role, m.record.comm.as_str())).or_insert(next);
        if i == next {
            commands.push(empty(m));
        }
        let (command, exe) = &mut commands[i];
        command.count += 1;
        command.short_lived =
            command.short_lived.filter(|_| tells_short).map(|n| n + u64::from(!m.was_sampled()));
        command.cpu = command.cpu.zip(m.cpu()).map(|(all, cpu)| all + cpu);
        command.cpu_at_least += m.cpu().unwrap_or_default();
        let (max, at_most) = (m.record.max_rss_bytes, m.record.max_rss_at_most_bytes);
        command.max_rss_bytes = command.max_rss_bytes.max(max);
        let at_most = at_most.or(max.filter(|_| !m.max_rss_is_lower_bound()));
        command.max_rss_at_most_bytes =
            command.max_rss_at_most_bytes.zip(at_most).map(|(all, one)| all.max(one));
        exe.add(m.record.exe.as_deref());
    }
    let mut commands: Vec<CommandTotals> =
        commands.into_iter().map(|(command, exe)| CommandTotals { exe: exe.one(), ..command }).collect();
    commands.sort_by(|a, b| {
        let most = |c: &CommandTotals| std::cmp::Reverse((c.cpu_at_least, c.count));
        most(a).cmp(&most(b)).then_with(|| (&a.comm, a.role).cmp(&(&b.comm, b.role)))
    });
    commands
}

fn empty(m: &Member<'_>) -> (CommandTotals, Exe) {
    let command = CommandTotals {
        comm: m.record.comm.clone(),
        exe: None,
        role: m.role,
        count: 0,
        short_lived: Some(0),
        cpu: Some(Nanos::ZERO),
        cpu_at_least: Nanos::ZERO,
        max_rss_bytes: None,
        max_rss_at_most_bytes: Some(0),
    };
    (command, Exe::Untold)
}

/// The name of the executed file over many processes.
enum Exe {
    Untold,
    One(String),
    Several,
}

impl Exe {
    fn add(&mut self, path: Option<&str>) {
        let Some(path) = path else { return };
        let name = Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy());
        match self {
            Self::Untold => *self = Self::One(name.into_owned()),
            Self::One(known) if *known != name => *self = Self::Several,
            _ => {}
        }
    }

    fn one(self) -> Option<String> {
        match self {
            Self::One(name) => Some(name),
            Self::Untold | Self::Several => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{Fixture, ObservationBuilder, ProcessBuilder};
    use crate::report::model::{Command, Role};

    fn of(processes: Vec<ProcessBuilder>) -> Vec<Command> {
        let o = ObservationBuilder::new().processes(processes).build();
        Fixture { observation: Some(o), ..Fixture::profile() }.report().processes.commands
    }

    fn helper(n: u32) -> ProcessBuilder {
        let at = u64::from(n) * 10;
        ProcessBuilder::new(1_000 + n, 42, "sh").forked(at).exited(at + 5).sampled(n % 2)
    }

    #[test]
    fn a_thousand_helpers_are_one_line() {
        let server = ProcessBuilder::new(42, 1, "server").cpu_ms(500, 0);
        let helpers = (0..900).map(|n| helper(n).cpu_ms(2, 1).rss_mib(if n == 7 { 30 } else { 20 }));
        let commands = of([vec![server], helpers.collect()].concat());
        assert_eq!(commands.len(), 2);
        let c = &commands[0];
        assert_eq!((c.comm.as_str(), c.role, c.count, c.short_lived), ("sh", Role::Helper, 900, Some(450)));
        assert_eq!((c.cpu_ns, c.cpu_at_least_ns), (Some(2_700_000_000), 2_700_000_000));
        assert_eq!(c.max_rss_bytes, Some(30 << 20));
        assert_eq!(
            (commands[1].comm.as_str(), commands[1].role, commands[1].count),
            ("server", Role::Root, 1)
        );
    }

    #[test]
    fn a_sum_without_one_of_its_parts_is_unknown_and_says_what_it_is_at_least() {
        let commands = of(vec![helper(1).cpu_ms(2, 1), helper(2).cpu_unknown(), helper(3).cpu_ms(3, 0)]);
        assert_eq!((commands[0].cpu_ns, commands[0].cpu_at_least_ns), (None, 6_000_000));
    }

    #[test]
    fn the_files_name_is_told_where_there_is_one() {
        let exe = |a: &str, b: &str| of(vec![helper(1).exe(a), helper(2), helper(3).exe(b)])[0].exe.clone();
        assert_eq!(exe("/bin/dash", "/usr/bin/dash").as_deref(), Some("dash"));
        assert_eq!(exe("/bin/dash", "/bin/bash"), None);
        assert_eq!(of(vec![helper(1)])[0].exe, None);
    }

    #[test]
    fn the_same_command_in_two_roles_is_two_lines() {
        let lasting = ProcessBuilder::new(43, 42, "sh").cpu_ms(900, 0);
        let commands = of(vec![ProcessBuilder::new(42, 1, "server"), helper(1), helper(2), lasting]);
        let told: Vec<_> = commands.iter().map(|c| (c.comm.as_str(), c.role, c.count)).collect();
        assert_eq!(told, [("sh", Role::Worker, 1), ("sh", Role::Helper, 2), ("server", Role::Root, 1)]);
    }
}
