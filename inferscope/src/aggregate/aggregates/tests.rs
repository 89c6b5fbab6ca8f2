use super::*;
use crate::event::{CommandEvent, ExitStatus, FailureKind, LoadEvent, Loaded};
use crate::fixture::{Fixture, RequestBuilder, client, ms, phase, plan};
use crate::hub::Hub;

/// Requests one after another for five seconds, each of a tenth: ten tokens, or a failure in each seventh. What a source would
/// send, with the time at which it would.
fn five_seconds() -> Vec<(u64, LoadEvent)> {
    let begin = LoadEvent::Began { t: ms(0), model: Some("smollm2".to_owned()) };
    let mut events = vec![(0, begin)];
    for id in 0..50_u64 {
        let sent = id * 100;
        let request = RequestBuilder::new(id).sent(sent);
        let request = match id % 7 {
            6 => request.failed(FailureKind::Timeout, "late").done(sent + 95),
            _ => request
                .content((0..10).map(|n| sent + 20 + n * 7))
                .usage(5, 10)
                .served("smollm2")
                .done(sent + 95),
        };
        let loaded = Loaded { from: Some(ms(0)), to: None };
        events.push((sent, LoadEvent::Sent { t: ms(sent), warmup: false }));
        let log = Box::new(request.build());
        events.push((sent + 95, LoadEvent::Request { log, loaded }));
    }
    events.push((5_000, LoadEvent::Phase(Box::new(phase(50, ms(0), ms(5_000))))));
    events.push((5_000, LoadEvent::Ended { client: Box::new(client()), resent: 0 }));
    events
}

#[test]
fn counts_of_snapshots_never_fall_and_the_last_equals_the_report() {
    let plan = plan();
    let mut hub = Hub::new(Aggregates::new(plan.load.as_ref()));
    let sender = hub.channel("load", 1_024);
    let collector = hub.start(|| {}).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut snapshots = Vec::new();
    let mut due = [1_000, 2_000, 3_000, 4_000].into_iter().peekable();
    let mut take = || snapshots.push(runtime.block_on(sender.snapshot()).expect("the collector is there"));
    for (t, event) in five_seconds() {
        if due.next_if(|due| t >= *due).is_some() {
            take();
        }
        sender.send(Event::Load(event));
    }
    // Nothing comes after this one.
    take();
    let (aggregates, lost) = collector.finish().unwrap();
    assert_eq!(lost, []);
    let report = aggregates.finish(&Finals::default());
    assert!(snapshots.iter().all(|s| s.provisional) && !report.provisional);

    let counts = |s: &Snapshot| {
        let live = &s.load.as_ref().unwrap().live;
        [live.ended, live.ok, live.failed, live.phases as u64, s.load.as_ref().unwrap().steps.len() as u64]
    };
    let all: Vec<[u64; 5]> = snapshots.iter().map(counts).collect();
    assert_eq!(all[..4], [[10, 9, 1, 0, 0], [20, 18, 2, 0, 0], [30, 26, 4, 0, 0], [40, 35, 5, 0, 0]]);
    for pair in all.windows(2) {
        assert!(pair[0].iter().zip(&pair[1]).all(|(before, after)| before <= after), "{all:?}");
    }
    assert_eq!(all[4], [50, 43, 7, 1, 1]);
    assert_eq!(counts(&report), all[4]);
    let (last, end) = (snapshots[4].load.as_ref().unwrap(), report.load.as_ref().unwrap());
    assert_eq!(last.live.last_phase, end.live.last_phase);

    // The JSON's own counts and latencies.
    let totals = end.totals.as_deref().unwrap();
    let json = Fixture { plan, ..Fixture::profile() }.report_of(totals);
    let load = json.load.unwrap();
    let live = &last.live;
    assert_eq!(
        (load.requests_sent, load.requests_ok, load.requests_failed),
        (live.ended, live.ok, live.failed)
    );
    let timing = json.timing.unwrap();
    assert_eq!(timing.ttft_ns.p50, last.live.last_phase.ttft_p50.map(|t| t.0));
    assert_eq!(timing.ttft_ns.p99, last.live.last_phase.ttft_p99.map(|t| t.0));
}

/// A source that panics or hangs sends nothing more.
#[test]
fn what_a_source_sent_before_it_stopped_is_in_the_end_and_events_of_others_too() {
    let plan = plan();
    let mut hub = Hub::new(Aggregates::new(plan.load.as_ref()));
    let (load, command) = (hub.channel("load", 1_024), hub.channel("command", 8));
    let collector = hub.start(|| {}).unwrap();
    let source = std::thread::spawn(move || {
        for (_, event) in five_seconds().into_iter().filter(|(t, _)| *t <= 2_000) {
            load.send(Event::Load(event));
        }
        panic!("as a test wants it");
    });
    assert!(source.join().is_err());
    command.send(Event::Command(CommandEvent::Started { t: ms(10) }));
    command.send(Event::Command(CommandEvent::Ready { t: ms(20) }));
    let status = ExitStatus::from_wait_status(9);
    command.send(Event::Command(CommandEvent::Exited { t: ms(30), status }));
    let (aggregates, _) = collector.finish().unwrap();
    let part = aggregates.finish(&Finals::default());
    assert_eq!(part.load.unwrap().live.ended, 20);
    let want = CommandPart { started: Some(ms(10)), ready: Some(ms(20)), exited: Some((ms(30), status)) };
    assert_eq!(part.command, want);
}
