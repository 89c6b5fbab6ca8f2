//! The load's window against the record of a server that notes when it writes each token.
//!
//! What is told as delivered in the window is what the server wrote in that time, whoever asked for it; the length is
//! what was asked for, and the drain is no part of it.

use inferscope_tests::binary;
use inferscope_tests::emitter::{Emitter, Served};
use inferscope_tests::report::{Named, Report};
use inferscope_tests::requirements::say;
use serde_json::Value;

/// 100 ms, then 15 gaps of 50 ms.
const SERVER: [&str; 6] = ["--first-token", "100ms", "--interval", "50ms", "--tokens", "16"];
/// Tokens that may lie on the other side of an edge: one a stream, written before and read after it.
const AT_EDGES: u64 = 4;

fn run(more: &[&str]) -> (Report, Vec<Served>) {
    let emitter = Emitter::start(&SERVER);
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off", "--concurrency", "4"];
    args.extend(more);
    let report = binary::run(&args).report();
    (report, emitter.end())
}

/// What the server wrote in the window's one span, and what the report says of it.
fn check(report: &Value, log: &[Served], what: &str) -> Value {
    let window = report["timing"][what].clone();
    let span = &window["spans"][0];
    let origin = report["run"].whole("origin_monotonic_ns");
    let (from, to) = (origin + span.whole("from_ns"), origin + span.whole("to_ns"));
    let written: u64 = log
        .iter()
        .flat_map(|served| &served.writes)
        .filter(|write| (from..=to).contains(&write.at_ns))
        .map(|write| write.tokens)
        .sum();
    let told = window.whole("output_tokens");
    say(&format!("{what}: {told} tokens in {:.3} s, {written} written", (to - from) as f64 / 1e9));
    assert!(told.abs_diff(written) <= AT_EDGES, "{told} told, {written} written: {window}");
    assert_eq!(window.whole("length_ns"), to - from);
    let rate = told as f64 / ((to - from) as f64 / 1e9);
    let told_rate = window.real("output_tokens_per_s");
    assert!((told_rate - rate).abs() < 1e-6 * rate, "{told_rate} is not {rate}");
    // In flight over the same time, from the list of requests.
    let requests = report.list("requests");
    let busy: u64 = requests
        .iter()
        .map(|r| {
            let (sent, done) = (origin + r.whole("sent_ns"), origin + r.whole("done_ns"));
            done.min(to).saturating_sub(sent.max(from))
        })
        .sum();
    if what == "window" {
        let mean = busy as f64 / (to - from) as f64;
        let told = report["load"]["in_flight"].real("mean");
        // A client that is put aside hears of an end late.
        let slack =
            0.02 * mean + 8.0 * report["self"]["timer_lag_ns"].whole("max") as f64 / (to - from) as f64;
        assert!((told - mean).abs() < slack, "{told} in flight told, {mean} by the requests");
    }
    window
}

#[test]
fn a_server_that_is_killed_is_told_by_its_first_victims_and_what_they_had() {
    let emitter = Emitter::start(&SERVER);
    let args = ["--endpoint", &emitter.endpoint, "--gpu", "off", "--concurrency", "4", "--requests", "8"];
    let mut running = binary::start(&args);
    // The load begins right after; five tokens or so of each of the first four.
    running.wait_until_observing();
    std::thread::sleep(std::time::Duration::from_millis(800));
    inferscope_tests::process::signal(emitter.pid, rustix::process::Signal::KILL);
    let ended = running.wait();
    say(&format!("killed: {}\n{}", ended.stderr, ended.stdout));
    let (report, error) = (&ended.stdout, &ended.stderr);
    let failures = report.find("Failures").unwrap_or_else(|| panic!("{ended:#?}"));
    let at = |what: &str| report[failures..].find(what).unwrap_or_else(|| panic!("no {what}: {ended:#?}"));
    // A further one may still connect while the server ends, and is cut off as well.
    assert!(at("× cut off") < at("× not connected"), "the first cause leads: {report}");
    assert!(report.contains("received "), "what had arrived is told: {report}");
    if ended.code == Some(3) {
        assert!(error.contains("(8 failed): first ") && error.contains("; then "), "{error}");
        assert!(error.contains("while it answered: see its log"), "{error}");
        assert!(!error.contains("start the server"), "{error}");
    }
}

#[test]
fn the_rate_of_a_duration_is_of_that_time_and_its_drain_is_told_apart() {
    let (report, log) = run(&["--duration", "1200ms"]);
    let timing = &report["timing"];
    let window = check(&report, &log, "window");
    assert_eq!(window.whole("length_ns"), 1_200_000_000);
    assert_eq!(timing["window_ns"], window["length_ns"]);
    assert_eq!(timing["output_tokens_per_s"], window["output_tokens_per_s"]);
    // The second round of four begins at 850 ms and ends at 1,700.
    let tail = check(&report, &log, "tail");
    let all = window.whole("output_tokens") + tail.whole("output_tokens");
    assert_eq!(all, timing.whole("output_tokens"), "each token is in the one or the other");
    assert!(tail.whole("output_tokens") >= 16, "{tail}");
}

#[test]
fn what_a_ramp_left_under_way_is_in_the_tokens_of_the_window() {
    let (report, log) = run(&["--ramp-up", "400ms", "--requests", "6"]);
    let window = check(&report, &log, "window");
    let measured = report["timing"].whole("output_tokens");
    assert_eq!(measured, 6 * 16);
    // Four of the ramp run into it with some ten tokens each.
    assert!(window.whole("output_tokens") >= measured + 16, "{window}");
    let left_out = report["timing"]["left_out"]["first_tokens"].as_u64().unwrap_or(0);
    assert_eq!(report["timing"]["ttft_ns"].whole("count") + left_out, 6);
}

#[test]
fn with_a_number_of_requests_the_full_load_stands_beside_the_whole() {
    let (report, log) = run(&["--requests", "10"]);
    let window = check(&report, &log, "window");
    let steady = check(&report, &log, "steady");
    assert_eq!(window.whole("output_tokens"), 160);
    // Two of ten are alone at the end.
    let rate = |window: &Value| window.real("output_tokens_per_s");
    assert!(rate(&steady) > rate(&window) * 1.05, "{steady} {window}");
    assert!(report["timing"]["tail"].is_null());
}
