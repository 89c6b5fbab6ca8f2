use super::*;
use crate::event::Failure;

fn phase(warmup: u64, requests: u64, duration: Option<Nanos>) -> Phase {
    Phase {
        shape: Shape::Closed { concurrency: 1 },
        warmup,
        requests: Some(requests),
        duration,
        ramp_up: Nanos::ZERO,
        max_in_flight: 100,
        seed: 7,
        offsets: Vec::new(),
    }
}

fn open(per_second: f64, arrival: Arrival, requests: u64) -> Phase {
    Phase { shape: Shape::Open { per_second, arrival }, ..phase(0, requests, None) }
}

fn log(failure: Option<FailureKind>) -> RequestLog {
    RequestLog {
        id: 0,
        warmup: false,
        scheduled: None,
        sent: Mono(0),
        written: None,
        write_took: None,
        connect: None,
        headers: None,
        http_status: None,
        chunks: Vec::new(),
        done: Mono(0),
        client_stalls: Vec::new(),
        kernel_stamps: true,
        asked: crate::event::Asked::tokens(1),
        stops: 0,
        usage: None,
        finish_reason: None,
        served_model: None,
        failure: failure.map(|kind| Failure { kind, message: String::new() }),
        memory: crate::event::MemoryHold::default(),
    }
}

fn turn(next: Next) -> Turn {
    match next {
        Next::Now(turn) => turn,
        other => panic!("{other:?}"),
    }
}

const MS: u64 = 1_000_000;

#[test]
fn warmup_comes_first_and_the_measured_part_waits_for_its_end() {
    let mut s = Schedule::new(Phase { shape: Shape::Closed { concurrency: 2 }, ..phase(3, 2, None) });
    let mut told = Vec::new();
    for in_flight in [0, 1, 1, 0, 1] {
        let turn = turn(s.next(Mono(5), in_flight));
        told.push((turn.index, turn.warmup));
    }
    assert_eq!(told, [(0, true), (1, true), (2, true), (0, false), (1, false)]);
    assert_eq!(s.next(Mono(5), 2), Next::Over);

    let mut s = Schedule::new(phase(1, 1, None));
    assert!(turn(s.next(Mono(0), 0)).warmup);
    assert_eq!(s.next(Mono(1), 1), Next::AfterOne);
    assert_eq!(s.measured_from(), None);
    assert!(!turn(s.next(Mono(9), 0)).warmup);
    assert_eq!(s.measured_from(), Some(Mono(9)));
}

#[test]
fn a_closed_loop_has_its_slots_full_and_no_more() {
    let mut s = Schedule::new(Phase { shape: Shape::Closed { concurrency: 3 }, ..phase(0, 10, None) });
    for in_flight in 0..3 {
        assert_eq!(turn(s.next(Mono(0), in_flight)).scheduled, None);
    }
    assert_eq!(s.next(Mono(0), 3), Next::AfterOne);
    assert_eq!(turn(s.next(Mono(0), 2)).index, 3);
}

#[test]
fn the_duration_counts_from_the_first_measured_request() {
    let mut s = Schedule::new(phase(1, 10, Some(Nanos(50))));
    assert!(turn(s.next(Mono(0), 0)).warmup);
    for t in [1000, 1049] {
        assert!(!turn(s.next(Mono(t), 0)).warmup);
    }
    assert_eq!(s.next(Mono(1050), 0), Next::Over);
}

#[test]
fn a_constant_rate_is_due_at_equal_steps_however_late_the_loop_is() {
    let mut s = Schedule::new(open(100.0, Arrival::Constant, 4));
    assert_eq!(turn(s.next(Mono(7), 0)).scheduled, Some(Mono(7)));
    assert_eq!(s.next(Mono(8), 1), Next::At(Mono(7 + 10 * MS)));
    // Late for two of them: both keep the time that was meant.
    let late = Mono(7 + 25 * MS);
    assert_eq!(turn(s.next(late, 1)).scheduled, Some(Mono(7 + 10 * MS)));
    assert_eq!(turn(s.next(late, 2)).scheduled, Some(Mono(7 + 20 * MS)));
    assert_eq!(s.next(late, 3), Next::At(Mono(7 + 30 * MS)));
    assert_eq!(turn(s.next(Mono(7 + 30 * MS), 3)).scheduled, Some(Mono(7 + 30 * MS)));
    assert_eq!(s.next(Mono(7 + 30 * MS), 3), Next::Over);
}

/// When each measured request is due.
fn all_due(phase: Phase) -> Vec<u64> {
    let mut s = Schedule::new(phase);
    let (mut now, mut due) = (Mono(0), Vec::new());
    loop {
        match s.next(now, 0) {
            Next::Now(turn) => due.push(turn.scheduled.unwrap().0),
            Next::At(t) => now = t,
            Next::AfterOne => panic!("nothing is under way"),
            Next::Over => return due,
        }
    }
}

