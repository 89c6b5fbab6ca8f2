use crate::event::{
    CgroupAccounting, FailureKind, GpuDevice, Loss, LostRecords, MissedRuns, RequestLog, SetSample,
    TrackerKind,
};
use crate::fixture::{Fixture, LoadLog, ObservationBuilder, ProcessBuilder, RequestBuilder, accounting, ms};
use crate::report::model::{Level, Mode};
use crate::units::Nanos;
use crate::verdict::doubt::{Doubt, DoubtCode};

fn ok_request() -> RequestBuilder {
    RequestBuilder::new(0).content([20, 30]).usage(1, 2).served("smollm2")
}

/// A run with nothing to complain of.
fn sound() -> Fixture {
    let server = ProcessBuilder::new(42, 1, "server").cpu_ms(900, 100);
    Fixture {
        load: Some(LoadLog { requests: vec![ok_request().build()] }),
        observation: Some(ObservationBuilder::new().processes(vec![server]).build()),
        ..Fixture::profile()
    }
}

fn codes(f: &Fixture) -> Vec<(Level, String)> {
    f.report().validity.into_iter().filter(|v| v.code != "gpu_none").map(|v| (v.level, v.code)).collect()
}

fn with_requests(requests: Vec<RequestLog>) -> Fixture {
    Fixture { load: Some(LoadLog { requests }), ..sound() }
}

fn with_observation(o: ObservationBuilder) -> Fixture {
    Fixture { observation: Some(o.build()), ..sound() }
}

fn only(f: &Fixture, level: Level, code: &str) -> String {
    assert_eq!(codes(f), [(level, code.to_owned())]);
    f.report().validity.into_iter().find(|v| v.code == code).unwrap().message
}

#[test]
fn a_sound_run_has_nothing_to_doubt() {
    assert_eq!(codes(&sound()), []);
}

#[test]
fn all_requests_failing_is_invalid() {
    let failed = || ok_request().failed(FailureKind::Timeout, "slow").build();
    let text = only(&with_requests(vec![failed(), failed()]), Level::Invalid, "all_requests_failed");
    assert!(text.starts_with("none of the 2 measured requests succeeded"));
    let text = only(&with_requests(vec![]), Level::Invalid, "all_requests_failed");
    assert!(text.starts_with("no measured request was sent"));
}

#[test]
fn some_failing_is_a_warning_that_counts_them() {
    let f =
        with_requests(vec![ok_request().build(), ok_request().failed(FailureKind::Status, "429").build()]);
    assert!(only(&f, Level::Warn, "requests_failed").starts_with("1 of 2 requests failed"));
}

#[test]
fn a_request_that_the_interruption_cut_off_is_no_failure_of_the_server() {
    let mut f = with_requests(vec![
        ok_request().build(),
        ok_request().failed(FailureKind::Interrupted, "^C").build(),
    ]);
    f.interrupted = true;
    only(&f, Level::Warn, "interrupted");
}

#[test]
fn what_the_clients_own_limit_kept_back_is_no_failure_of_the_server_and_makes_the_run_invalid() {
    let limited = || ok_request().failed(FailureKind::ClientLimit, "no local port is free: widen").build();
    let text = only(
        &with_requests(vec![ok_request().build(), limited(), limited()]),
        Level::Invalid,
        "client_limit",
    );
    assert!(
        text.starts_with("2 requests were not sent") && text.ends_with("; no local port is free: widen"),
        "{text}"
    );
}

#[test]
fn the_demo_says_that_its_tokens_are_synthetic() {
    only(&Fixture { mode: Mode::Demo, ..sound() }, Level::Warn, "synthetic_tokens");
}

#[test]
fn assumed_tokens_are_said() {
    let f = with_requests(vec![RequestBuilder::new(0).content([20, 30]).build()]);
    assert!(only(&f, Level::Warn, "tokens_assumed").starts_with("1 of 1 answers came without usage"));
}

#[test]
fn a_total_that_differs_from_the_chunks_shows_both() {
    let f = with_requests(vec![RequestBuilder::new(0).content([20, 30, 40]).usage(1, 12).build()]);
    let text = only(&f, Level::Warn, "usage_differs_from_chunks");
    assert!(text.contains("counts 12 tokens, but 3 chunks held text"), "{text}");
}

