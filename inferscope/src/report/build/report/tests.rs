use crate::event::ExitStatus;
use crate::fixture::{Fixture, LoadLog, ORIGIN, ObservationBuilder, ProcessBuilder, RequestBuilder, ms};
use crate::report::model::{Mode, SCHEMA_VERSION, TargetKind};

#[test]
fn every_stamp_counts_from_the_runs_origin() {
    let request = RequestBuilder::new(7).sent(10).content([30, 40]).usage(1, 2).done(50).build();
    let r = Fixture {
        load: Some(LoadLog { requests: vec![request] }),
        observation: Some(ObservationBuilder::new().build()),
        ..Fixture::profile()
    }
    .report();
    assert_eq!((r.schema_version, r.run.origin_monotonic_ns), (SCHEMA_VERSION, ORIGIN.mono.0));
    assert_eq!(r.run.duration_ns, 10_000_000_000);
    let request = &r.requests[0];
    assert_eq!((request.sent_ns, request.done_ns), (10_000_000, 50_000_000));
    assert_eq!((request.first_token_ns, request.last_token_ns), (Some(30_000_000), Some(40_000_000)));
    assert_eq!(request.chunks[1].t_ns, 40_000_000);
    assert_eq!(r.resources.samples[0].t_ns, 500_000_000);
}

#[test]
fn an_observation_without_a_load_has_no_timing() {
    let o = ObservationBuilder::new().processes(vec![ProcessBuilder::new(42, 1, "server")]).build();
    let r = Fixture { observation: Some(o), ..Fixture::profile() }.report();
    assert!(r.load.is_none() && r.timing.is_none() && r.requests.is_empty());
    assert_eq!((r.target.kind, r.target.pid), (TargetKind::Tree, Some(42)));
    assert_eq!(r.efficiency.cpu_reason.as_deref(), Some("no load was measured"), "it was planned");
    assert_eq!(r.timing_reason.as_deref(), Some("no load was measured"));
}

#[test]
fn without_roots_the_target_is_none_and_says_why() {
    let mut f = Fixture::profile();
    f.target.roots.clear();
    f.target.none_reason = Some("nothing listens there".into());
    let r = f.report();
    assert_eq!((r.target.kind, r.target.pid), (TargetKind::None, None));
    assert_eq!(r.target.how_found, "nothing listens there");
}

#[test]
fn a_cgroup_and_a_command_are_targets_of_their_own() {
    let mut f = Fixture::profile();
    f.target.cgroup = Some("/srv".into());
    let r = f.report();
    // With a further root it is still the cgroup.
    assert_eq!((r.target.kind, r.target.cgroup.as_deref()), (TargetKind::Cgroup, Some("/srv")));
    assert_eq!((r.target.pid, r.target.exit), (Some(42), None));
    assert_eq!((r.target.exit_reason, r.target.ready_ns), (None, None));
    f.mode = Mode::Exec;
    f.target.exit = Some(ExitStatus::from_wait_status(9));
    let r = f.report();
    let exit = r.target.exit.unwrap();
    assert_eq!((r.target.kind, exit.code, exit.signal), (TargetKind::Exec, None, Some(9)));
    // A command that could not be observed is no target.
    f.target.cgroup = None;
    f.target.roots.clear();
    assert_eq!(f.report().target.kind, TargetKind::None);
}

#[test]
fn a_command_tells_its_end_or_why_it_is_unknown_and_when_it_was_ready() {
    let mut f = Fixture::profile();
    f.mode = Mode::Exec;
    let r = f.report();
    assert_eq!((r.target.exit, r.target.ready_ns), (None, None));
    assert!(r.target.exit_reason.is_some());
    // Signal 11 with a core, in wait(2)'s words.
    f.target.exit = Some(ExitStatus::from_wait_status(0x8b));
    f.target.ready = Some(ms(1_500));
    let r = f.report();
    let exit = r.target.exit.unwrap();
    assert_eq!((exit.code, exit.signal, exit.core), (None, Some(11), Some(true)));
    assert_eq!((r.target.exit_reason, r.target.ready_ns), (None, Some(1_500_000_000)));
}

#[test]
fn what_is_not_derived_yet_is_null_with_a_reason() {
    let r = Fixture::profile().report();
    assert_eq!((r.stalls, r.gpus.len()), (None, 0));
    assert!(r.stalls_reason.is_some());
    assert_eq!(r.gpus_reason.as_deref(), Some("no NVML library"));
}
