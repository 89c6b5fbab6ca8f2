use super::*;
use crate::aggregate::Aggregate as _;
use crate::event::{FailureKind, Loaded, PhaseLog, RequestLog};
use crate::fixture::{DrivenLoad, ORIGIN, RequestBuilder, ms, phase};
use crate::plan::{Arrival, Endpoint};

/// A load of which the bar shows snapshots.
struct Shown {
    stats: LiveStats,
    load: DrivenLoad,
}

fn shown(change: impl FnOnce(&mut LoadPlan)) -> Shown {
    let mut load = LoadPlan::to(Endpoint::parse("http://h").unwrap());
    change(&mut load);
    Shown { stats: LiveStats::of(Course::of(&load)), load: DrivenLoad::new(&load, None) }
}

impl Shown {
    fn sent(&mut self, warmup: bool, t: Mono) {
        self.load.sent(t, warmup);
    }

    fn ended(&mut self, request: &RequestLog) {
        self.load.request(request, Loaded::default());
    }

    fn next_phase(&mut self, step: usize, repetition: u32, t: Mono) {
        self.load.phase(PhaseLog { step, repetition, ..phase(1, ORIGIN.mono, t) });
    }

    fn live(&self, now: Mono) -> Live {
        self.load.load.snapshot(now).live
    }

    fn words(&self, now: Mono) -> String {
        self.stats.words(&self.live(now), now)
    }

    fn line(&self, now: Mono) -> String {
        self.stats.line(&self.live(now), now)
    }

    fn part(&self, now: Mono) -> f64 {
        self.stats.part(&self.live(now), now)
    }
}

/// 50 tokens, the first after 40 ms, over a second.
fn answer(id: u64, sent: u64) -> RequestLog {
    RequestBuilder::new(id)
        .sent(sent)
        .content([sent + 40, sent + 900])
        .usage(5, 50)
        .done(sent + 1_000)
        .build()
}

#[test]
fn the_bar_tells_the_phase_the_rate_the_latencies_and_the_end() {
    let mut t = shown(|load| {
        load.steps = vec![Shape::Closed { concurrency: 2 }];
        (load.requests, load.warmup) = (Some(8), 2);
    });
    t.sent(true, ms(0));
    t.sent(true, ms(0));
    assert_eq!(t.words(ms(500)), "warm-up 0/2 · 2 in flight");
    assert_eq!(t.part(ms(500)), 0.0);
    for id in 0..2 {
        t.ended(&RequestLog { warmup: true, ..answer(id, 0) });
    }
    t.sent(false, ms(1_000));
    t.sent(false, ms(1_000));
    // The warm-up's tokens came, but its latencies are none of the load's.
    assert_eq!(t.words(ms(1_500)), "0/8 · 66.7 tok/s · 2 in flight");
    t.ended(&answer(2, 1_000));
    t.ended(&answer(3, 1_000));
    t.sent(false, ms(2_000));
    t.sent(false, ms(2_000));
    // 200 tokens in two seconds; a quarter of the load in a second of its own.
    assert_eq!(t.words(ms(2_000)), "2/8 · ETA 3s · 100 tok/s · TTFT 40.0 ms, p99 40.0 ms · 2 in flight");
    assert!(t.line(ms(2_000)).starts_with("██░░░░░░░░ 2/8"), "{}", t.line(ms(2_000)));
    assert_eq!(t.part(ms(2_000)), 0.25);
    let late = RequestBuilder::new(4).sent(2_000).failed(FailureKind::Timeout, "late").done(2_500).build();
    t.ended(&late);
    assert!(t.line(ms(2_500)).contains("3/8 · ETA 3s · 1 FAILED · 100 tok/s"), "{}", t.line(ms(2_500)));
    assert!(t.line(ms(2_500)).ends_with(" · 1 in flight"), "{}", t.line(ms(2_500)));
    // What ended long ago is no rate of now.
    assert!(t.line(ms(9_000)).contains(" 0 tok/s"), "{}", t.line(ms(9_000)));
}

#[test]
fn a_sweep_tells_its_step_and_a_repetition_its_run() {
    let mut t = shown(|load| {
        load.steps = [1, 8].map(|concurrency| Shape::Closed { concurrency }).to_vec();
        (load.requests, load.repeat) = (Some(4), 2);
    });
    t.sent(false, ms(0));
    t.ended(&answer(0, 0));
    assert_eq!(
        t.words(ms(1_000)),
        "step 1/2, concurrency 1, run 1/2 · 1/4 · step ETA 3s · 50.0 tok/s · TTFT 40.0 ms, p99 40.0 ms · \
         0 in flight"
    );
    t.next_phase(0, 0, ms(4_000));
    // The same step goes on, and so do its latencies; the next begins with none.
    let words = t.words(ms(4_000));
    assert!(words.starts_with("step 1/2, concurrency 1, run 2/2 · warm-up · TTFT 40.0 ms"), "{words}");
    t.next_phase(0, 1, ms(8_000));
    assert_eq!(t.words(ms(8_000)), "step 2/2, concurrency 8, run 1/2 · warm-up · 0 in flight");
    assert_eq!(t.part(ms(8_000)), 0.5);
}

#[test]
fn a_duration_counts_from_the_first_measured_request_and_its_end_holds_for_all_steps() {
    let mut t = shown(|load| {
        let open = |per_second| Shape::Open { per_second, arrival: Arrival::Constant };
        load.steps = vec![open(0.5), open(2.0)];
        (load.requests, load.duration) = (None, Some(Nanos::from_millis(30_000)));
    });
    t.sent(false, ms(5_000));
    let words = t.words(ms(15_000));
    assert_eq!(words, "step 1/2, 0.500/s · 10s/30s, 0 done · ETA 50s · 1 in flight");
    assert!((t.part(ms(15_000)) - 1.0 / 6.0).abs() < 1e-9);
    // What is under way when the time is over takes longer.
    assert!(t.line(ms(40_000)).contains("30s/30s, 0 done"), "{}", t.line(ms(40_000)));
}

#[test]
fn an_open_loops_first_token_counts_from_the_schedule() {
    let mut t = shown(|_| {});
    let late = RequestBuilder::new(0).scheduled(0).sent(60).content([100]).usage(5, 1).done(110).build();
    t.sent(false, ms(60));
    t.ended(&late);
    assert!(t.words(ms(110)).contains("TTFT 100 ms"), "{}", t.words(ms(110)));
}

#[test]
fn times_are_told_in_whole_seconds() {
    assert_eq!([0.4, 59.4, 61.0, 3_599.0, 7_500.0].map(clock), ["0s", "59s", "1m01s", "59m59s", "2h05m"]);
}
