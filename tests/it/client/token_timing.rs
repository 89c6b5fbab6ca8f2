//! Token times against a server whose truth is known, at concurrency 1, 4 and 64.
//!
//! The emitter logs CLOCK_MONOTONIC right before each write(2) and the kernel's receive time of each request;
//! inferscope stamps with the kernel's receive time of each read. Neither depends on when the other side is
//! scheduled, but for three moments: the emitter put aside between its clock and its write, inferscope between
//! its clock and its send, and inferscope put aside for so long that the next token comes in, as the kernel
//! tells one time for what is read together. They are the machine's, and come now in one figure, now in
//! another; an error of inferscope's comes each time. So each figure has to hold the tolerance in one of up to
//! eight attempts, ever further apart. What no machine excuses (counts, matched requests, a stamp before its
//! write) has to hold in each. All figures of all attempts are printed.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy does not see helpers as tests"
)]

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use inferscope_tests::binary;
use inferscope_tests::emitter::{Emitter, Served, by_id};
use inferscope_tests::requirements::say;
use serde_json::Value;

/// What the issue asks for.
const TOLERANCE_NS: f64 = 200e3;
/// Three significant digits.
const HISTOGRAM: f64 = 1e-3;
const ATTEMPTS: u64 = 8;
/// Kernel stamps are CLOCK_REALTIME and are converted by reading both clocks.
const CONVERSION_NS: f64 = 10e3;
const LOADS: [Load; 3] = [
    Load { concurrency: 1, requests: 12, interval: "25ms" },
    Load { concurrency: 4, requests: 24, interval: "25ms" },
    // 1,600 tokens/s: what a debug build on a shared CPU keeps up with.
    Load { concurrency: 64, requests: 128, interval: "40ms" },
];

/// These tests measure time: one after another.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy)]
struct Load {
    concurrency: usize,
    /// Measured ones; as many as the concurrency go before them, so that connections exist.
    requests: usize,
    interval: &'static str,
}

/// One run and the truth of it.
struct Run {
    report: Value,
    log: Vec<Served>,
}

/// A figure of the report against the truth.
struct Compared {
    what: String,
    told: f64,
    truth: f64,
    tolerance: f64,
}

impl Compared {
    fn holds(&self) -> bool {
        (self.told - self.truth).abs() <= self.tolerance
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn mean(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "nothing was compared");
    values.iter().sum::<f64>() / values.len() as f64
}

/// As HdrHistogram has it: the smallest value that at least this share is not above.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    sorted[((sorted.len() as f64 * p / 100.0).ceil() as usize).clamp(1, sorted.len()) - 1]
}

fn run(mode: &[&str], load: Load, code: i32) -> Run {
    let pace = ["--first-token", "30ms", "--tokens", "12", "--interval", load.interval, "--mode"];
    let emitter = Emitter::start(&[&pace, mode].concat());
    let [concurrency, warmup, requests] =
        [load.concurrency, load.concurrency, load.requests].map(|n| n.to_string());
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off"];
    args.extend(["--concurrency", &concurrency, "--warmup", &warmup, "--requests", &requests]);
    let ended = binary::run(&args);
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    Run { report: ended.json(), log: emitter.end() }
}

impl Run {
    /// The measured requests, each with what the server knows of it.
    fn measured(&self) -> Vec<(&Value, &Served)> {
        let run = self.report["run"]["id"].as_str().unwrap();
        let served = by_id(&self.log);
        let requests = self.report["requests"].as_array().unwrap().iter();
        let measured = requests.filter(|request| request["warmup"] == false).map(|request| {
            let id = format!("inferscope-{run}-{}", request["id"]);
            (request, *served.get(id.as_str()).unwrap_or_else(|| panic!("the server had no {id}")))
        });
        measured.collect()
    }

