use super::*;

/// Sums what it is given; the part is the sum, how many events there were, and whether it is final.
#[derive(Default)]
struct Sum {
    sum: u64,
    events: u64,
    last: [u64; 2],
    out_of_order: u64,
}

impl Aggregate for Sum {
    type Event = (usize, u64);
    type Part = (u64, u64);
    type Finals = ();

    fn apply(&mut self, (source, n): (usize, u64)) {
        self.out_of_order += u64::from(n < self.last[source]);
        self.last[source] = n;
        self.sum += n;
        self.events += 1;
    }

    fn snapshot(&self, _now: Mono) -> (u64, u64) {
        (self.sum, self.events)
    }

    fn finish(self, (): &()) -> (u64, u64) {
        (self.sum, self.events)
    }
}

#[test]
fn all_that_was_sent_before_the_finish_is_applied_in_each_sources_order() {
    let mut hub = Hub::new(Sum::default());
    let sources = [hub.channel("a", 100_000), hub.channel("b", 100_000)];
    let collector = hub.start(|| {}).unwrap();
    let threads: Vec<_> = sources
        .into_iter()
        .enumerate()
        .map(|(i, sender)| std::thread::spawn(move || (0..10_000).for_each(|n| sender.send((i, n)))))
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let (sum, lost) = collector.finish().unwrap();
    assert_eq!((sum.events, sum.sum, sum.out_of_order), (20_000, 2 * (0..10_000).sum::<u64>(), 0));
    assert_eq!(lost, []);
}

/// Before the collector starts nothing is taken out.
#[test]
fn what_finds_no_room_is_counted_by_source_and_the_sender_does_not_wait() {
    let mut hub = Hub::new(Sum::default());
    let (full, other) = (hub.channel("full", 3), hub.channel("other", 3));
    (0..5).for_each(|n| full.send((0, n)));
    full.send_within((0, 9), Duration::from_millis(1));
    other.send((1, 100));
    let (sum, lost) = hub.start(|| {}).unwrap().finish().unwrap();
    assert_eq!((sum.events, sum.sum), (4, 103));
    assert_eq!(lost, [LostEvents { source: "full", events: 3 }]);
}

#[test]
fn a_source_that_never_ends_holds_up_neither_the_others_nor_the_finish() {
    let mut hub = Hub::new(Sum::default());
    let (hangs, ends) = (hub.channel("hangs", 8), hub.channel("ends", 8));
    let collector = hub.start(|| {}).unwrap();
    hangs.send((0, 1));
    ends.send((1, 2));
    drop(ends);
    let (sum, _) = collector.finish().unwrap();
    assert_eq!(sum.sum, 3);
    hangs.send((0, 5));
}

#[test]
fn a_snapshot_that_a_source_asks_for_holds_all_that_it_sent_before() {
    let mut hub = Hub::new(Sum::default());
    let sender = hub.channel("a", 1_000);
    let collector = hub.start(|| {}).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 1..=20_u64 {
        (0..10).for_each(|_| sender.send((0, 1)));
        assert_eq!(runtime.block_on(sender.snapshot()), Some((round * 10, round * 10)));
    }
    drop(collector.finish());
    assert_eq!(runtime.block_on(sender.snapshot()), None, "there is no collector to ask");
}

#[test]
fn a_snapshot_is_asked_for_through_a_full_channel_too() {
    let mut hub = Hub::new(Sum::default());
    let sender = hub.channel("a", 3);
    (0..3).for_each(|_| sender.send((0, 1)));
    let starts = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(20));
        hub.start(|| {}).unwrap()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(runtime.block_on(sender.snapshot()), Some((3, 3)));
    drop(starts.join().unwrap().finish());
}

#[test]
fn snapshots_are_made_only_while_a_view_is_open_and_their_counts_never_fall() {
    let mut hub = Hub::new(Sum::default());
    let sender = hub.channel("a", 1_000_000);
    let view = hub.snapshots();
    let collector = hub.start(|| {}).unwrap();
    let mut seen = Vec::new();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while seen.len() < 3 && std::time::Instant::now() < deadline {
        sender.send((0, 1));
        if let Some(latest) = view.latest()
            && seen.last() != Some(&latest)
        {
            seen.push(latest);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(seen.len() == 3 && seen.windows(2).all(|w| w[0].1 < w[1].1), "{seen:?}");
    let (last, board) = (seen[2].1, Arc::clone(&collector.board));
    drop(view);
    assert!(!board.is_wanted());
    let (sum, _) = collector.finish().unwrap();
    assert!(sum.events >= last);
}

#[test]
fn a_panic_of_the_collector_is_an_error_and_what_is_sent_after_it_is_counted() {
    struct Panics;
    impl Aggregate for Panics {
        type Event = ();
        type Part = ();
        type Finals = ();
        fn apply(&mut self, (): ()) {
            panic!("as a test wants it")
        }
        fn snapshot(&self, _now: Mono) {}
        fn finish(self, (): &()) {}
    }
    let mut hub = Hub::new(Panics);
    let sender = hub.channel("a", 8);
    let collector = hub.start(|| {}).unwrap();
    sender.send(());
    assert!(matches!(collector.finish(), Err(CollectorPanicked)));
    sender.send(());
}
