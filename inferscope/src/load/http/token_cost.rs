//! What a streamed token costs the client, through the one and the other transport. A measurement, not a check:
//! `cargo test --release -p inferscope --lib load::http::cost -- --ignored --nocapture`.

use std::thread;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::time::{ClockId, clock_gettime};

use super::tests::{CHUNKED, Client, DONE, LAST, Peer, piece, serve};
use super::*;

const STREAMS: usize = 400;
const TOKENS: usize = 50;
const EVENT: &str = "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
    \"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" tok\"},\"finish_reason\":null}]}\n\n";

/// CPU nanoseconds a token of the thread that reads, setting up included, and their reads' lag.
async fn cost(client_of: fn(u16) -> Client) -> (u64, ClientLog) {
    let (port, server) = serve(|listener| {
        let mut peers: Vec<Peer> = (0..STREAMS).map(|_| Peer::accept(&listener)).collect();
        for peer in &mut peers {
            peer.request().unwrap();
            peer.say(CHUNKED);
        }
        let event = piece(EVENT);
        for _ in 0..TOKENS {
            peers.iter_mut().for_each(|peer| peer.say(&event));
            thread::sleep(Duration::from_millis(10));
        }
        peers.iter_mut().for_each(|peer| peer.say(&(piece(DONE) + LAST)));
    });
    let client = client_of(port);
    let url = client.endpoint.join("chat/completions");
    let cpu = || {
        let t = clock_gettime(ClockId::ThreadCPUTime);
        t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
    };
    let before = cpu();
    let (_keep, stop) = watch::channel(false);
    let mut streams: FuturesUnordered<_> = (0..STREAMS as u64)
        .map(|id| {
            let (http, url, mut stop) = (&client.http, &url, stop.clone());
            let slot = Slot { id, warmup: false, scheduled: None };
            async move { http.exchange(url, "{}".into(), slot, Asked::tokens(TOKENS as u64), &mut stop).await }
        })
        .collect();
    while let Some(log) = streams.next().await {
        assert_eq!((log.failure, log.chunks.len()), (None, TOKENS));
    }
    let used = cpu() - before;
    server.join().unwrap();
    (used / (STREAMS * TOKENS) as u64, client.http.client_log())
}

#[tokio::test]
#[ignore = "a measurement, for an optimised build"]
async fn what_a_token_costs() {
    for _ in 0..3 {
        let (reqwest, _) = cost(Client::reqwest).await;
        let (h1, own) = cost(Client::h1).await;
        let lag = own.read_lag.unwrap();
        eprintln!(
            "CPU a token: h1 {h1} ns, reqwest {reqwest} ns, ratio {:.2}; read lag p50 {} p99 {} us, {} unstamped",
            reqwest as f64 / h1 as f64,
            lag.value_at_quantile(0.5) / 1000,
            lag.value_at_quantile(0.99) / 1000,
            own.unstamped_reads
        );
    }
}