    /// What holds on any machine: every token, once, not before it was written.
    fn check_tokens(&self, requests: usize) {
        let origin = number(&self.report["run"]["origin_monotonic_ns"]);
        let measured = self.measured();
        assert_eq!(measured.len(), requests);
        for (request, served) in &measured {
            assert_eq!(request["ok"], true, "{request}");
            assert_eq!(request["output_tokens"], served.tokens(), "{request}");
            self.check_stamps(request, served, origin);
        }
        let total: u64 = measured.iter().map(|(_, served)| served.tokens()).sum();
        let timing = &self.report["timing"];
        assert_eq!(timing["output_tokens"], total);
        // What a stall of the client made unknown is counted apart.
        let left_out = |what: &str| timing["left_out"][what].as_u64().unwrap_or(0);
        let count = |what: &str| timing[what]["count"].as_u64().unwrap();
        assert_eq!(count("ttft_ns") + left_out("first_tokens"), requests as u64);
        let gaps: usize = measured.iter().map(|(_, served)| served.gaps_ns().count()).sum();
        assert_eq!(count("inter_chunk_ns") + left_out("gaps"), gaps as u64);
    }

    fn check_stamps(&self, request: &Value, served: &Served, origin: f64) {
        let chunks = request["chunks"].as_array().unwrap().iter();
        let chunks: Vec<&Value> = chunks.filter(|chunk| chunk["kind"] != "other").collect();
        assert_eq!(chunks.len(), served.writes.len(), "every chunk with a token and no other: {request}");
        for (chunk, write) in chunks.iter().zip(&served.writes) {
            let late = number(&chunk["t_ns"]) + origin - write.at_ns as f64;
            assert!(late >= -CONVERSION_NS, "seen {late} ns after it was written: {request}");
            assert_eq!(chunk["kind"] == "reasoning", write.reasoning, "{request}");
            // Unknown, or as it was.
            assert!(chunk["tokens"].is_null() || chunk["tokens"] == write.tokens, "{request}");
        }
    }

    /// What is measured, against the truth.
    fn compare(&self) -> Vec<Compared> {
        let timing = &self.report["timing"];
        let measured = self.measured();
        let means = [("ttft", true), ("ttfo", false)].map(|(what, any)| {
            let truths: Vec<f64> = measured
                .iter()
                .filter_map(|(_, served)| {
                    let first = served.writes.iter().find(|write| any || !write.reasoning)?;
                    Some((first.at_ns - served.arrived_ns) as f64)
                })
                .collect();
            // Withheld, where the client stalled: a figure that misses.
            let told = timing[format!("{what}_ns")]["mean"].as_f64().unwrap_or(f64::NAN);
            Compared { what: format!("mean {what}"), told, truth: mean(&truths), tolerance: TOLERANCE_NS }
        });
        let mut gaps: Vec<f64> =
            measured.iter().flat_map(|(_, served)| served.gaps_ns()).map(|gap| gap as f64).collect();
        gaps.sort_by(f64::total_cmp);
        let percentiles = [50.0, 90.0, 95.0, 99.0].map(|p| {
            let truth = percentile(&gaps, p);
            let told = timing["inter_chunk_ns"][format!("p{p}")].as_f64().unwrap_or(f64::NAN);
            Compared { what: format!("gap p{p}"), told, truth, tolerance: TOLERANCE_NS + HISTOGRAM * truth }
        });
        means.into_iter().chain(percentiles).collect()
    }
}

/// The mode at every concurrency; `extra` looks at each run beyond that.
fn check(mode: &[&str], extra: impl Fn(&Run)) {
    let _guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for load in LOADS {
        let name = format!("{} at concurrency {}", mode.join(" "), load.concurrency);
        let mut missed = None;
        for attempt in 1..=ATTEMPTS {
            // What kept the machine busy may be over by then.
            std::thread::sleep(Duration::from_secs(attempt - 1));
            let run = run(mode, load, 0);
            run.check_tokens(load.requests);
            extra(&run);
            let compared = run.compare();
            say(&format!("{name}, attempt {attempt}: {}", told(&compared)));
            let misses: BTreeSet<String> =
                compared.into_iter().filter(|figure| !figure.holds()).map(|figure| figure.what).collect();
            let each_time = missed.map_or_else(|| misses.clone(), |missed| &misses & &missed);
            let all_held = each_time.is_empty();
            missed = Some(each_time);
            if all_held {
                break;
            }
        }
        let missed = missed.unwrap();
        assert!(missed.is_empty(), "{name}: in none of {ATTEMPTS} attempts within the tolerance: {missed:?}");
    }
}

