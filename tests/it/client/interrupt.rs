//! Ctrl-C in the middle: what was measured until then is still reported.

use inferscope_tests::binary;
use inferscope_tests::report::Named;
use inferscope_tests::script;
use inferscope_tests::timed_server::{Answer, TimedServer};
use serde_json::Value;

const INTERRUPTED: i32 = 130;

#[test]
fn an_interrupted_run_still_reports_what_it_measured() {
    let server = TimedServer::start(Answer::Stream(script::steady(20, 20, 10)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let endpoint = server.endpoint();
    let args = ["--endpoint", &endpoint, "--requests", "1000", "--json", "-o", path.to_str().unwrap()];
    let running = binary::start(&args);
    // Two answers are complete when the third request comes.
    server.wait_for_exchanges(3);
    running.process.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code, Some(INTERRUPTED), "{ended:#?}");
    let report = ended.json();
    assert_eq!(report["run"]["interrupted"], true);
    let load = &report["load"];
    let count = |name: &str| load.whole(name);
    assert!(count("requests_ok") >= 2, "{load}");
    assert_eq!(count("requests_ok") + count("requests_failed"), count("requests_sent"), "{load}");
    let timing = &report["timing"];
    let left_out = timing["left_out"]["first_tokens"].as_u64().unwrap_or(0);
    assert_eq!(timing["ttft_ns"].whole("count") + left_out, count("requests_ok"));
    assert!(!report["resources"].list("samples").is_empty());
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(written, report);
}

#[test]
fn an_interrupt_during_a_stalled_answer_ends_the_run_at_once() {
    let steps = vec![script::content(1), script::after_ms(1, script::What::Stall)];
    let server = TimedServer::start(Answer::Stream(steps));
    let running = binary::start(&["--endpoint", &server.endpoint(), "--json"]);
    server.wait_for_exchanges(1);
    let asked = std::time::Instant::now();
    running.process.interrupt();
    let ended = running.wait();
    // The request's own limit is two minutes.
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(INTERRUPTED), "{ended:#?}");
    let report = ended.json();
    assert_eq!(report["run"]["interrupted"], true);
    assert_eq!(report["load"]["requests_failed"], 1);
}
