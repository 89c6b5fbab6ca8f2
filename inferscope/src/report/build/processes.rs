//! `processes` of the report: who was in the set, what it cost, whether that is all.
//!
//! Owns nothing but the way from figures to rows, and what of a command line is shown. A part of `build`.

use crate::clock::Origin;
use crate::event::{Observation, ProcessEvent, ProcessEventKind, ProcessRecord, TrackerKind};
use crate::figures::set::{CommandTotals, Member, MemberExit, MemberRole, SetCpu, SetFigures};
use crate::plan::OutputPlan;
use crate::reason::{Apart, SetReason};
use crate::report::model;

/// `output` says what of command lines is shown.
pub(crate) fn processes(
    origin: Origin,
    output: &OutputPlan,
    set: Result<&SetFigures<'_>, &SetReason>,
) -> model::Processes {
    let set = match set {
        Ok(set) => set,
        Err(why) => return none(why),
    };
    let o = set.observation;
    let mut events: Vec<model::ProcessEvent> = o.events.iter().map(|e| event(origin, o, e)).collect();
    events.sort_by_key(|e| e.t_ns);
    model::Processes {
        tracker: match o.tracker {
            TrackerKind::Ebpf => model::Tracker::Ebpf,
            TrackerKind::Proc => model::Tracker::Proc,
            TrackerKind::None => model::Tracker::None,
        },
        tracker_reason: o.tracker_reason.clone(),
        complete: set.complete.is_ok(),
        complete_reason: set.complete.as_ref().err().map(ToString::to_string),
        counts: Some(counts(set)),
        counts_reason: None,
        cpu: cpu(&set.cpu),
        commands: set.commands.iter().map(command).collect(),
        list: set.members.iter().map(|m| process(origin, output, m)).collect(),
        events,
    }
}

fn counts(set: &SetFigures<'_>) -> model::ProcessCounts {
    let (figures, counts, loss) = (set.counts.clone(), set.observation.counts, set.observation.loss);
    let (lower_bounds, lower_bounds_reason) =
        figures.lower_bounds.map_or((&[][..], None), |(names, why)| (names, Some(why.to_string())));
    let (execs, execs_reason) = figures.execs.apart();
    let (threads, threads_reason) = figures.threads.apart();
    let (short_lived, short_lived_reason) = figures.short_lived.apart();
    let (lost_events, lost_events_reason) = figures.lost_events.apart();
    let (missed_runs, missed_runs_reason) = figures.missed_runs.apart();
    model::ProcessCounts {
        lower_bounds: lower_bounds.iter().map(|&name| name.to_owned()).collect(),
        lower_bounds_reason,
        seen: figures.seen,
        alive_at_start: counts.alive_at_start,
        forks: counts.forks,
        execs,
        execs_reason,
        exits: counts.exits,
        threads,
        threads_reason,
        moved_in: figures.moved_in,
        moved_out: figures.moved_out,
        moved_reason: figures.moved_reason.map(|why| why.to_string()),
        peak_alive: counts.peak_alive,
        short_lived,
        short_lived_reason,
        lost_events,
        lost_events_reason,
        lost: Some(model::LostCounts {
            ring_full: loss.ring_full,
            ring_full_by: model::LostRecords {
                forks: loss.ring_full_by.forks,
                execs: loss.ring_full_by.execs,
                exits: loss.ring_full_by.exits,
                frees: loss.ring_full_by.frees,
                others: loss.ring_full_by.others,
            },
            unmarked: loss.unmarked,
            undecodable: loss.undecodable,
            missed_runs,
            missed_runs_reason,
            missed_runs_made_good: figures.missed_runs_made_good,
            missed_runs_by: model::MissedRuns {
                forks: loss.missed_runs.forks,
                execs: loss.missed_runs.execs,
                exits: loss.missed_runs.exits,
                frees: loss.missed_runs.frees,
                moves: loss.missed_runs.moves,
                others: loss.missed_runs.others,
            },
            unlisted_processes: loss.unlisted_processes,
            unlisted_events: loss.unlisted_events,
        }),
        unreadable: loss.unreadable,
    }
}

fn cpu(cpu: &SetCpu<'_>) -> model::ProcessesCpu {
    let (apart, reconciliation_reason) = cpu.apart.clone().apart();
    model::ProcessesCpu {
        user_ns: Some(cpu.used.user.0),
        system_ns: Some(cpu.used.system.0),
        total_ns: Some(cpu.used.total().0),
        error_ns: Some(cpu.error.0),
        error_reason: cpu.error_reason.map(str::to_owned),
        lower_bound_reason: cpu.lower_bound.as_ref().map(ToString::to_string),
        exited_ns: Some(cpu.exited.0),
        live_ns: Some(cpu.living.0),
        reaped_ns: cpu.reaped.map(|n| n.0),
        unlisted_ns: cpu.unlisted.map(|n| n.0),
        cgroup_ns: cpu.cgroup.map(|c| c.used.0),
        cgroup_uncharged_ns: cpu.cgroup.map(|c| c.uncharged_ns),
        cgroup_file: cpu.cgroup_file.map(str::to_owned),
        cgroup_overhead_ns: cpu.cgroup.map(|c| c.overhead.0),
        reconciliation_error_pct: apart.map(|part| part * 100.0),
        reconciliation_reason,
    }
}

fn command(c: &CommandTotals) -> model::Command {
    model::Command {
        comm: c.comm.clone(),
        exe: c.exe.clone(),
        role: role(c.role),
        count: c.count,
        short_lived: c.short_lived,
        cpu_ns: c.cpu.map(|n| n.0),
        cpu_at_least_ns: c.cpu_at_least.0,
        max_rss_bytes: c.max_rss_bytes,
        max_rss_at_most_bytes: c.max_rss_at_most_bytes,
    }
}