fn told(compared: &[Compared]) -> String {
    let figures = compared.iter().map(|figure| {
        let mark = if figure.holds() { "" } else { " (!)" };
        let (truth, error) = (figure.truth / 1e6, (figure.told - figure.truth) / 1e3);
        format!("{} {truth:.3} ms {error:+.0} µs{mark}", figure.what)
    });
    figures.collect::<Vec<_>>().join(", ")
}

#[test]
fn an_even_pace_is_told_as_it_was() {
    check(&["steady"], |_| {});
}

#[test]
fn jitter_is_told_as_it_was() {
    check(&["jitter", "--jitter", "20ms"], |_| {});
}

#[test]
fn several_tokens_a_chunk_are_one_gap() {
    check(&["chunks", "--tokens", "36"], |run| {
        // How they were cut is not told, so there is no gap of one token.
        assert_eq!(run.report["timing"]["inter_token_ns"]["count"], 0);
    });
}

#[test]
fn the_tokens_of_each_chunk_are_known_where_the_server_tells_them() {
    let mode = ["chunks", "--usage", "continuous", "--tokens", "34"];
    check(&mode, |run| {
        for (request, served) in run.measured() {
            let chunks = request["chunks"].as_array().unwrap().iter();
            let told: Vec<&Value> =
                chunks.filter(|chunk| chunk["kind"] != "other").map(|chunk| &chunk["tokens"]).collect();
            let truth: Vec<u64> = served.writes.iter().map(|write| write.tokens).collect();
            assert_eq!(told, truth, "{request}");
        }
        assert_ne!(run.report["timing"]["inter_token_ns"]["count"], 0);
    });
}

#[test]
fn a_role_is_no_first_token() {
    check(&["role-first"], |_| {});
}

#[test]
fn reasoning_is_a_first_token_and_no_first_output() {
    check(&["reasoning-first"], |run| {
        let timing = &run.report["timing"];
        let [ttft, ttfo] = ["ttft_ns", "ttfo_ns"].map(|name| number(&timing[name]["mean"]));
        // Six gaps of 25 ms; the exact truth is compared with the other figures.
        assert!(ttfo - ttft > 140e6, "{ttft} and {ttfo}");
    });
}

#[test]
fn a_slow_start_is_in_the_first_token_alone() {
    check(&["slow-start"], |_| {});
}

#[test]
fn stalls_are_in_the_percentiles() {
    check(&["stalls", "--stall", "80ms"], |run| {
        // One gap of eleven: a mean a request would hide it.
        assert!(number(&run.report["timing"]["inter_chunk_ns"]["p95"]) > 70e6);
    });
}

/// Every request of the mode fails with that kind, keeps what came, and is in no distribution.
fn check_failing(mode: &str, kind: &str) {
    let _guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for load in LOADS {
        let run = run(&[mode], load, 3);
        let origin = number(&run.report["run"]["origin_monotonic_ns"]);
        let measured = run.measured();
        assert_eq!(measured.len(), load.requests);
        for (request, served) in measured {
            assert_eq!(served.outcome, mode.replace('-', "_"));
            assert_eq!((&request["ok"], &request["error_kind"]), (&false.into(), &kind.into()), "{request}");
            assert_eq!(served.writes.len(), 6, "half of what was to be sent");
            run.check_stamps(request, served, origin);
        }
        let (told, timing) = (&run.report["load"], &run.report["timing"]);
        assert_eq!(told["requests_failed"], load.requests);
        assert_eq!(told["failures"].as_array().unwrap().len(), 1, "one cause: {}", told["failures"]);
        assert_eq!(told["failures"][0]["kind"], kind);
        assert_eq!(told["failures"][0]["count"], load.requests + load.concurrency);
        for name in ["ttft_ns", "ttfo_ns", "inter_chunk_ns", "inter_token_ns", "tpot_ns", "e2e_ns"] {
            assert_eq!(timing[name]["count"], 0, "{name}");
        }
    }
}

#[test]
fn an_error_in_the_stream_fails_the_request() {
    check_failing("stream-error", "server_error");
}

#[test]
fn a_lost_connection_fails_the_request() {
    check_failing("disconnect", "disconnect");
}
