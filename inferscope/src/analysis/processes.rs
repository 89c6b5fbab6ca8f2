//! The process set: who was in it, what it cost, whether that is all.
//!
//! Owns the list, its order, and what makes it complete. Never guesses a missing figure. Called by
//! `analysis`.

use crate::clock::Origin;
use crate::event::{Loss, Observation, ProcessEvent, ProcessEventKind, ProcessRecord, TrackerKind};
use crate::report::model;

use super::Inputs;
use super::roles::{Part, parts};

pub(super) fn processes(inputs: &Inputs<'_>) -> model::Processes {
    let Some(observation) = inputs.observation else { return none(inputs.unobserved()) };
    let origin = inputs.origin;
    let parts = parts(origin, &inputs.target, observation);
    let mut list: Vec<model::Process> =
        observation.processes.iter().zip(parts).map(|(r, part)| process(origin, r, part)).collect();
    // The order of birth; what has no known start comes last.
    list.sort_by_key(|p| (p.started_ns.is_none(), p.started_ns, p.pid));
    let mut events: Vec<model::ProcessEvent> = observation.events.iter().map(|e| event(origin, e)).collect();
    events.sort_by_key(|e| e.t_ns);
    model::Processes {
        tracker: match observation.tracker {
            TrackerKind::Ebpf => model::Tracker::Ebpf,
            TrackerKind::Proc => model::Tracker::Proc,
            TrackerKind::None => model::Tracker::None,
        },
        tracker_reason: observation.tracker_reason.clone(),
        complete: observation.tracker_is_complete && nothing_lost(&observation.loss),
        counts: Some(counts(observation)),
        counts_reason: None,
        cpu: cpu(observation),
        list,
        events,
    }
}

/// A bounded list of events loses no process and no CPU time; anything else in `loss` does.
const fn nothing_lost(loss: &Loss) -> bool {
    loss.ring_full == 0
        && loss.unmarked == 0
        && loss.undecodable == 0
        && loss.unreadable == 0
        && loss.unlisted_processes == 0
}

fn counts(observation: &Observation) -> model::ProcessCounts {
    let (counts, loss) = (observation.counts, observation.loss);
    model::ProcessCounts {
        seen: counts.alive_at_start.saturating_add(counts.forks).saturating_add(counts.moved_in),
        alive_at_start: counts.alive_at_start,
        forks: counts.forks,
        execs: counts.execs,
        exits: counts.exits,
        threads: counts.threads,
        peak_alive: counts.peak_alive,
        short_lived: observation.processes.iter().filter(|r| r.times_sampled == 0).count() as u64,
        lost_events: loss.ring_full.saturating_add(loss.unmarked).saturating_add(loss.undecodable),
        unreadable: loss.unreadable,
    }
}

fn cpu(observation: &Observation) -> model::ProcessesCpu {
    let (exited, living) = (observation.cpu_exited, observation.cpu_living);
    model::ProcessesCpu {
        user_ns: Some((exited.user + living.user).0),
        system_ns: Some((exited.system + living.system).0),
        total_ns: Some((exited.total() + living.total()).0),
        exited_ns: Some(exited.total().0),
        live_ns: Some(living.total().0),
        cgroup_ns: None,
        reconciliation_error_pct: None,
        reconciliation_reason: Some(
            "the target is a process tree, which no cgroup accounts by itself".to_owned(),
        ),
    }
}

fn process(origin: Origin, r: &ProcessRecord, part: Part) -> model::Process {
    model::Process {
        pid: r.pid,
        host_pid: r.host_pid,
        ppid: r.ppid,
        slot: part.place.map(|p| p.slot),
        generation: part.place.map(|p| p.generation),
        comm: r.comm.clone(),
        exe: r.exe.clone(),
        argv: r.argv.clone(),
        role: part.role,
        started_ns: r.started_boottime_ns.map(|ns| origin.at_boottime(ns)),
        exited_ns: r.exited.map(|t| origin.at(t).0),
        exit: r.exit.map(|e| model::Exit { code: e.code, signal: e.signal, oom: r.oom_killed }),
        cpu_user_ns: r.cpu.map(|c| c.user.0),
        cpu_system_ns: r.cpu.map(|c| c.system.0),
        max_rss_bytes: r.max_rss_bytes.or(r.sampled_peak_rss_bytes),
        peak_threads: r.peak_threads,
        minor_faults: r.minor_faults,
        major_faults: r.major_faults,
        voluntary_switches: r.voluntary_switches,
        involuntary_switches: r.involuntary_switches,
        runqueue_ns: None,
        sampled: r.times_sampled > 0,
        cgroup: None,
    }
}

fn event(origin: Origin, e: &ProcessEvent) -> model::ProcessEvent {
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
    out
}

