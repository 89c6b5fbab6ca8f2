//! An open loop against a server with a capacity.
//!
//! The emitter answers so many requests at once, and lets the others wait in order: what it can do in a second
//! is known. Beyond it, each request waits longer than the one before by what the queue has grown in between,
//! and that must show: an open loop's latency counts from the intended time, whatever the server does.

use inferscope_tests::binary;
use inferscope_tests::emitter::{Emitter, Served, by_id};
use inferscope_tests::report::{Named, Report};
use inferscope_tests::requirements::say;
use serde_json::Value;

/// 4 at once, each 200 ms (50 ms and 15 gaps of 10 ms): 20 requests a second.
const SERVER: [&str; 8] = ["--slots", "4", "--first-token", "50ms", "--interval", "10ms", "--tokens", "16"];
const SERVICE_NS: f64 = 200e6;
const SLOTS: f64 = 4.0;
/// How far the mean of the latencies may be from the truth on a machine that others use: a server that
/// is put aside has a longer service time than its schedule.
const LOADED: f64 = 1.3;

fn run(rate: &str, requests: &str) -> (Report, Vec<Served>) {
    let emitter = Emitter::start(&SERVER);
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off"];
    args.extend(["--rate", rate, "--arrival", "constant", "--requests", requests]);
    let report = binary::run(&args).report();
    (report, emitter.end())
}

/// Poisson arrivals of 20 a second for 1.5 s.
fn poisson(more: &[&str]) -> Report {
    let emitter = Emitter::start(&["--first-token", "5ms", "--interval", "1ms", "--tokens", "4"]);
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off"];
    args.extend(more);
    binary::run(&args).report()
}

#[test]
fn the_rate_that_is_asked_for_is_sent_in_each_run_step_and_repetition() {
    let offsets = |report: &Value| -> Vec<u64> {
        let from = report["timing"]["window"]["spans"][0].whole("from_ns");
        let requests = report.list("requests");
        requests.iter().map(|r| r.whole("scheduled_ns") - from).collect()
    };
    let once = poisson(&["--rate", "20", "--duration", "1500ms"]);
    let other = poisson(&["--rate", "20", "--duration", "1500ms"]);
    for report in [&once, &other] {
        assert_eq!(report["load"]["requests_sent"], 30);
        let offered = report["load"].real("offered_rate_per_s");
        assert!((offered / 20.0 - 1.0).abs() < 0.03, "{offered}");
        assert!(!report.codes().contains(&"offered_rate"), "{:?}", report.codes());
        assert_eq!(report["timing"]["window_ns"], 1_500_000_000_u64);
    }
    assert_ne!(once["load"]["seed"], other["load"]["seed"]);
    assert_ne!(offsets(&once), offsets(&other), "another run has other arrivals");
    let seed = once["load"]["seed"].to_string();
    let again = poisson(&["--rate", "20", "--duration", "1500ms", "--load-seed", &seed]);
    assert_eq!(offsets(&again), offsets(&once), "and its seed repeats them");
    let sweep = poisson(&["--sweep", "rate=10,20", "--sweep-all", "--duration", "1s", "--repeat", "2"]);
    for (step, sent) in sweep["sweep"].list("steps").iter().zip([20, 40]) {
        assert_eq!(step["requests_sent"], sent, "two runs of a second each");
        let offered = step.real("offered_rate_per_s");
        assert!((offered / step.real("rate_per_s") - 1.0).abs() < 0.03, "{offered}");
    }
}

#[test]
fn a_rate_that_could_not_be_sent_is_told() {
    // One at a time of 50 ms is 20 a second.
    let report =
        poisson(&["--rate", "200", "--duration", "1s", "--max-in-flight", "1", "--arrival", "constant"]);
    let offered = report["load"].real("offered_rate_per_s");
    assert!(offered < 194.0, "{offered}");
    assert!(report.codes().contains(&"offered_rate"), "{:#?}", report.validity);
}

/// From the time at which the schedule wanted it sent to its first token, in order of sending.
fn waits(report: &Value) -> Vec<f64> {
    let mut requests: Vec<&Value> = report.list("requests").iter().collect();
    requests.sort_by_key(|request| request.whole("scheduled_ns"));
    assert!(requests.iter().all(|request| request["ok"] == true), "none fails, all wait");
    requests.iter().map(|r| r.real("first_token_ns") - r.real("scheduled_ns")).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn beyond_the_capacity_latency_grows_with_the_backlog_and_the_report_says_why() {
    // 60 a second for 2 s to a server of 20 a second.
    let (rate, requests) = (60.0, 120);
    let (report, log) = run("60", "120");
    let waits = waits(&report);
    assert_eq!(waits.len(), requests);
    let quarter = requests / 4;
    let (early, late) = (mean(&waits[..quarter]), mean(&waits[requests - quarter..]));
    // A request waits for those before it, which leave at the server's pace and came at the load's.
    let wait_for = |n: f64| n * (SERVICE_NS / SLOTS - 1e9 / rate);
    let grown = wait_for((requests - quarter) as f64);
    say(&format!(
        "beyond capacity: first token after {:.0} ms in the first quarter and {:.0} ms in the last, {:.0} ms of backlog between; {:?}",
        early / 1e6,
        late / 1e6,
        grown / 1e6,
        report.codes()
    ));
    assert!(late - early > grown * 0.9, "{early} to {late} is less than the backlog's {grown}");
    assert!(report.codes().contains(&"server_saturated"), "{:#?}", report.validity);
    // What the summary tells is this, not the time from a late sending.
    let left_out = report["timing"]["left_out"]["first_tokens"].as_u64().unwrap_or(0) as f64;
    let off = (report["timing"]["ttft_ns"].real("mean") / mean(&waits) - 1.0).abs();
    assert!(off < 1e-3 + left_out / requests as f64, "{off}, {left_out} left out");
    // And it is the truth: the server's own record of each, from arrival.
    let served = by_id(&log);
    let truths: Vec<f64> = served.values().map(|served| served.ttft_ns() as f64).collect();
    assert_eq!(truths.len(), requests);
    let lag = report["load"]["schedule_lag_ns"].real("mean");
    let error = mean(&waits) - mean(&truths) - lag;
    assert!(error.abs() < 10e6, "{error} ns of the mean are neither the server's nor late sending");
}

#[test]
fn below_the_capacity_nothing_is_saturated_and_sending_is_in_time() {
    // 10 a second to a server of 20 a second: none waits for another.
    let (report, log) = run("10", "30");
    let waits = waits(&report);
    let lag = &report["load"]["schedule_lag_ns"];
    say(&format!(
        "below capacity: first token after {:.1} ms, sent {:.2} ms late in the median, {:.2} ms at p90; {:?}",
        mean(&waits) / 1e6,
        lag.real("p50") / 1e6,
        lag.real("p90") / 1e6,
        report.codes()
    ));
    assert!(!report.codes().contains(&"server_saturated"), "{:#?}", report.validity);
    assert_eq!(lag["count"], 30);
    assert!(lag.real("p50") < 5e6, "{lag}");
    // The server's own lateness on a busy machine is in its log.
    let truths: Vec<f64> = log.iter().map(|served| served.ttft_ns() as f64).collect();
    assert!(mean(&truths) < 50e6 * LOADED, "requests waited in the server below its capacity: {truths:?}");
}