#[test]
fn a_poisson_load_sends_the_number_that_its_rate_and_time_make() {
    for seed in 0..50 {
        let timed = Phase {
            requests: None,
            duration: Some(Nanos(20_000 * MS)),
            seed,
            ..open(5.0, Arrival::Poisson, 1)
        };
        assert_eq!(all_due(timed.clone()).len(), 100, "seed {seed}");
        assert_ne!(all_due(timed.clone()), all_due(Phase { seed: seed + 1, ..timed }));
    }
    // And a number of requests takes the time that its rate makes.
    let due = all_due(open(50.0, Arrival::Poisson, 20_000));
    assert!(due.len() == 20_000 && due[19_999] < 400_000 * MS && due[19_999] > 399_000 * MS);
}

#[test]
fn a_timed_open_load_goes_on_to_its_end_and_tells_what_was_offered() {
    let phase =
        Phase { requests: None, duration: Some(Nanos(1_000 * MS)), ..open(4.0, Arrival::Constant, 1) };
    let mut s = Schedule::new(phase);
    for n in 0..4 {
        turn(s.next(Mono(n * 250 * MS), 0));
    }
    assert_eq!(s.next(Mono(751 * MS), 0), Next::At(Mono(1_000 * MS)), "its time is not up");
    assert_eq!(s.next(Mono(1_000 * MS), 0), Next::Over);
    assert_eq!(s.offered_over(), Some(Nanos(1_000 * MS)));
    // What goes out late is offered over a longer time.
    let mut s = Schedule::new(open(4.0, Arrival::Constant, 2));
    turn(s.next(Mono(0), 0));
    turn(s.next(Mono(3_000 * MS), 0));
    assert_eq!(s.offered_over(), Some(Nanos(3_000 * MS)));
    // Cut short, it is what was sent until then.
    let mut s = Schedule::new(open(4.0, Arrival::Constant, 9));
    turn(s.next(Mono(0), 0));
    s.stop(Mono(100 * MS));
    assert_eq!(s.offered_over(), Some(Nanos(100 * MS)));
    assert_eq!(Schedule::new(phase_of_one()).offered_over(), None);
}

fn phase_of_one() -> Phase {
    phase(0, 1, None)
}

#[test]
fn what_was_due_before_the_end_is_sent_however_late() {
    let mut s = Schedule::new(Phase {
        requests: None,
        duration: Some(Nanos(25 * MS)),
        ..open(100.0, Arrival::Constant, 1)
    });
    assert_eq!(turn(s.next(Mono(0), 0)).scheduled, Some(Mono(0)));
    for due in [10, 20] {
        assert_eq!(turn(s.next(Mono(900 * MS), 0)).scheduled, Some(Mono(due * MS)));
    }
    assert_eq!(s.next(Mono(900 * MS), 0), Next::Over);
}

#[test]
fn an_open_loop_holds_back_at_its_bound_and_keeps_the_time_that_was_meant() {
    let mut s = Schedule::new(Phase { max_in_flight: 1, ..open(100.0, Arrival::Constant, 2) });
    assert!(matches!(s.next(Mono(0), 0), Next::Now(_)));
    assert_eq!(s.next(Mono(15 * MS), 1), Next::AfterOne);
    assert_eq!(turn(s.next(Mono(40 * MS), 0)).scheduled, Some(Mono(10 * MS)));
}

#[test]
fn a_closed_ramp_opens_slot_by_slot_as_warmup() {
    let shape = Shape::Closed { concurrency: 4 };
    let mut s = Schedule::new(Phase { shape, ramp_up: Nanos(40 * MS), ..phase(0, 10, None) });
    assert!(turn(s.next(Mono(0), 0)).warmup);
    assert_eq!(s.next(Mono(0), 1), Next::At(Mono(10 * MS)));
    assert!(turn(s.next(Mono(10 * MS), 1)).warmup);
    assert_eq!(s.next(Mono(10 * MS), 2), Next::At(Mono(20 * MS)));
    // Those of the ramp go on; the measured ones fill up.
    assert!(!turn(s.next(Mono(40 * MS), 3)).warmup);
    assert_eq!(s.measured_from(), Some(Mono(40 * MS)));
    assert_eq!(s.next(Mono(41 * MS), 4), Next::AfterOne);
}

#[test]
fn an_open_ramp_rises_to_the_rate() {
    let mut s = Schedule::new(Phase { ramp_up: Nanos(1_000 * MS), ..open(100.0, Arrival::Constant, 300) });
    let (mut now, mut ramp, mut measured) = (Mono(0), Vec::new(), Vec::new());
    loop {
        match s.next(now, 0) {
            Next::Now(turn) if turn.warmup => ramp.push(turn.scheduled.unwrap().0 as f64 / 1e9),
            Next::Now(turn) => measured.push(turn.scheduled.unwrap().0 as f64 / 1e9),
            Next::At(t) => now = t,
            Next::AfterOne => panic!("nothing is under way"),
            Next::Over => break,
        }
    }
    // A straight line from 0 to 100 a second holds 50; a quarter of them in the first half.
    assert!((49..=51).contains(&ramp.len()), "{}", ramp.len());
    let half = ramp.iter().filter(|t| **t < 0.5).count();
    assert!((12..=14).contains(&half), "{half}");
    assert_eq!(measured.len(), 300);
    assert!(measured[0] >= 1.0 && measured[0] < 1.03, "{}", measured[0]);
    assert!((measured[299] - measured[0] - 2.99).abs() < 1e-6);
}

