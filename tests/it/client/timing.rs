//! The report's times against a server that logged when it wrote each token.
//!
//! Both are CLOCK_MONOTONIC, so stamps are compared as they are, not only their differences.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy does not see helpers as tests"
)]

use std::sync::{Mutex, PoisonError};

use inferscope_tests::binary;
use inferscope_tests::requirements::say;
use inferscope_tests::script::{self, MODEL, Step, What, after_ms, content, ending, reasoning};
use inferscope_tests::stats::Errors;
use inferscope_tests::timed_server::{Answer, Exchange, TimedServer};
use serde_json::Value;

/// What the issue asks for.
const TOLERANCE_NS: f64 = 1e6;
const REQUESTS: usize = 8;

/// These tests measure time: one after another.
static ALONE: Mutex<()> = Mutex::new(());

struct Measured {
    report: Value,
    exchanges: Vec<Exchange>,
}

fn measure(steps: Vec<Step>) -> Measured {
    let server = TimedServer::start(Answer::Stream(steps));
    let requests = REQUESTS.to_string();
    let args = ["--endpoint", &server.endpoint(), "--json", "--warmup", "1", "--requests", &requests];
    let report = binary::run(&args).report();
    Measured { report, exchanges: server.exchanges() }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

impl Measured {
    /// Compares every stamp, time to first token and gap, and gives the errors of the stamps.
    fn check(&self, name: &str) {
        let origin = number(&self.report["run"]["origin_monotonic_ns"]);
        let requests = self.report["requests"].as_array().unwrap();
        assert_eq!(requests.len(), REQUESTS + 1, "a warm-up keeps its entry");
        assert_eq!(self.exchanges.len(), REQUESTS + 1);
        let (mut stamps, mut first, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (request, exchange)) in requests.iter().zip(&self.exchanges).enumerate() {
            assert_eq!(request["warmup"], index == 0);
            assert_eq!(request["ok"], true, "{request}");
            let seen: Vec<f64> = request["chunks"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|chunk| chunk["kind"] != "other")
                .map(|chunk| number(&chunk["t_ns"]))
                .collect();
            let written: Vec<f64> = exchange.tokens().map(|w| w.before_ns as f64 - origin).collect();
            assert_eq!(seen.len(), written.len(), "every chunk with a token and no other: {request}");
            assert_eq!(number(&request["first_token_ns"]), seen[0]);
            assert_eq!(number(&request["last_token_ns"]), *seen.last().unwrap());
            if index == 0 {
                continue;
            }
            let arrived = exchange.arrived_ns as f64 - origin;
            let (ttft, truth) = (seen[0] - number(&request["written_ns"]), written[0] - arrived);
            first.push(ttft - truth);
            stamps.extend(seen.iter().zip(&written).map(|(s, w)| s - w));
            gaps.extend(seen.windows(2).zip(written.windows(2)).map(|(s, w)| (s[1] - s[0]) - (w[1] - w[0])));
        }
        assert!(stamps.iter().all(|&error| error >= 0.0), "a token was seen before it was written");
        for (what, errors) in [("stamp", stamps), ("ttft", first), ("gap", gaps)] {
            let errors = Errors::of(&errors);
            let us = |ns: f64| ns / 1e3;
            say(&format!(
                "{name}: {what} error: mean {:.0} µs, median {:.0} µs, p90 {:.0} µs, worst {:.0} µs ({} compared)",
                us(errors.mean),
                us(errors.p50),
                us(errors.p90),
                us(errors.worst),
                errors.count
            ));
            let mut figures = vec![("mean", errors.mean), ("median", errors.p50)];
            // Of eight first tokens the 90th percentile is the worst, and on a shared machine of two cores
            // the worst of anything is the scheduler's.
            if what != "ttft" {
                figures.push(("p90", errors.p90));
            }
            for (figure, value) in figures {
                assert!(value < TOLERANCE_NS, "{name}: {what} {figure} is off by {value} ns");
            }
        }
        self.check_summary();
    }

    /// The distributions are those of the requests, the warm-up left out.
    fn check_summary(&self) {
        let timing = &self.report["timing"];
        let requests = self.report["requests"].as_array().unwrap();
        let measured = || requests.iter().filter(|request| request["warmup"] == false);
        let ttft: Vec<f64> =
            measured().map(|r| number(&r["first_token_ns"]) - number(&r["written_ns"])).collect();
        // What a stall of the client made unknown is counted apart.
        let left_out = |what: &str| timing["left_out"][what].as_u64().unwrap_or(0);
        let count = |what: &str| timing[what]["count"].as_u64().unwrap();
        assert_eq!(count("ttft_ns") + left_out("first_tokens"), REQUESTS as u64);
        if left_out("first_tokens") == 0 {
            assert_close(number(&timing["ttft_ns"]["mean"]), ttft.iter().sum::<f64>() / REQUESTS as f64);
            assert_eq!(number(&timing["ttft_ns"]["max"]), ttft.iter().copied().fold(0.0, f64::max));
        }
        let gaps: usize = self.exchanges[1..].iter().map(|e| e.tokens().count() - 1).sum();
        assert_eq!(count("inter_chunk_ns") + left_out("gaps"), gaps as u64);
        let e2e: f64 = measured().map(|r| number(&r["done_ns"]) - number(&r["written_ns"])).sum();
        if left_out("ends") == 0 {
            assert_close(number(&timing["e2e_ns"]["mean"]), e2e / REQUESTS as f64);
        }
        assert_eq!(self.report["load"]["requests_sent"], REQUESTS);
        assert_eq!(self.report["load"]["requests_ok"], REQUESTS);
        assert_eq!(self.report["load"]["warmup"], 1);
        assert_eq!(self.report["load"]["model"], MODEL);
    }
}

fn assert_close(a: f64, b: f64) {
    assert!((a - b).abs() <= b.abs() * 1e-6, "{a} is not {b}");
}

fn alone<T>(test: impl FnOnce() -> T) -> T {
    let _guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    test()
}

#[test]
fn a_steady_stream_is_timed_within_a_millisecond() {
    alone(|| {
        let measured = measure(script::steady(32, 50, 20));
        measured.check("steady");
        let timing = &measured.report["timing"];
        assert_eq!(timing["token_source"], "usage");
        assert_eq!(timing["output_tokens"], 32 * REQUESTS);
        assert_eq!(timing["inter_token_ns"]["count"], timing["inter_chunk_ns"]["count"]);
    });
}

#[test]
fn a_stream_with_jitter_is_timed_within_a_millisecond() {
    alone(|| measure(script::jitter(32, 50, 20)).check("jitter"));
}

#[test]
fn a_fast_stream_is_timed_within_a_millisecond() {
    alone(|| measure(script::steady(200, 5, 2)).check("500 tokens/s"));
}

#[test]
fn a_role_only_chunk_is_no_first_token() {
    alone(|| {
        let mut steps = vec![after_ms(5, What::Role)];
        steps.extend(script::steady(8, 40, 10));
        let measured = measure(steps);
        measured.check("role first");
        let ttft = number(&measured.report["timing"]["ttft_ns"]["min"]);
        assert!(ttft >= 45e6, "{ttft}: the role chunk was taken for a token");
    });
}

#[test]
fn reasoning_is_a_first_token_but_no_first_output() {
    alone(|| {
        let mut steps: Vec<Step> = (0..4).map(|_| reasoning(10)).collect();
        steps.extend((0..4).map(|_| content(10)));
        steps.extend(ending(Some(8)));
        let measured = measure(steps);
        measured.check("reasoning first");
        let timing = &measured.report["timing"];
        let (ttft, ttfo) = (number(&timing["ttft_ns"]["mean"]), number(&timing["ttfo_ns"]["mean"]));
        assert!((ttfo - ttft - 40e6).abs() < TOLERANCE_NS, "{ttft} and {ttfo} are not 40 ms apart");
    });
}

#[test]
fn several_tokens_a_chunk_are_not_called_one() {
    alone(|| {
        let mut steps: Vec<Step> = (0..8).map(|_| after_ms(40, What::Content(" a b c d".into()))).collect();
        steps.extend(ending(Some(32)));
        let measured = measure(steps);
        measured.check("4 tokens a chunk");
        let timing = &measured.report["timing"];
        assert_eq!(timing["output_tokens"], 32 * REQUESTS);
        assert_eq!(timing["token_chunks"], 8 * REQUESTS);
        assert!((number(&timing["inter_chunk_ns"]["p50"]) - 40e6).abs() < TOLERANCE_NS, "{timing}");
        // How the tokens were cut into chunks is not known, so there is no gap of one token, and how many of them came
        // after the first chunk isn't either: 31 would be told for 28.
        assert_eq!(timing["inter_token_ns"]["count"], 0, "{timing}");
        assert_eq!((&timing["tpot_ns"]["count"], &timing["decode_tokens_per_s"]), (&0.into(), &Value::Null));
    });
}

#[test]
fn without_usage_the_chunks_are_counted_and_the_report_says_so() {
    alone(|| {
        let mut steps: Vec<Step> = (0..8).map(|_| content(10)).collect();
        steps.extend(ending(None));
        let measured = measure(steps);
        measured.check("no usage");
        let report = &measured.report;
        assert_eq!(report["timing"]["token_source"], "chunks");
        assert_eq!(report["timing"]["output_tokens"], 8 * REQUESTS);
        let doubts = report["validity"].as_array().unwrap();
        assert!(
            doubts
                .iter()
                .any(|doubt| doubt["level"] != "ok" && doubt["message"].as_str().unwrap().contains("usage")),
            "{doubts:#?}"
        );
    });
}

#[test]
fn dialects_of_a_stream_are_all_understood() {
    let raw = |text: &str| after_ms(5, What::Raw(text.as_bytes().to_vec()));
    let chunk = r#"{"choices":[{"index":0,"delta":{"content":" x"}}]}"#;
    alone(|| {
        let steps = vec![
            raw(": keep-alive\n\n"),
            raw(&format!("data:{chunk}\n\n")),
            raw(&format!("data: {chunk}\r\n\r\n")),
            // One event in two writes, then two events in one.
            raw(&format!("data: {}", &chunk[..20])),
            raw(&format!("{}\n\n", &chunk[20..])),
            raw(&format!("data: {chunk}\n\ndata: {chunk}\n\n")),
            raw(
                "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\n",
            ),
        ];
        let server = TimedServer::start(Answer::Stream(steps));
        let report = binary::run(&["--endpoint", &server.endpoint(), "--json"]).report();
        let request = &report["requests"][0];
        let kinds: Vec<&str> =
            request["chunks"].as_array().unwrap().iter().map(|c| c["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == "content").count(), 5, "{request}");
        assert_eq!(request["finish_reason"], "stop");
    });
}
