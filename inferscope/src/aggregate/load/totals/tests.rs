use super::TokenSum;
use crate::event::{FailureKind, Loaded, RequestLog};
use crate::fixture::{self, DrivenLoad, Fixture, LoadLog, RequestBuilder};
use crate::plan::{Arrival, LoadPlan, Shape, Slo};
use crate::report::model;
use crate::units::Nanos;

fn with(requests: Vec<RequestLog>, change: impl FnOnce(&mut LoadPlan)) -> model::Report {
    let mut plan = fixture::plan();
    change(plan.load.as_mut().unwrap());
    Fixture { load: Some(LoadLog { requests }), plan, ..Fixture::profile() }.report()
}

fn since(begin: u64) -> Loaded {
    Loaded { from: Some(fixture::ms(begin)), to: None }
}

fn report(requests: Vec<RequestLog>) -> model::Report {
    with(requests, |_| {})
}

#[test]
fn warm_up_is_apart_and_ok_plus_failed_is_sent() {
    let load = report(vec![
        RequestBuilder::new(0).warmup().content([20]).build(),
        RequestBuilder::new(1).content([20]).build(),
        RequestBuilder::new(2).failed(FailureKind::Timeout, "no answer").build(),
    ])
    .load
    .unwrap();
    assert_eq!((load.warmup, load.requests_sent, load.requests_ok, load.requests_failed), (1, 2, 1, 1));
    assert_eq!(load.schedule_lag_ns.reason.as_deref(), Some("a closed loop has no schedule"));
}

#[test]
fn the_window_holds_failed_requests_and_no_warm_up() {
    let timing = report(vec![
        RequestBuilder::new(0).sent(0).warmup().done(900).build(),
        RequestBuilder::new(1).sent(1_000).content([1_050]).done(1_100).build(),
        RequestBuilder::new(2).sent(1_100).failed(FailureKind::Timeout, "slow").done(1_500).build(),
    ])
    .timing
    .unwrap();
    assert_eq!(timing.window_ns, Some(500_000_000));
}

#[test]
fn schedule_lag_is_the_send_behind_its_schedule() {
    let requests = vec![RequestBuilder::new(0).scheduled(10).sent(13).content([20]).done(25).build()];
    let shape = Shape::Open { per_second: 4.0, arrival: Arrival::Constant };
    let report = with(requests, |plan| plan.steps = vec![shape]);
    let load = report.load.unwrap();
    assert_eq!((load.shape, load.rate_per_s, load.concurrency), (model::LoadShape::Open, Some(4.0), None));
    assert_eq!(load.schedule_lag_ns.max, Some(3_000_000));
    // And both latencies are the user's, who waits from the moment that was meant.
    let timing = report.timing.unwrap();
    assert_eq!((timing.ttft_ns.max, timing.e2e_ns.max), (Some(10_000_000), Some(15_000_000)));
}

#[test]
fn a_failed_request_keeps_what_was_received() {
    let report = report(vec![
        RequestBuilder::new(0).content([20, 30]).failed(FailureKind::Disconnect, "closed").build(),
    ]);
    let listed = &report.requests[0];
    assert!(!listed.ok);
    assert_eq!(listed.error_kind, Some(model::ErrorKind::Disconnect));
    assert_eq!((listed.first_token_ns, listed.output_tokens), (Some(20_000_000), Some(2)));
    assert_eq!(report.timing.unwrap().ttft_ns.count, 0);
}

#[test]
fn failures_are_grouped_by_cause_with_an_example() {
    let failed = |id, kind, why: &str| RequestBuilder::new(id).failed(kind, why);
    let load = report(vec![
        failed(0, FailureKind::Timeout, "first").warmup().build(),
        failed(1, FailureKind::Timeout, "second").build(),
        failed(2, FailureKind::Status, "busy").status(503).build(),
        failed(3, FailureKind::Status, "slow down").status(429).build(),
        failed(4, FailureKind::Timeout, "third").status(200).build(),
    ])
    .load
    .unwrap();
    let groups: Vec<_> =
        load.failures.iter().map(|g| (g.http_status, g.count, g.warmup, g.example.as_str())).collect();
    assert_eq!(groups, [(None, 3, 1, "first"), (Some(429), 1, 0, "slow down"), (Some(503), 1, 0, "busy")]);
}

