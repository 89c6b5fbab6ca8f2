use super::{MS, assert_has, plain};
use crate::event::GpuLog;
use crate::fixture::{client_late, metered, ms, open_loop, repeated, sweep, sweep_of_dashes, sweep_on, with};
use crate::report::model::{FailureGroup, Level, Report};
use crate::report::text::layout::WIDTH;

#[test]
fn an_open_loop_with_a_service_level() {
    let report = open_loop();
    let (load, timing) = (report.load.as_ref().unwrap(), report.timing.as_ref().unwrap());
    assert_eq!((load.requests_sent, load.requests_ok, timing.good_requests), (40, 39, Some(32)));
    assert_eq!(load.schedule_lag_ns.p99, Some(MS));
    // A first token after 50 ms, and 1 ms of lag: the user waits from the schedule.
    assert_eq!(timing.ttft_ns.p50.map(|ns| ns / MS), Some(51));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "chat, open loop at 8/s, poisson arrivals",
            "156 (780 tokens by the server's usage, in 780 chunks, over 4.99 s)",
            // 780 + 39 × 30 in 4.99 s.
            "total tokens/s      391, with the prompts' 1,170 tokens",
            "6.41 requests a second: 32 of 40 (80.0%) kept itl ≤ 30.0 ms, ttft ≤ 200 ms",
            "in flight           3.00 requests on average, 4 at most\n",
            "sent late by 1.00 ms (p50), – (p99), 1.00 ms at most; latencies count from the intended send time",
            "TPOT (a request's mean)     39  10.0 ms",
            "1 × HTTP 503        overloaded",
            "load thread         50.0 ms of CPU, 1.00% of its time",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_sweep_with_a_knee() {
    let report = sweep();
    let told = report.sweep.as_ref().unwrap();
    let rates: Vec<_> = told.steps.iter().map(|s| s.timing.output_tokens_per_s).collect();
    assert_eq!(rates, [Some(50.0), Some(100.0), Some(100.0)]);
    assert_eq!((told.knee.as_ref().map(|k| k.step), told.steps_left_out), (Some(1), 2));
    assert_eq!(told.steps[1].cpu_ns_per_token, Some(5.0 * MS as f64));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "closed loop, sweep over concurrency",
            "        1        1/0      50.0     100       –    18.0       –   1,000    1.00     10.0\n",
            "   knee 2        2/0       100     100       –    18.0       –   1,000    2.00     5.00\n",
            "        4        4/0       100     100       –    38.0    38.0   2,000    4.00     5.00\n",
            "knee                concurrency 2, 100 tokens/s: the last step below saturation",
            "saturated at 4      100% more concurrency than the step before changed the throughput by +0.0%",
            "left out            2 steps",
            "– TTFT p99 at 1, 2, 4: a p99 takes 100 requests",
            "– gap p99 at 1, 2: a p99 takes 100 gaps",
            "in all steps 7 ok, 0 failed",
            "Latencies at the knee, concurrency 2",
            "over all steps",
        ],
    );
    assert!(!text.contains("nothing was sent"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_sweep_of_which_little_is_known_has_a_reason_for_each_dash() {
    let report = sweep_of_dashes();
    let steps = &report.sweep.as_ref().unwrap().steps;
    assert_eq!(steps[0].timing.output_tokens_per_s, None);
    assert_eq!((steps[1].timing.good_requests, steps[1].timing.inter_chunk_ns.p50), (Some(2), None));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "         4        0/4         –       –       –       –       –       –    1.00      0        –\n",
            "         8        2/0      11.4    40.0       –       –       –    50.0    1.00   11.4        –\n",
            "– tokens/s, TTFT, gap, e2e, CPU a token at 4: no measured request succeeded",
            "– gap at 8: no answer had two chunks with text",
            "– TTFT p99 at 8: a p99 takes 100 requests",
            "– CPU a token at 8: the set's CPU over the load's window of 175 ms is 87.50 ms give or take",
            "goodput             requests a second that kept e2e ≤ 60.0 ms",
            "latencies count from the intended send time",
        ],
    );
    // Of every figure in a row that is a dash, a line says why.
    let dashes = text.lines().filter(|l| l.contains("/4  ") || l.contains("/0  ")).flat_map(str::chars);
    assert_eq!(dashes.filter(|c| *c == '–').count(), 11);
    insta::assert_snapshot!(text);
}

#[test]
fn a_sweep_on_a_device_has_the_joules_of_each_step_and_the_parts_of_the_first() {
    // 300 W in the first step's prefill, 150 W in its decode, 200 W later; nothing is read after 6 s.
    let power = |t: u64| match t {
        1_000..1_100 => 300_000,
        1_100..2_000 => 150_000,
        3_000..7_000 => 200_000,
        _ => 100_000,
    };
    let device = with(metered(power, 6_000, 10, 20), &[(42, Some(5))]);
    let report = sweep_on(GpuLog {
        devices: vec![device],
        polled: Some(crate::clock::Window { from: ms(0), to: ms(6_000) }),
        ..GpuLog::default()
    });
    let steps = &report.sweep.as_ref().unwrap().steps;
    assert_eq!(steps[1].energy.joules_per_token, Some(2.0));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "  CPU ms     J/\n",
            " 100       –    18.0       –   1,000    2.00     5.00   2.00\n",
            "4.00     5.00      –\n",
            "– J/token at 4: device 0: the energy counter did not move on after",
            "  prefill at 1        ",
            "  decode at 1         13",
        ],
    );
    // Without a device there is no such column.
    assert!(!plain(&sweep()).contains("J/\n"));
    // With a service level too every column is there and has room.
    let mut full = report.clone();
    for step in &mut full.sweep.as_mut().unwrap().steps {
        (step.timing.good_requests, step.timing.goodput_per_s) = (Some(2), Some(1_234.5));
        step.energy.joules_per_token = Some(0.012_34);
    }
    let full = plain(&full);
    assert!(full.lines().all(|line| line.chars().count() <= WIDTH), "{full}");
    assert_has(&full, &["  good-   CPU ms      J/\n", "  1,235     5.00  0.0123\n"]);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    insta::assert_snapshot!(text);
}