fn none(why: &str) -> model::Processes {
    model::Processes {
        tracker: model::Tracker::None,
        tracker_reason: Some(why.to_owned()),
        complete: false,
        counts: None,
        counts_reason: Some(why.to_owned()),
        cpu: model::ProcessesCpu {
            user_ns: None,
            system_ns: None,
            total_ns: None,
            exited_ns: None,
            live_ns: None,
            cgroup_ns: None,
            reconciliation_error_pct: None,
            reconciliation_reason: Some(why.to_owned()),
        },
        list: Vec::new(),
        events: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{Fixture, ORIGIN, ObservationBuilder, ProcessBuilder, ms};
    use crate::event::{CpuTime, ExitStatus};
    use crate::units::Nanos;

    fn of(observation: Observation) -> model::Processes {
        Fixture { observation: Some(observation), ..Fixture::profile() }.with(processes)
    }

    #[test]
    fn any_loss_makes_the_set_incomplete_and_a_bounded_list_does_not() {
        let with = |loss| of(ObservationBuilder::new().loss(loss).build()).complete;
        assert!(with(Loss::default()));
        assert!(with(Loss { unlisted_events: 9, ..Loss::default() }));
        assert!(!with(Loss { unlisted_processes: 9, ..Loss::default() }));
        assert!(!with(Loss { ring_full: 1, ..Loss::default() }));
        assert!(!with(Loss { unmarked: 1, ..Loss::default() }));
        assert!(!with(Loss { undecodable: 1, ..Loss::default() }));
        assert!(!with(Loss { unreadable: 1, ..Loss::default() }));
    }

    #[test]
    fn lost_records_add_up_by_cause_and_saturate() {
        let loss = Loss { ring_full: u64::MAX, unmarked: 2, undecodable: 3, ..Loss::default() };
        assert_eq!(of(ObservationBuilder::new().loss(loss).build()).counts.unwrap().lost_events, u64::MAX);
    }

    #[test]
    fn seen_is_alive_plus_forked_and_short_lived_is_never_sampled() {
        let p = of(ObservationBuilder::new()
            .processes(vec![
                ProcessBuilder::new(10, 1, "server"),
                ProcessBuilder::new(12, 10, "sh").forked(100).exited(105).sampled(0),
                ProcessBuilder::new(11, 10, "sh").forked(100).exited(500).sampled(3),
            ])
            .build());
        let c = p.counts.unwrap();
        assert_eq!((c.seen, c.alive_at_start, c.forks), (3, 1, 2));
        assert_eq!((c.short_lived, c.exits), (1, 2));
        // In the order of birth, then of pid.
        assert_eq!(p.list.iter().map(|p| p.pid).collect::<Vec<_>>(), [10, 11, 12]);
    }

    #[test]
    fn the_dead_and_the_living_add_up_to_the_total() {
        let mut o = ObservationBuilder::new().build();
        o.cpu_exited = CpuTime { user: Nanos(5), system: Nanos(7) };
        o.cpu_living = CpuTime { user: Nanos(11), system: Nanos(13) };
        let cpu = of(o).cpu;
        assert_eq!((cpu.user_ns, cpu.system_ns, cpu.total_ns), (Some(16), Some(20), Some(36)));
        assert_eq!((cpu.exited_ns, cpu.live_ns), (Some(12), Some(24)));
    }

    #[test]
    fn unknown_cpu_stays_null() {
        let mut o = ObservationBuilder::new().processes(vec![ProcessBuilder::new(10, 1, "x")]).build();
        o.processes[0].cpu = None;
        o.processes[0].max_rss_bytes = None;
        o.processes[0].sampled_peak_rss_bytes = None;
        let p = &of(o).list[0];
        assert_eq!((p.cpu_user_ns, p.cpu_system_ns, p.max_rss_bytes), (None, None, None));
    }

    #[test]
    fn a_start_before_the_run_is_negative() {
        let p = of(ObservationBuilder::new().processes(vec![ProcessBuilder::new(10, 1, "x")]).build());
        assert_eq!(p.list[0].started_ns, Some(-60_000_000_000));
    }

    #[test]
    fn events_are_on_the_timeline_in_order() {
        let mut o = ObservationBuilder::new().build();
        let exit = ProcessEventKind::Exit { status: ExitStatus::from_wait_status(9) };
        o.events = vec![
            ProcessEvent { t: ms(30), pid: 11, kind: exit },
            ProcessEvent { t: ms(20), pid: 11, kind: ProcessEventKind::Fork { parent: 10 } },
        ];
        let events = of(o).events;
        assert_eq!((events[0].t_ns, events[0].ppid), (20_000_000, Some(10)));
        assert_eq!((events[1].t_ns, events[1].signal, events[1].code), (30_000_000, Some(9), None));
        assert_eq!(
            event(
                ORIGIN,
                &ProcessEvent { t: ms(0), pid: 1, kind: ProcessEventKind::Migrate { to_cgroup_id: 7 } }
            )
            .cgroup_id,
            Some(7)
        );
    }

    #[test]
    fn without_a_target_nothing_is_claimed() {
        let p = none("the endpoint is on another machine");
        assert_eq!((p.tracker, p.complete, p.cpu.total_ns), (model::Tracker::None, false, None));
        assert_eq!(p.tracker_reason.as_deref(), Some("the endpoint is on another machine"));
    }
}