#[test]
fn the_first_cause_by_time_leads_however_rare_it_is() {
    let failed = |id, t, kind, why: &str| RequestBuilder::new(id).sent(t).failed(kind, why).done(t).build();
    let report = report(vec![
        failed(0, 500, FailureKind::Connect, "connection refused"),
        failed(1, 400, FailureKind::Disconnect, "the stream ended"),
        failed(2, 510, FailureKind::Connect, "connection refused"),
        failed(3, 390, FailureKind::Disconnect, "reset by peer"),
        failed(4, 520, FailureKind::Connect, "connection refused"),
    ]);
    let load = report.load.unwrap();
    let groups: Vec<_> = load.failures.iter().map(|g| (g.count, g.first_ns, g.example.as_str())).collect();
    let ms = |t: u64| Some(t * 1_000_000);
    assert_eq!(groups, [(2, ms(390), "reset by peer"), (3, ms(500), "connection refused")]);
}

#[test]
fn goodput_counts_what_kept_every_level_with_a_stall_breaking_itl_and_not_tpot() {
    let slo = |slo: Slo| {
        let steady = RequestBuilder::new(0).content([100, 110, 120, 130]).usage(1, 4).done(130).build();
        let stalls = RequestBuilder::new(1).content([50, 51, 80, 81]).usage(1, 4).done(200).build();
        let failed =
            RequestBuilder::new(2).content([10]).failed(FailureKind::Timeout, "t").done(1_000).build();
        with(vec![steady, stalls, failed], |plan| plan.slo = Some(slo)).timing.unwrap()
    };
    let level = |ms| Some(Nanos::from_millis(ms));
    let good = |s: Slo| slo(s).good_requests;
    assert_eq!(good(Slo { itl: level(15), ..Slo::default() }), Some(1));
    assert_eq!(good(Slo { tpot: level(11), ..Slo::default() }), Some(2));
    assert_eq!(good(Slo { ttft: level(60), ..Slo::default() }), Some(1));
    assert_eq!(good(Slo { ttft: level(60), itl: level(15), ..Slo::default() }), Some(0));
    assert_eq!(good(Slo { e2e: level(200), ..Slo::default() }), Some(2));
    let timing = slo(Slo { ttft: level(60), ..Slo::default() });
    assert_eq!(timing.goodput_per_s, Some(1.0));
    assert_eq!(report(vec![]).timing.unwrap().good_requests, None);
}

#[test]
fn a_sweep_has_a_row_a_step_and_ends_where_the_server_is_saturated() {
    let mut plan = fixture::plan();
    let load = plan.load.as_mut().unwrap();
    load.steps = [1, 2, 4, 8].map(|concurrency| Shape::Closed { concurrency }).to_vec();
    load.sweep = Some(crate::plan::Sweep { over: crate::plan::SweepOver::Concurrency, all: false });
    let mut driven = DrivenLoad::new(load, None);
    // 10 tokens in 100 ms for each; the third step gives no more than the second.
    let mut ids = 0..;
    let mut over = Vec::new();
    for (step, together) in [1u64, 2, 2].into_iter().enumerate() {
        let begin = step as u64 * 1_000;
        for _ in 0..together {
            let tokens = (1..=10).map(|n| begin + n * 10);
            let request = RequestBuilder::new(ids.next().unwrap()).sent(begin).content(tokens).usage(1, 10);
            driven.request(&request.done(begin + 100).build(), since(begin));
        }
        let phase = fixture::phase(together, fixture::ms(begin), fixture::ms(begin + 100));
        over.push(driven.phase(crate::event::PhaseLog { step, ..phase }));
    }
    let totals = driven.finish(crate::event::ClientLog::default());
    assert_eq!(over, [false, false, true]);
    let report = Fixture { plan, ..Fixture::profile() }.report_of(&totals);
    assert!(report.timing.is_none() && report.timing_reason.is_some());
    let sweep = report.sweep.unwrap();
    let rates: Vec<_> = sweep.steps.iter().map(|s| s.timing.output_tokens_per_s.unwrap().round()).collect();
    assert_eq!(rates, [100.0, 200.0, 200.0]);
    assert_eq!((sweep.steps_left_out, sweep.knee.map(|k| k.value)), (1, Some(2.0)));
    assert!(sweep.steps[2].saturated.is_some() && sweep.steps[1].saturated.is_none());
    assert_eq!(report.load.unwrap().requests_ok, 5);
    // What was sent together is told, so that each step can be recomputed from the list.
    let of_last = report.requests.last().map(|r| (r.step, r.repetition));
    assert_eq!(of_last, Some((2, 0)));
}