#[test]
fn a_trace_is_sent_when_it_says() {
    let offsets = vec![Nanos(0), Nanos(30 * MS), Nanos(30 * MS), Nanos(45 * MS)];
    let mut s = Schedule::new(Phase { shape: Shape::Trace, requests: None, offsets, ..phase(1, 1, None) });
    assert!(turn(s.next(Mono(0), 0)).warmup);
    assert_eq!(s.next(Mono(0), 1), Next::AfterOne);
    let mut now = Mono(5 * MS);
    let mut due = Vec::new();
    loop {
        match s.next(now, 0) {
            Next::Now(turn) => due.push(turn.scheduled.unwrap().0 / MS),
            Next::At(t) => now = t,
            Next::AfterOne => panic!("nothing is under way"),
            Next::Over => break,
        }
    }
    assert_eq!(due, [5, 35, 35, 50]);
}

#[test]
fn a_trace_goes_on_to_the_end_of_its_duration_though_its_next_entry_is_later() {
    let offsets = vec![Nanos(0), Nanos(11_000 * MS)];
    let duration = Some(Nanos(10_000 * MS));
    let mut s =
        Schedule::new(Phase { shape: Shape::Trace, duration, requests: None, offsets, ..phase(0, 1, None) });
    assert_eq!(turn(s.next(Mono(5 * MS), 0)).scheduled, Some(Mono(5 * MS)));
    assert_eq!(s.next(Mono(900 * MS), 0), Next::At(Mono(10_005 * MS)));
    assert_eq!(s.next(Mono(10_005 * MS), 0), Next::Over);
}

#[test]
fn three_connections_in_a_row_that_fail_end_the_phase_and_nothing_less() {
    use FailureKind::{Connect, Timeout};
    let asked = |ends: &[Option<FailureKind>]| {
        let mut s = Schedule::new(phase(0, 100, None));
        for end in ends {
            turn(s.next(Mono(0), 0));
            s.ended(&log(*end));
        }
        s.next(Mono(0), 0) != Next::Over
    };
    assert!(!asked(&[None, Some(Connect), Some(Connect), Some(Connect)]));
    assert!(asked(&[Some(Connect), Some(Connect), None, Some(Connect), Some(Connect)]));
    assert!(asked(&[Some(Connect), Some(Connect), Some(Timeout), Some(Connect)]));
}

fn loaded(s: &Schedule) -> (Option<u64>, Option<u64>, bool) {
    let Loaded { from, to } = s.loaded();
    (from.map(|t| t.0), to.map(|t| t.0), s.timed())
}

#[test]
fn the_load_is_full_from_the_measured_part_on_to_its_last_send_or_the_end_of_its_time() {
    let mut s = Schedule::new(Phase { shape: Shape::Closed { concurrency: 2 }, ..phase(1, 2, None) });
    turn(s.next(Mono(5), 0));
    assert_eq!(loaded(&s), (None, None, false), "warm-up is no load");
    turn(s.next(Mono(10), 0));
    assert_eq!(loaded(&s), (Some(10), None, false));
    turn(s.next(Mono(30), 1));
    assert_eq!(loaded(&s), (Some(10), Some(30), false));
    // The time is up before the requests are.
    let mut s = Schedule::new(phase(0, 9, Some(Nanos(50))));
    turn(s.next(Mono(10), 0));
    assert_eq!(loaded(&s), (Some(10), Some(60), true), "known from the first on");
    assert_eq!(s.next(Mono(70), 0), Next::Over);
    assert_eq!(loaded(&s), (Some(10), Some(60), true));
    // And the other way round.
    let mut s = Schedule::new(phase(0, 1, Some(Nanos(50))));
    turn(s.next(Mono(10), 0));
    assert_eq!(loaded(&s), (Some(10), Some(10), false));
}

#[test]
fn a_ramps_end_is_known_when_it_begins_and_a_stop_ends_the_load() {
    let shape = Shape::Closed { concurrency: 4 };
    let mut s = Schedule::new(Phase { shape, ramp_up: Nanos(40), ..phase(0, 10, Some(Nanos(100))) });
    assert!(turn(s.next(Mono(7), 0)).warmup);
    assert_eq!(loaded(&s), (Some(47), None, false));
    turn(s.next(Mono(60), 1));
    assert_eq!(loaded(&s), (Some(47), Some(147), true));
    s.stop(Mono(90));
    s.stop(Mono(95));
    assert_eq!(loaded(&s), (Some(47), Some(90), false));
}
