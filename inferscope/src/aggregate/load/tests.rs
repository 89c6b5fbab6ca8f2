use super::*;
use crate::aggregate::{slow_gaps, timeline};
use crate::event::Loaded;
use crate::fixture::{DrivenLoad, RequestBuilder, client, ms, phase, plan};

/// One request after another, each of these many tokens at 100 a second.
fn driven(requests: u64, tokens: u64) -> LoadTotals {
    let plan = plan();
    let mut load = DrivenLoad::new(plan.load.as_ref().unwrap(), None);
    let loaded = Loaded { from: Some(ms(0)), to: None };
    let length = tokens * 10;
    for id in 0..requests {
        let sent = id * length;
        let times = (1..=tokens).map(|n| sent + n * 10);
        let request = RequestBuilder::new(id).sent(sent).content(times).usage(1, tokens);
        load.request(&request.done(sent + length).build(), loaded);
    }
    load.phase(phase(requests, ms(0), ms(requests * length)));
    load.finish(client())
}

#[test]
fn an_hour_at_a_hundred_tokens_a_second_keeps_to_the_bounds() {
    let hour = driven(3_600, 100);
    assert_eq!((hour.all.ok, hour.all.output.total()), (3_600, Some(360_000)));
    let listed: usize = hour.requests.requests.iter().map(|r| r.chunks.len()).sum();
    assert!(listed <= 200_000 && hour.requests.without_chunks > 0, "{listed}");
    assert_eq!(hour.slow_gaps.len(), slow_gaps::CAPACITY);
    assert!(hour.tokens.buckets().count() <= timeline::CAPACITY);
}

#[test]
fn the_timeline_holds_each_token_in_its_time() {
    let load = driven(30, 100);
    let seen: u64 = load.tokens.buckets().map(|(_, arrived)| arrived.tokens).sum();
    assert_eq!(seen, 3_000);
    let full = load.tokens.buckets().skip(1).take(290);
    // 100 ms each.
    assert!(full.into_iter().all(|(_, arrived)| (arrived.tokens, arrived.unknown) == (10, 0)));
}

#[test]
fn slow_gaps_are_the_longest_between_two_chunks_and_say_where() {
    let plan = plan();
    let mut load = DrivenLoad::new(plan.load.as_ref().unwrap(), None);
    let loaded = Loaded { from: Some(ms(0)), to: None };
    let request = |id: u64, tokens: &[u64]| {
        RequestBuilder::new(id)
            .content(tokens.iter().copied())
            .usage(1, tokens.len() as u64)
            .done(900)
            .build()
    };
    load.request(&request(0, &[10, 20, 500, 510]), loaded);
    load.request(&request(1, &[10, 110, 120]), loaded);
    load.phase(phase(2, ms(0), ms(900)));
    let load = load.finish(client());
    let found = |n: usize| {
        let gap = load.slow_gaps[n];
        (gap.window, gap.request, gap.choice, gap.chunk)
    };
    assert_eq!(found(0), (Window { from: ms(20), to: ms(500) }, 0, 0, 2));
    assert_eq!(found(1), (Window { from: ms(10), to: ms(110) }, 1, 0, 1));
    assert_eq!(load.slow_gaps.len(), 5);
}
