use super::*;
use crate::aggregate::load::LoadTotals;
use crate::event::{ClientLog, FailureKind, InFlight, RequestLog};
use crate::fixture::{self, DrivenLoad, Fixture, RequestBuilder, ms};
use crate::report::model::Timing;

fn between(from: u64, to: Option<u64>) -> Loaded {
    Loaded { from: Some(ms(from)), to: to.map(ms) }
}

/// Requests as they ended, each with the loaded part as it was known then.
fn totals(requests: &[(RequestLog, Loaded)], phase: &PhaseLog) -> LoadTotals {
    let plan = fixture::plan();
    let mut driven = DrivenLoad::new(plan.load.as_ref().unwrap(), None);
    requests.iter().for_each(|(request, loaded)| driven.request(request, *loaded));
    driven.phase(phase.clone());
    driven.finish(ClientLog::default())
}

fn timing(requests: &[(RequestLog, Loaded)], phase: &PhaseLog) -> Timing {
    Fixture::profile().report_of(&totals(requests, phase)).timing.unwrap()
}

/// 10 tokens a second.
fn tokens(from: u64, n: u64) -> impl Iterator<Item = u64> {
    (1..=n).map(move |i| from + i * 100)
}

/// Of 2 s, then a drain of one.
fn by_the_clock() -> PhaseLog {
    PhaseLog {
        loaded_to: Some(ms(2_000)),
        timed: true,
        sent_all: ms(1_500),
        last_byte: ms(3_000),
        ..fixture::phase(2, ms(0), ms(3_000))
    }
}

#[test]
fn the_drain_after_a_duration_is_in_no_rate_and_told_apart() {
    let request = |id, sent, n| {
        let done = sent + n * 100;
        RequestBuilder::new(id).sent(sent).content(tokens(sent, n)).usage(7, n).done(done).build()
    };
    let all =
        [(request(0, 0, 15), between(0, Some(2_000))), (request(1, 1_500, 15), between(0, Some(2_000)))];
    let t = timing(&all, &by_the_clock());
    // 15 and the 5 of the second that came by 2,000 ms.
    let window = t.window.unwrap();
    assert_eq!((window.output_tokens, window.length_ns, window.requests), (20, 2_000_000_000, 1));
    assert_eq!((t.output_tokens_per_s, t.requests_per_s), (Some(10.0), Some(0.5)));
    assert_eq!((window.prompt_tokens, t.total_tokens_per_s), (Some(14), Some(17.0)));
    let tail = t.tail.unwrap();
    assert_eq!((tail.output_tokens, tail.length_ns, tail.requests), (10, 1_000_000_000, 1));
    assert_eq!(t.steady.unwrap(), window);
    // Latencies are of both.
    assert_eq!((t.e2e_ns.count, t.output_tokens), (2, Some(30)));
}

#[test]
fn what_a_ramp_left_under_way_counts_for_its_tokens_and_in_no_latency() {
    let ramp = RequestBuilder::new(0).warmup().sent(0).content(tokens(0, 20)).usage(1, 20).done(2_000);
    let sent = RequestBuilder::new(1).sent(1_000).content(tokens(1_000, 20)).usage(1, 20).done(3_000);
    let phase = PhaseLog {
        loaded_to: Some(ms(1_000)),
        sent_all: ms(1_000),
        ..fixture::phase(1, ms(1_000), ms(3_000))
    };
    let all = [(ramp.build(), between(1_000, Some(1_000))), (sent.build(), between(1_000, Some(1_000)))];
    let t = timing(&all, &phase);
    // Of the ramp's: the one at 1,000 ms and ten more.
    let window = t.window.unwrap();
    assert_eq!((window.output_tokens, window.requests, window.length_ns), (31, 2, 2_000_000_000));
    assert_eq!((t.e2e_ns.count, t.output_tokens), (1, Some(20)));
    assert_eq!((t.steady, t.tail), (None, None));
    assert_eq!(t.steady_reason.as_deref(), Some("no request ended while the load was full"));
}

