use crate::analysis::fixture::{Fixture, ObservationBuilder, ProcessBuilder, RequestBuilder, ms};
use crate::event::{FailureKind, GpuDevice, LoadLog, Loss, RequestLog, SetSample};
use crate::report::model::{Level, Mode, Validity};
use crate::units::Nanos;

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

#[test]
fn each_cause_of_loss_has_its_own_warning() {
    let server = || vec![ProcessBuilder::new(42, 1, "server").cpu_ms(900, 100)];
    let with = |loss| with_observation(ObservationBuilder::new().processes(server()).loss(loss));
    let none = Loss::default();
    assert!(
        only(&with(Loss { ring_full: 3, ..none }), Level::Warn, "lost_ring_full").starts_with("3 kernel")
    );
    only(&with(Loss { unmarked: 1, ..none }), Level::Warn, "lost_unmarked");
    only(&with(Loss { undecodable: 1, ..none }), Level::Warn, "lost_undecodable");
    only(&with(Loss { unreadable: 1, ..none }), Level::Warn, "lost_unreadable");
    only(&with(Loss { unlisted_processes: 1, ..none }), Level::Warn, "unlisted_processes");
    only(&with(Loss { unlisted_events: 1, ..none }), Level::Ok, "unlisted_events");
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
    f.notes = vec![Validity { level: Level::Warn, code: "note".into(), message: "said by run".into() }];
    let codes: Vec<String> = f.report().validity.into_iter().map(|v| v.code).collect();
    assert_eq!(codes, ["all_requests_failed", "synthetic_tokens", "note", "gpu_none"]);
}