const fn role(role: MemberRole) -> model::Role {
    match role {
        MemberRole::Root => model::Role::Root,
        MemberRole::Wrapper => model::Role::Wrapper,
        MemberRole::Arbiter => model::Role::Arbiter,
        MemberRole::Worker => model::Role::Worker,
        MemberRole::Helper => model::Role::Helper,
        MemberRole::Service => model::Role::Service,
        MemberRole::Unknown => model::Role::Unknown,
    }
}

/// How a process ended.
pub(crate) fn exit(exit: MemberExit) -> model::Exit {
    model::Exit {
        code: exit.status.and_then(|s| s.code),
        signal: exit.status.and_then(|s| s.signal),
        core: exit.status.map(|s| s.core_dumped),
        oom: exit.oom,
    }
}

fn process(origin: Origin, output: &OutputPlan, m: &Member<'_>) -> model::Process {
    let r = m.record;
    let (max_rss_bytes, max_rss_reason) = m.max_rss_bytes().apart();
    model::Process {
        pid: r.pid,
        host_pid: r.host_pid,
        ppid: r.ppid,
        slot: m.place.map(|p| p.slot),
        generation: m.place.map(|p| p.generation),
        comm: r.comm.clone(),
        exe: r.exe.clone(),
        argv: argv(output, r),
        argv_cut: r.argv_cut,
        role: role(m.role),
        started_ns: m.started,
        exited_ns: m.exited.map(|n| n.0),
        exit: m.exit.map(exit),
        left_ns: r.left.map(|t| origin.at(t).0),
        cpu_before_ns: r.cpu.map(|_| r.cpu_before.total().0),
        cpu_user_ns: r.cpu.map(|c| c.user.0),
        cpu_system_ns: r.cpu.map(|c| c.system.0),
        cpu_at_least: m.cpu_is_lower_bound(),
        max_rss_bytes,
        max_rss_at_least: m.max_rss_is_lower_bound(),
        max_rss_at_most_bytes: r.max_rss_at_most_bytes,
        max_rss_reason,
        peak_threads: r.peak_threads,
        minor_faults: r.minor_faults,
        major_faults: r.major_faults,
        voluntary_switches: r.voluntary_switches,
        involuntary_switches: r.involuntary_switches,
        runqueue_ns: None,
        sampled: m.was_sampled(),
        cgroup: m.cgroup.map(str::to_owned),
    }
}

/// A command line that was cut may end in the middle of a secret.
fn argv(output: &OutputPlan, r: &ProcessRecord) -> Option<Vec<String>> {
    let mut argv = output.redact.command_line(r.argv.as_deref())?;
    if let Some(last) = argv.last_mut().filter(|_| r.argv_cut) {
        *last = output.known.mask_cut(last);
    }
    Some(argv)
}

fn event(origin: Origin, o: &Observation, e: &ProcessEvent) -> model::ProcessEvent {
    let mut out = model::ProcessEvent {
        t_ns: origin.at(e.t).0,
        kind: model::ProcessEventKind::Fork,
        pid: e.pid,
        ppid: None,
        comm: None,
        exe: None,
        code: None,
        signal: None,
        cgroup_id: None,
        cgroup: None,
    };
    match &e.kind {
        ProcessEventKind::Fork { parent } => out.ppid = Some(*parent),
        ProcessEventKind::Exec { comm, exe } => {
            out.kind = model::ProcessEventKind::Exec;
            out.comm = Some(comm.clone());
            out.exe.clone_from(exe);
        }
        ProcessEventKind::Exit { status } => {
            out.kind = model::ProcessEventKind::Exit;
            out.code = status.code;
            out.signal = status.signal;
        }
        ProcessEventKind::Migrate { to_cgroup_id } => {
            out.kind = model::ProcessEventKind::Migrate;
            out.cgroup_id = Some(*to_cgroup_id);
        }
        ProcessEventKind::MoveIn { to_cgroup_id } => {
            out.kind = model::ProcessEventKind::MigrateIn;
            out.cgroup_id = Some(*to_cgroup_id);
        }
        ProcessEventKind::MoveOut { to_cgroup_id } => {
            out.kind = model::ProcessEventKind::MigrateOut;
            out.cgroup_id = Some(*to_cgroup_id);
        }
        ProcessEventKind::Oom => out.kind = model::ProcessEventKind::Oom,
    }
    out.cgroup = out.cgroup_id.and_then(|id| o.cgroups.get(&id).cloned());
    out
}

fn none(why: &SetReason) -> model::Processes {
    model::Processes {
        tracker: model::Tracker::None,
        tracker_reason: Some(why.to_string()),
        complete: false,
        complete_reason: Some(why.to_string()),
        counts: None,
        counts_reason: Some(why.to_string()),
        cpu: no_cpu(why),
        commands: Vec::new(),
        list: Vec::new(),
        events: Vec::new(),
    }
}

fn no_cpu(why: &SetReason) -> model::ProcessesCpu {
    model::ProcessesCpu {
        user_ns: None,
        system_ns: None,
        total_ns: None,
        error_ns: None,
        error_reason: None,
        lower_bound_reason: None,
        exited_ns: None,
        live_ns: None,
        reaped_ns: None,
        unlisted_ns: None,
        cgroup_ns: None,
        cgroup_uncharged_ns: None,
        cgroup_file: None,
        cgroup_overhead_ns: None,
        reconciliation_error_pct: None,
        reconciliation_reason: Some(why.to_string()),
    }
}

#[cfg(test)]
mod tests;