#[test]
fn another_model_than_asked_for_is_named() {
    let f = with_requests(vec![ok_request().served("qwen").build()]);
    let text = only(&f, Level::Warn, "model_differs");
    assert!(text.starts_with("asked for model 'smollm2', answered as 'qwen'"));
    assert_eq!(codes(&Fixture { model: None, ..f }), []);
}

#[test]
fn no_target_names_what_is_unknown_and_why() {
    let mut f = Fixture { observation: None, ..sound() };
    f.target.roots.clear();
    f.target.none_reason = Some("the endpoint is not on this machine".into());
    let text = only(&f, Level::Warn, "no_target");
    assert!(text.contains("the endpoint is not on this machine; CPU, memory and processes are unknown"));
}

#[test]
fn the_proc_tracker_says_what_it_misses_and_why_it_was_taken() {
    let server = || vec![ProcessBuilder::new(42, 1, "server").cpu_ms(900, 100)];
    let f = with_observation(ObservationBuilder::new().processes(server()).proc_tracker("no CAP_BPF"));
    let text = only(&f, Level::Warn, "tracker_proc");
    assert!(text.contains("(no CAP_BPF)") && text.contains("lower bounds"), "{text}");
    let mut f = sound();
    f.observation.as_mut().unwrap().tracker_is_complete = false;
    only(&f, Level::Warn, "tracker_incomplete");
}

fn server() -> ProcessBuilder {
    ProcessBuilder::new(42, 1, "server").cpu_ms(900, 100)
}

#[test]
fn each_cause_of_loss_has_its_own_warning() {
    let with = |loss| with_observation(ObservationBuilder::new().processes(vec![server()]).loss(loss));
    let none = Loss::default();
    only(&with(Loss { unmarked: 1, ..none }), Level::Warn, "lost_unmarked");
    only(&with(Loss { undecodable: 1, ..none }), Level::Warn, "lost_undecodable");
    only(&with(Loss { unreadable: 1, ..none }), Level::Warn, "lost_unreadable");
    only(&with(Loss { vanished: 1, ..none }), Level::Warn, "lost_ends");
    only(&with(Loss { unlisted_events: 1, ..none }), Level::Ok, "unlisted_events");
}

#[test]
fn runs_that_the_kernel_skipped_are_told_and_what_they_lost_where_nothing_made_them_good() {
    let with = |loss| with_observation(ObservationBuilder::new().processes(vec![server()]).loss(loss));
    let missed = MissedRuns { forks: 4, execs: 30, exits: 200, ..MissedRuns::default() };
    let lost = Loss { missed_runs: missed, late_execs: Some(2), vanished: 1, ..Loss::default() };
    let text = only(&with(lost), Level::Warn, "kernel_misses");
    assert!(text.starts_with("7 runs of the kernel program were skipped by the kernel"), "{text}");
    assert!(text.contains("(4 births, 2 execs, 1 ends): members that came then are in no figure"), "{text}");
    assert!(text.contains("of an exec then there is only the count"), "{text}");

    let harmless = MissedRuns { forks: 0, frees: 3, ..missed };
    let good = Loss { missed_runs: harmless, late_execs: Some(0), ..Loss::default() };
    let text = only(&with(good), Level::Ok, "kernel_misses");
    assert!(text.starts_with("233 runs of the kernel program were skipped"), "{text}");
    let unknown = Loss { missed_runs_unknown: true, ..Loss::default() };
    only(&with(unknown), Level::Warn, "kernel_misses");
}