#[test]
fn repeated_runs_are_pooled_and_their_rates_do_not_count_the_time_between() {
    let mut plan = fixture::plan();
    plan.load.as_mut().unwrap().repeat = 2;
    let mut driven = DrivenLoad::new(plan.load.as_ref().unwrap(), None);
    for (repetition, ttft) in [(0u32, 40u64), (1, 60)] {
        let begin = u64::from(repetition) * 5_000;
        let request = RequestBuilder::new(repetition.into())
            .sent(begin)
            .content([begin + ttft, begin + 90])
            .usage(1, 2);
        driven.request(&request.done(begin + 100).build(), since(begin));
        let phase = fixture::phase(1, fixture::ms(begin), fixture::ms(begin + 100));
        assert!(!driven.phase(crate::event::PhaseLog { repetition, ..phase }));
    }
    let totals = driven.finish(crate::event::ClientLog::default());
    let report = Fixture { plan, ..Fixture::profile() }.report_of(&totals);
    assert_eq!(report.requests.iter().map(|r| (r.step, r.repetition)).collect::<Vec<_>>(), [(0, 0), (0, 1)]);
    let timing = report.timing.unwrap();
    assert_eq!((timing.ttft_ns.count, timing.ttft_ns.mean), (2, Some(50e6)));
    assert_eq!((timing.window_ns, timing.output_tokens_per_s), (Some(200_000_000), Some(20.0)));
    let repeat = timing.repeat.unwrap();
    assert_eq!(repeat.runs, 2);
    let interval = &repeat.figures["ttft_ns.mean"];
    // 50 x exp(12.706 x 14.142 / sqrt 2 / 50).
    assert_eq!((interval.mean, interval.values.clone()), (50e6, vec![40e6, 60e6]));
    assert!((interval.high.unwrap() - 634.74e6).abs() < 1e4, "{interval:?}");
}

#[test]
fn what_finds_no_room_is_in_every_figure_and_said() {
    let long = |id: u64| {
        let chunks = (0..150_000u64).map(|n| 10 + n / 1_000);
        RequestBuilder::new(id).content(chunks).usage(1, 150_000).done(200).build()
    };
    let report = report(vec![long(0), long(1)]);
    assert_eq!(report.requests.iter().map(|r| r.chunks_omitted).collect::<Vec<_>>(), [false, true]);
    assert!(report.requests[1].chunks.is_empty());
    assert_eq!(report.timing.unwrap().token_chunks, 300_000);
    assert!(report.validity.iter().any(|v| v.code == "requests_not_listed"));
}

/// Two phases of a request each, the client as told.
fn two_phases(
    change: impl FnOnce(&mut LoadPlan),
    busy_ms: [u64; 2],
    client: crate::event::ClientLog,
) -> model::Report {
    let mut plan = fixture::plan();
    let load = plan.load.as_mut().unwrap();
    load.repeat = 2;
    change(load);
    let mut driven = DrivenLoad::new(plan.load.as_ref().unwrap(), None);
    for (repetition, busy) in (0u32..).zip(busy_ms) {
        let begin = u64::from(repetition) * 5_000;
        let request = RequestBuilder::new(repetition.into()).sent(begin).content([begin + 40]).usage(1, 1);
        driven.request(&request.done(begin + 1_000).build(), since(begin));
        let phase = fixture::phase(1, fixture::ms(begin), fixture::ms(begin + 1_000));
        let thread_cpu = Nanos::from_millis(busy);
        driven.phase(crate::event::PhaseLog { repetition, thread_cpu, ..phase });
    }
    let totals = driven.finish(client);
    Fixture { plan, ..Fixture::profile() }.report_of(&totals)
}

