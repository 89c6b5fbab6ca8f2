//! A stop of the client in mid-stream is not booked on the server.
//!
//! The emitter logs its writes; inferscope is stopped with SIGSTOP for 150 ms while it streams. No gap may be told that
//! the server did not make, and the verdict has to name the stall.

use std::time::Duration;

use inferscope_tests::binary;
use inferscope_tests::emitter::{Emitter, by_id};
use inferscope_tests::process::signal;
use inferscope_tests::report::Named;
use rustix::process::Signal;
use serde_json::Value;

const STALL: Duration = Duration::from_millis(150);
const STALLS: usize = 5;
/// A gap between two stamps that hold differs from the truth by two wake-ups of a busy machine.
const TOLERANCE_NS: u64 = 10_000_000;

#[test]
fn a_stopped_client_makes_no_gap_of_the_servers() {
    let emitter = Emitter::start(&["--first-token", "50ms", "--interval", "20ms", "--tokens", "200"]);
    let args =
        ["--endpoint", &emitter.endpoint, "--json", "--gpu", "off", "--concurrency", "2", "--requests", "2"];
    let args = [&args[..], &["--max-tokens", "200", "--tracker", "proc"]].concat();
    let mut running = binary::start(&args);
    // The load begins right after, and both streams take 4 s.
    running.wait_until_observing();
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..STALLS {
        signal(running.process.pid(), Signal::STOP);
        std::thread::sleep(STALL);
        signal(running.process.pid(), Signal::CONT);
        std::thread::sleep(Duration::from_millis(250));
    }
    let report = running.wait().report();
    let log = emitter.end();
    let (timing, run) = (&report["timing"], report["run"].text("id"));
    let served = by_id(&log);
    let mut truth = 0;
    for request in report.list("requests") {
        let id = format!("inferscope-{run}-{}", request["id"]);
        truth = truth.max(served[id.as_str()].gaps_ns().max().unwrap());
    }
    let told = timing["inter_chunk_ns"].whole("max");
    assert!(told <= truth + TOLERANCE_NS, "told {told}, truth {truth}: {}", timing["left_out"]);
    let left_out = &timing["left_out"];
    assert!(left_out.whole("gaps") >= 10, "{left_out}");
    assert!(left_out.whole("longest_stall_ns") >= 140_000_000, "{left_out}");
    let count = timing["inter_chunk_ns"].whole("count") + left_out.whole("gaps");
    assert_eq!(count, 2 * 199, "every gap is told or left out");
    let codes: Vec<&Value> = report.list("validity").iter().map(|v| &v["code"]).collect();
    assert!(codes.contains(&&Value::from("client_stalled")), "{codes:?}");
}