#[test]
fn cpu_a_token_divides_the_windows_cpu_by_the_windows_tokens() {
    use crate::event::SetSample;
    // One CPU is busy while a request streams ten tokens a second, from 0 to 3,000 ms; the window is 1,000–2,000.
    let sample = |n: u64| SetSample {
        t: ms(n * 10),
        processes: 1,
        threads: 1,
        rss_bytes: 1,
        pss_bytes: None,
        cpu: Nanos::from_millis(n * 10),
        cpu_error: Nanos::ZERO,
    };
    let mut o = fixture::ObservationBuilder::new().samples((1..300).map(sample).collect()).build();
    (o.ended, o.cpu_living.user) = (ms(3_000), Nanos::from_millis(3_000));
    let mut plan = fixture::plan();
    plan.observe.sample_interval = Nanos::from_millis(10);
    o.sample_interval = Nanos::from_millis(10);
    let loaded = between(1_000, Some(2_000));
    let ramp = RequestBuilder::new(0).warmup().sent(0).content(tokens(0, 15)).usage(1, 15).done(1_500);
    let sent = RequestBuilder::new(1).sent(1_500).content(tokens(1_500, 15)).usage(1, 15).done(3_000);
    let phase = PhaseLog {
        loaded_to: Some(ms(2_000)),
        timed: true,
        in_flight: vec![
            InFlight { t: ms(1_000), mean: 1.0, max: 1 },
            InFlight { t: ms(2_000), mean: 0.5, max: 1 },
        ],
        ..fixture::phase(1, ms(1_000), ms(3_000))
    };
    let totals = totals(&[(ramp.build(), loaded), (sent.build(), loaded)], &phase);
    let report = Fixture { observation: Some(o), plan, ..Fixture::profile() }.report_of(&totals);
    // 1 s of CPU for the tokens at 1.0–1.5 s (6) and 1.6–2.0 s (5).
    let e = &report.efficiency;
    assert_eq!(e.cpu_ns_per_token, Some(1e9 / 11.0), "{:?}", e.cpu_reason);
    assert_eq!(e.cpu_ns_per_request, Some(1e9 / 11.0 * 15.0));
    // The tail's half of a request is in the samples only.
    assert_eq!(report.load.as_ref().unwrap().in_flight.mean, Some(1.0));
}

#[test]
fn what_failed_requests_gave_was_work_and_is_told() {
    let cut = RequestBuilder::new(0).content(tokens(0, 5)).failed(FailureKind::Disconnect, "cut").done(600);
    // Two tokens in each chunk, as its usage tells.
    let ok = RequestBuilder::new(1).sent(600).content(tokens(600, 4)).usage(1, 8).done(1_000);
    let phase = fixture::phase(2, ms(0), ms(1_000));
    let t = timing(&[(cut.build(), between(0, None)), (ok.build(), between(0, Some(600)))], &phase);
    let window = t.window.unwrap();
    assert_eq!((window.output_tokens, window.failed_output_tokens, window.token_chunks), (18, 10, 9));
    assert_eq!((t.output_tokens, window.requests), (Some(8), 1));
}

#[test]
fn an_interruption_ends_the_window_and_what_had_arrived_counts() {
    let ok = RequestBuilder::new(0).content(tokens(0, 10)).usage(1, 10).done(1_000);
    let cut = RequestBuilder::new(1).sent(1_000).content(tokens(1_000, 5));
    let cut = cut.failed(FailureKind::Interrupted, "^C").done(1_550);
    let phase = PhaseLog { loaded_to: Some(ms(1_550)), ..fixture::phase(2, ms(0), ms(1_550)) };
    let window = timing(&[(ok.build(), between(0, None)), (cut.build(), between(0, None))], &phase).window;
    let window = window.unwrap();
    assert_eq!((window.output_tokens, window.length_ns), (15, 1_550_000_000));
}

#[test]
fn a_phase_in_which_nothing_was_measured_has_no_window() {
    let warm = RequestBuilder::new(0).warmup().content(tokens(0, 5)).done(600).build();
    let phase = PhaseLog { measured_from: None, ..fixture::phase(0, ms(0), ms(600)) };
    let t = timing(&[(warm, Loaded::default())], &phase);
    assert_eq!((t.window, t.steady, t.tail, t.window_ns), (None, None, None, None));
}

proptest::proptest! {
    /// Whatever an answer is, its tokens before, in and after a stretch are all of its tokens.
    #[test]
    fn stretches_that_meet_add_up_to_the_answer(
        gaps in proptest::collection::vec((0u64..50, 0u32..9, 0u8..3), 0..30),
        usage in proptest::option::of(0u64..200),
        cut in (0u64..1500, 0u64..1500),
    ) {
        let mut t = 0;
        let mut builder = RequestBuilder::new(0);
        for (gap, n, kind) in gaps {
            t += gap;
            builder = match kind {
                0 => builder.content([t]),
                1 => builder.content_with_tokens([(t, n)]),
                _ => builder.role(t),
            };
        }
        let builder = if let Some(usage) = usage { builder.usage(1, usage) } else { builder };
        let request = builder.done(t + 5).build();
        let answer = RequestFigures::of(&request);
        let (from, to) = (ms(cut.0.min(cut.1)), ms(cut.0.max(cut.1)));
        let after = to.plus(Nanos(1));
        let before = arrived(&answer, Mono(0), Some(Mono(from.0 - 1)));
        let parts = [before, arrived(&answer, from, Some(to)), arrived(&answer, after, None)];
        let sum = parts.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        proptest::prop_assert_eq!(sum, (answer.tokens.total.unwrap_or(0), answer.tokens.chunks));
    }
}