fn says(report: &model::Report, code: &str) -> bool {
    report.validity.iter().any(|v| v.code == code)
}

#[test]
fn an_idle_phase_does_not_make_up_for_one_in_which_the_client_was_busy() {
    let report = |busy| two_phases(|_| {}, busy, crate::event::ClientLog::default());
    assert!(says(&report([10, 950]), "client_busy"));
    assert!(!says(&report([500, 850]), "client_busy"));
}

#[test]
fn a_files_prompts_in_several_phases_are_said_and_made_ones_are_new_each_time() {
    use crate::plan::PromptPlan;
    let report =
        |prompts| two_phases(|plan| plan.prompts = prompts, [1, 1], crate::event::ClientLog::default());
    assert!(says(&report(PromptPlan::Dataset("d.jsonl".into())), "prompts_in_each_phase"));
    assert!(!says(&report(PromptPlan::Synthetic { tokens: 5, shared_prefix: 0 }), "prompts_in_each_phase"));
}

#[test]
fn reads_without_a_time_of_the_kernels_are_counted_and_said() {
    let mut lag = hdrhistogram::Histogram::new(3).unwrap();
    lag.record_n(5_000, 7).unwrap();
    let client = |unstamped_reads| crate::event::ClientLog {
        read_lag: Some(lag.clone()),
        unstamped_reads,
        ..Default::default()
    };
    let report = two_phases(|_| {}, [1, 1], client(3));
    assert!(says(&report, "reads_unstamped"));
    assert_eq!(report.own.unstamped_reads, Some(3));
    assert!(!says(&two_phases(|_| {}, [1, 1], client(0)), "reads_unstamped"));
}

#[test]
fn what_a_connection_took_is_told_by_itself_and_is_in_no_latency_of_a_closed_loop() {
    let request = |id| RequestBuilder::new(id).sent(0).content([130, 150]).usage(1, 2).done(160);
    let requests = || {
        vec![
            request(0).connected_in(100).build(),
            request(1).build(),
            request(2).connected_in(40).failed(FailureKind::Timeout, "late").build(),
            request(3).warmup().connected_in(70).build(),
        ]
    };
    let report = Fixture { load: Some(LoadLog { requests: requests() }), ..Fixture::profile() }.report();
    let (load, timing) = (report.load.unwrap(), report.timing.unwrap());
    let took = load.connect_ns;
    assert_eq!((took.count, took.max), (1, Some(100_000_000)), "measured and successful");
    assert_eq!((timing.ttft_ns.min, timing.ttft_ns.max), (Some(30_000_000), Some(130_000_000)));
    assert_eq!((timing.e2e_ns.min, timing.e2e_ns.max), (Some(60_000_000), Some(160_000_000)));
    let listed: Vec<_> = report.requests.iter().map(|r| (r.connect_ns, r.written_ns.is_some())).collect();
    let ms = |n: u64| Some(n * 1_000_000);
    assert_eq!(listed, [(ms(100), true), (None, false), (ms(40), true), (ms(70), true)]);

    let open = requests().into_iter().map(|mut r| {
        r.scheduled = Some(r.sent);
        r
    });
    let report = Fixture { load: Some(LoadLog { requests: open.collect() }), ..Fixture::profile() }.report();
    assert_eq!(report.timing.unwrap().ttft_ns.min, ms(130), "there it is");

    let none = vec![request(0).build()];
    let report = Fixture { load: Some(LoadLog { requests: none }), ..Fixture::profile() }.report();
    assert!(report.load.unwrap().connect_ns.reason.unwrap().contains("open already"));
}

