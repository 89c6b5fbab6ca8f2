//! The emitter itself: what others are judged by has to be right.

use std::io::{Read, Write};
use std::net::TcpStream;

use inferscope_tests::client::request;
use inferscope_tests::clock::monotonic_ns;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::process::living_comm;
use inferscope_tests::wait::wait_until;

const ASK: &str = r#"{"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}"#;

fn port(emitter: &Emitter) -> u16 {
    emitter.endpoint.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn ask(port: u16, body: &str) -> inferscope_tests::client::Answered {
    request(port, "POST", "/v1/chat/completions", body).unwrap()
}

#[test]
fn the_log_holds_every_write_at_its_time() {
    let emitter = Emitter::start(&["--first-token", "20ms", "--interval", "10ms"]);
    assert_eq!(request(port(&emitter), "GET", "/v1/models", "").unwrap().json()["data"][0]["id"], "emitter");
    let before = monotonic_ns();
    let events = ask(port(&emitter), ASK).events();
    let after = monotonic_ns();
    // Three tokens, the finish and the usage.
    assert_eq!((events.len(), &events[4]["usage"]["completion_tokens"]), (5, &3.into()));
    let whole = ask(port(&emitter), &ASK.replace("\"max", "\"stream\": false, \"max")).json();
    assert_eq!(whole["choices"][0]["message"]["content"], " tok tok tok");

    let [stream, document] = &emitter.end()[..] else { panic!("two requests were sent") };
    assert_eq!((stream.outcome.as_str(), stream.prompt_bytes, stream.tokens()), ("ok", 5, 3));
    // Two clocks that are not read at once.
    assert!(stream.arrived_ns + 20_000 >= before && stream.arrived_ns <= stream.read_ns);
    for (n, write) in stream.writes.iter().enumerate() {
        assert_eq!(write.due_ns, stream.arrived_ns + (20 + 10 * n as u64) * 1_000_000);
        assert!(write.at_ns >= write.due_ns && write.at_ns <= after);
    }
    assert_eq!((document.writes.len(), document.tokens()), (1, 3));
}

#[test]
fn who_comes_beyond_the_slots_waits_for_them_in_order() {
    let emitter = Emitter::start(&["--slots", "1", "--first-token", "20ms", "--interval", "10ms"]);
    let port = port(&emitter);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(ask(port, ASK).events().len(), 5));
        }
    });
    let log = emitter.end();
    assert_eq!(log.len(), 4);
    for pair in log.windows(2) {
        let freed = pair[0].writes.last().unwrap().at_ns;
        assert!(pair[1].writes[0].at_ns >= freed + 20_000_000, "{pair:?}");
    }
}

#[test]
fn a_client_that_leaves_frees_its_slot_and_is_told() {
    let emitter = Emitter::start(&["--slots", "1", "--first-token", "20ms", "--tokens", "1000"]);
    let mut gone = TcpStream::connect(("127.0.0.1", port(&emitter))).unwrap();
    gone.write_all(b"POST /v1/completions HTTP/1.1\r\nX-Request-Id: a\r\nContent-Length: 2\r\n\r\n{}")
        .unwrap();
    gone.read_exact(&mut [0; 8]).unwrap();
    drop(gone);
    assert_eq!(ask(port(&emitter), ASK).events().len(), 5);
    let log = emitter.end();
    assert_eq!((log[0].id.as_deref(), log[0].outcome.as_str()), (Some("a"), "client_closed"));
    assert_eq!(log[1].outcome, "ok");
}

#[test]
fn it_ends_by_itself() {
    let emitter = Emitter::start(&["--lifetime", "200ms"]);
    wait_until("the end of its lifetime", || living_comm(emitter.pid).is_none());
}