#[test]
fn a_full_ring_and_a_full_list_say_what_holds_what_is_missing_and_the_remedy() {
    let with = |loss| {
        let mut f = with_observation(ObservationBuilder::new().processes(vec![server()]).loss(loss));
        f.observation.as_mut().unwrap().cpu_unlisted.user = Nanos(12_340_000);
        f
    };
    let ring_full_by = LostRecords { forks: 2, exits: 1, ..LostRecords::default() };
    let ring = with(Loss { ring_full: 3, ring_full_by, ..Loss::default() });
    let text = only(&ring, Level::Warn, "lost_ring_full");
    assert!(
        text.starts_with("3 kernel records did not fit the ring (2 births, 1 ends): the counts"),
        "{text}"
    );
    assert!(text.contains("are exact") && text.contains("12 ms of CPU are in no line"), "{text}");
    assert!(text.ends_with("raise --ring-size (now 512K)"), "{text}");
    let list = with(Loss { unlisted_processes: 7, ..Loss::default() });
    let text = only(&list, Level::Warn, "unlisted_processes");
    assert!(text.starts_with("7 processes are counted but not listed"), "{text}");
    assert!(text.contains("bound of 200000: they are in the CPU totals (12 ms"), "{text}");
    assert!(text.ends_with("raise --max-processes"), "{text}");
    let mut polled = list;
    polled.observation.as_mut().unwrap().tracker = TrackerKind::Proc;
    polled.observation.as_mut().unwrap().loss.unfollowed_processes = 5;
    let text =
        &polled.report().validity.into_iter().find(|v| v.code == "unlisted_processes").unwrap().message;
    assert!(text.contains("5 of them are in no memory, thread or CPU figure"), "{text}");
}

#[test]
fn an_oom_kill_names_who_was_chosen() {
    let killed = |n: u32| {
        let victims = (0..n).map(|n| ProcessBuilder::new(50 + n, 42, "worker").oom_killed(900));
        with_observation(ObservationBuilder::new().processes([vec![server()], victims.collect()].concat()))
    };
    let text = only(&killed(1), Level::Warn, "oom_killed");
    assert!(text.starts_with("the kernel's OOM killer chose pid 50 (worker): memory ran out"), "{text}");
    assert!(only(&killed(6), Level::Warn, "oom_killed").contains("pid 53 (worker) and 2 more: "));
    // Another SIGKILL is none.
    let other = ProcessBuilder::new(50, 42, "worker").ended(900, 9);
    assert_eq!(codes(&with_observation(ObservationBuilder::new().processes(vec![server(), other]))), []);
}

fn in_cgroup(set_ms: u64, cgroup_ms: u64) -> Fixture {
    let server = ProcessBuilder::new(42, 1, "server").cpu_ms(set_ms, 0);
    let mut f = with_observation(ObservationBuilder::new().processes(vec![server]));
    f.target.cgroup = Some("/srv/llm".into());
    let a = CgroupAccounting { cpu: Some(Nanos::from_millis(cgroup_ms)), ..accounting() };
    f.observation.as_mut().unwrap().accounting = Some(a);
    f
}

#[test]
fn a_cgroup_that_holds_other_cpu_than_the_set_is_a_warning_that_says_what_it_may_mean() {
    assert_eq!(codes(&in_cgroup(1_990, 2_000)), []);
    let text = only(&in_cgroup(1_900, 2_000), Level::Warn, "cgroup_mismatch");
    assert!(
        text.starts_with("the cgroup (/sys/fs/cgroup/srv/llm/cpu.stat) has more CPU than the set"),
        "{text}"
    );
    assert!(text.ends_with("they are 5.0% apart"), "{text}");
    let mut f = in_cgroup(2_100, 2_000);
    let text = only(&f, Level::Warn, "cgroup_mismatch");
    assert!(text.contains("less CPU than its processes used: threads of a member may be"), "{text}");
    f.observation.as_mut().unwrap().counts.moved_out = 2;
    let both = f.report().validity;
    assert!(
        both[0].message.contains("the 2 that were moved out are charged elsewhere"),
        "{}",
        both[0].message
    );
}

#[test]
fn moves_are_for_the_record_with_what_becomes_of_the_moved() {
    let mut f = sound();
    f.observation.as_mut().unwrap().counts.moved_in = 3;
    let text = only(&f, Level::Ok, "moved_in");
    assert!(text.starts_with("3 processes were moved into the cgroup: they count from then on"), "{text}");
    let mut f = sound();
    f.observation.as_mut().unwrap().counts.moved_out = 1;
    assert!(only(&f, Level::Ok, "moved_out").contains("they stay in the set"));
    f.observation.as_mut().unwrap().processes[0].left = Some(ms(500));
    assert!(only(&f, Level::Ok, "moved_out").contains("they left the set"));
}