#[test]
fn a_count_that_cannot_be_true_becomes_no_figure_and_is_said() {
    let answer = |id: u64, completion| {
        let request = RequestBuilder::new(id).sent(id * 100).content((1..=4).map(|n| id * 100 + n * 20));
        request.asked(|asked| asked.max_tokens = Some(128)).usage(5, completion).done(id * 100 + 100).build()
    };
    let of = |second, third| report(vec![answer(0, 4), answer(1, second), answer(2, third)]);
    for absurd in [u64::MAX, 1_000_000] {
        let report = of(absurd, absurd);
        let timing = report.timing.as_ref().unwrap();
        assert_eq!((timing.output_tokens, timing.output_tokens_per_s), (Some(12), Some(40.0)), "{absurd}");
        assert_eq!(timing.token_source, Some(model::TokenSource::Chunks));
        let entry = report.validity.iter().find(|v| v.code == "usage_impossible").unwrap();
        assert!(entry.message.contains("in 2 of 3 answers") && entry.message.contains(&absurd.to_string()));
        assert_eq!(
            report.requests.iter().map(|r| r.usage_impossible).collect::<Vec<_>>(),
            [false, true, true]
        );
    }
    assert!(!says(&of(4, 4), "usage_impossible") && !says(&of(4, 4), "max_tokens_exceeded"));
    let longer = RequestBuilder::new(3).content(0..160).asked(|asked| asked.max_tokens = Some(128));
    assert!(says(&report(vec![longer.usage(5, 160).build()]), "max_tokens_exceeded"));
}

#[test]
fn prompt_tokens_that_cannot_be_true_make_their_sum_unknown_and_nothing_else() {
    let answer =
        |id: u64, prompt| RequestBuilder::new(id).content([20, 40]).usage(prompt, 2).done(100).build();
    let report = report(vec![answer(0, 7), answer(1, u64::MAX)]);
    let timing = report.timing.as_ref().unwrap();
    assert_eq!(
        (timing.prompt_tokens, timing.total_tokens_per_s, timing.output_tokens),
        (None, None, Some(4))
    );
    assert_eq!(report.requests[1].prompt_tokens, None);
    assert_eq!(report.load.as_ref().unwrap().input_tokens_mean, Some(7.0), "of those that told what can be");
    assert!(says(&report, "usage_impossible"));
}

#[test]
fn sums_of_tokens_are_unknown_rather_than_wrong() {
    let mut sum = TokenSum::default();
    sum.add(Some(u64::MAX));
    assert_eq!(sum.total(), Some(u64::MAX));
    sum.add(Some(1));
    assert_eq!(sum.total(), None);
}

#[test]
fn in_a_bursty_stream_percentiles_of_gaps_are_withheld_and_the_rest_stays() {
    // Ten tokens a flush, every 200 ms: 50 tokens a second.
    let flushed = RequestBuilder::new(0).content((0..60).map(|n| 100 + n / 10 * 200)).usage(5, 60);
    let report = report(vec![flushed.done(1_200).build()]);
    let timing = report.timing.as_ref().unwrap();
    for gaps in [&timing.inter_chunk_ns, &timing.inter_token_ns] {
        assert_eq!((gaps.count, gaps.max), (59, Some(200_000_000)));
        assert_eq!((gaps.min, gaps.p50, gaps.p90, gaps.p99), (None, None, None, None));
        assert!(gaps.reason.as_ref().unwrap().contains("bursts"));
    }
    let between = timing.inter_burst_ns.as_ref().unwrap();
    assert_eq!((between.count, between.p50.map(|ns| ns / 1_000_000)), (5, Some(200)));
    assert_eq!((timing.tpot_ns.p50, timing.ttft_ns.p50), (Some(20_000_000), Some(100_000_000)));
    assert!(says(&report, "bursty_stream"));

    let even = RequestBuilder::new(0).content((0..60).map(|n| 100 + n * 20)).usage(5, 60);
    let report = with(vec![even.build()], |_| {});
    assert!(!says(&report, "bursty_stream") && report.timing.unwrap().inter_burst_ns.is_none());
}