#[test]
fn a_load_that_was_repeated() {
    let report = repeated();
    let timing = report.timing.as_ref().unwrap();
    let ttft = &timing.repeat.as_ref().unwrap().figures["ttft_ns.mean"];
    assert_eq!(ttft.values, [40e6, 50e6, 60e6]);
    // 4.303 × 10 / √3 / 50 = 0.4968, of which the exponential is 1.6435.
    assert!((ttft.high.unwrap() - 82.18e6).abs() < 1e4, "{ttft:?}");
    assert!((ttft.low.unwrap() - 30.42e6).abs() < 1e4, "{ttft:?}");
    assert_eq!((timing.ttft_ns.count, timing.output_tokens_per_s), (12, Some(400.0)));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "over 3 runs          mean        95% interval   lowest  highest",
            "TTFT, mean        50.0 ms  30.4 ms to 82.2 ms  40.0 ms  60.0 ms",
            "output tokens/s       400          400 to 400      400      400",
            "4.00 requests on average, 4 at most, of 4 asked for",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn one_run_of_those_asked_for_has_no_interval_and_a_figure_says_how_many_have_it() {
    let mut report = repeated();
    let repeat = report.timing.as_mut().unwrap().repeat.as_mut().unwrap();
    repeat.figures.get_mut("ttft_ns.p50").unwrap().values.pop();
    let text = plain(&report);
    assert_has(&text, &["TTFT, p50 (of 2)"]);
    // Of 4 requests a run there is none, of 396 gaps there is one.
    assert!(!text.contains("TTFT, p99") && text.contains("inter-chunk, p99"), "{text}");
    let repeat = report.timing.as_mut().unwrap().repeat.as_mut().unwrap();
    repeat.runs = 1;
    for interval in repeat.figures.values_mut() {
        (interval.low, interval.high) = (None, None);
        interval.values.truncate(1);
    }
    let text = plain(&report);
    assert_has(
        &text,
        &["over 1 run ", "50.0 ms             –  40.0 ms", "– one run says nothing of how far runs agree"],
    );
}

#[test]
fn a_run_in_which_the_client_was_late_says_so_before_any_figure() {
    let report = client_late();
    let late = report.validity.iter().find(|v| v.code == "client_late").unwrap();
    assert_eq!(late.level, Level::Invalid);
    let text = plain(&report);
    let (verdict, answer) = (text.find("INVALID").unwrap(), text.find("output tokens/s").unwrap());
    assert!(verdict < answer && text.matches("INVALID").count() == 1, "{text}");
    assert_has(&text, &["[client_late]", "sent late by 40.0 ms (p50)", "200 ok, 0 failed"]);
    insta::assert_snapshot!(text);
}

#[test]
fn failures_are_counted_where_requests_found_no_room_in_the_list() {
    let mut report = open_loop();
    report.requests.clear();
    let load = report.load.as_mut().unwrap();
    let failed = |kind, count, warmup| FailureGroup { kind, count, warmup, ..load.failures[0].clone() };
    let other = FailureGroup { http_status: None, ..failed(None, 7, 0) };
    let interrupted = failed(Some(crate::report::model::ErrorKind::Interrupted), 4, 1);
    load.failures.extend([interrupted, other]);
    load.requests_failed = 4;
    assert_has(
        &plain(&report),
        &[
            "39 ok, 1 failed, 3 cut off by the interruption",
            "4 × interrupted     from 5.88 s on: overloaded",
            "7 × other causes",
            "1 warm-up request among them",
        ],
    );
}

#[test]
fn a_sweep_keeps_to_the_page_with_the_largest_figures() {
    let mut report = sweep_of_dashes();
    for (n, step) in report.sweep.as_mut().unwrap().steps.iter_mut().enumerate() {
        (step.rate_per_s, step.requests_ok, step.requests_failed) = (Some(99_999.5), 1_000_000, 9_999);
        let timing = &mut step.timing;
        (timing.output_tokens_per_s, timing.goodput_per_s) = (Some(1_234_567.0), Some(99_999.0));
        for dist in [&mut timing.ttft_ns, &mut timing.inter_chunk_ns, &mut timing.e2e_ns] {
            dist.count = 1_000;
            (dist.p50, dist.p99) = (Some(3_600_000 * MS), Some((n as u64 + 99_999) * MS));
        }
        step.in_flight.mean = Some(10_000.0);
        step.cpu_ns_per_token = Some(12_345.0 * MS as f64);
    }
    let text = plain(&report);
    let widest = |text: &str| text.lines().map(|l| l.chars().count()).max().unwrap();
    assert!(widest(&text) <= WIDTH, "{} columns\n{text}", widest(&text));
    assert_has(&text, &["3,600k  99,999", "3,600k    100k"]);
}

fn levels_of(report: &Report) -> Vec<(&str, u64)> {
    report.load.as_ref().unwrap().slo_ns.iter().flatten().map(|(name, ns)| (name.as_str(), *ns)).collect()
}

#[test]
fn the_level_that_goodput_is_of_is_in_the_report() {
    assert_eq!(levels_of(&open_loop()), [("itl", 30 * MS), ("ttft", 200 * MS)]);
    assert_eq!(repeated().load.unwrap().slo_ns, None);
}