#[test]
fn an_interval_that_had_to_be_stretched_is_said_and_a_kept_one_is_not() {
    let mut f = sound();
    f.observation.as_mut().unwrap().sample_interval = Nanos::from_millis(200);
    let text = only(&f, Level::Warn, "sample_interval_stretched");
    assert!(text.contains("an interval of 50 ms: it was stretched to 200 ms"), "{text}");
    let own = f.report().own;
    assert_eq!((own.sample_interval_ns, own.sample_interval_asked_ns), (Some(200_000_000), Some(50_000_000)));
}

#[test]
fn a_run_that_ends_with_its_target_has_nothing_to_doubt() {
    let mut f = Fixture { load: None, ..sound() };
    f.observation.as_mut().unwrap().target_ended = Some(ms(500));
    only(&f, Level::Ok, "target_ended");
}

#[test]
fn cpu_as_of_the_exit_is_told_from_the_final_figure() {
    let mut f = with_observation(
        ObservationBuilder::new().processes(vec![ProcessBuilder::new(42, 1, "server").cpu_ms(900, 100)]),
    );
    let process = &mut f.observation.as_mut().unwrap().processes[0];
    process.cpu_is_final = false;
    process.exited = None;
    let has = |f: &Fixture| f.report().validity.iter().any(|v| v.code == "cpu_not_final");
    assert!(!has(&f), "a living process's reading is exact");
    f.observation.as_mut().unwrap().processes[0].exited = Some(crate::clock::Mono(1));
    assert!(has(&f));
}

#[test]
fn late_thinned_and_missing_samples_are_said() {
    let mut f = sound();
    f.observation.as_mut().unwrap().sample_overruns = 2;
    assert!(only(&f, Level::Warn, "sample_overruns").starts_with("2 samples came"));
    let mut f = sound();
    f.observation.as_mut().unwrap().samples_thinned = 64;
    only(&f, Level::Ok, "samples_thinned");
    let mut f = sound();
    f.observation.as_mut().unwrap().samples.clear();
    only(&f, Level::Warn, "no_samples");
}

#[test]
fn a_target_that_ended_and_one_without_its_children_are_said() {
    let mut f = sound();
    f.observation.as_mut().unwrap().target_ended = Some(ms(500));
    only(&f, Level::Warn, "target_ended");
    // A command is ended after its load.
    f.mode = crate::report::model::Mode::Exec;
    only(&f, Level::Ok, "target_ended");
    let mut f = sound();
    f.target.descendants = false;
    only(&f, Level::Warn, "no_descendants");
}

#[test]
fn an_idle_target_is_in_the_report_as_well() {
    let sample = |n: u64| SetSample {
        t: ms(n * 50),
        processes: 1,
        threads: 1,
        rss_bytes: 1 << 20,
        pss_bytes: None,
        cpu: Nanos(0),
        cpu_error: Nanos::ZERO,
    };
    let f = with_observation(
        ObservationBuilder::new()
            .processes(vec![ProcessBuilder::new(42, 1, "bash")])
            .samples((1..9).map(sample).collect()),
    );
    assert!(only(&f, Level::Warn, "idle_target").starts_with("pid 42 (bash)"));
}

#[test]
fn no_gpu_is_for_the_record_and_no_warning() {
    let v = sound().report().validity;
    assert_eq!((v.len(), v[0].level, v[0].code.as_str()), (1, Level::Ok, "gpu_none"));
    assert!(v[0].message.contains("no NVML library"));
    let mut f = sound();
    f.gpu.devices.push(GpuDevice::default());
    assert_eq!(f.report().validity, []);
}

#[test]
fn the_worst_comes_first_and_the_runs_own_notes_are_kept() {
    let mut f = with_requests(vec![]);
    f.mode = Mode::Demo;
    f.notes = vec![Doubt::warn(DoubtCode::ServerReady, "from the session")];
    let codes: Vec<String> = f.report().validity.into_iter().map(|v| v.code).collect();
    assert_eq!(codes, ["all_requests_failed", "synthetic_tokens", "server_ready", "gpu_none"]);
}
