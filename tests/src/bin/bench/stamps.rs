//! How far stamps are from the writes that they are of, at concurrency 1, 8 and 64.
//!
//! Owns the loads and the table. The server is the emitter, which logs its clock before and after each write(2): a stamp
//! between the two is as true as the server can tell. Called by `main.rs`.

use inferscope_tests::binary;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::needs::say;
use inferscope_tests::stamps::{Stamps, compare, quantile, truth};

/// Tokens every 20 ms.
const LOADS: [(&str, &str); 3] = [("1", "10"), ("8", "80"), ("64", "256")];
/// The bound on the 99th percentile.
const WITHIN_NS: f64 = 100e3;

pub(crate) fn run() {
    println!(
        "\n### Stamps against a server that logs its writes (100 tokens an answer, every 20 ms, http)\n"
    );
    println!(
        "| at a time | stamps | since the clock before the write: p50 / p99 / max | outside of the write: p50 / p99 / max \
         | a write takes: p50 / p99 | p99 within {} ms |\n|--:|--:|--:|--:|--:|---|",
        WITHIN_NS / 1e6
    );
    for (concurrency, requests) in LOADS {
        say(&format!("bench: {concurrency} at a time"));
        match measure(concurrency, requests) {
            Ok(stamps) => println!("{}", line(concurrency, &stamps)),
            Err(why) => println!("| {concurrency} | failed: {why} |||||"),
        }
    }
}

fn measure(concurrency: &str, requests: &str) -> Result<Stamps, String> {
    let emitter = Emitter::start(&["--interval", "20ms", "--tokens", "100", "--lifetime", "120s"]);
    let args = ["--endpoint", &emitter.endpoint, "--json", "--quiet", "--max-tokens", "100"];
    let load = ["--concurrency", concurrency, "--requests", requests];
    let ended = binary::run(&[&args[..], &load].concat());
    let log = emitter.end();
    if ended.code != Some(0) {
        return Err(ended.stderr);
    }
    compare(&ended.json(), &truth(&log))
}

fn line(concurrency: &str, stamps: &Stamps) -> String {
    let us = |values: &[f64], q| format!("{:.1}", quantile(values, q) / 1e3);
    let three =
        |values: &[f64]| format!("{} / {} / {} µs", us(values, 0.5), us(values, 0.99), us(values, 1.0));
    format!(
        "| {concurrency} | {} | {} | {} | {} / {} µs | {} |",
        stamps.since.len(),
        three(&stamps.since),
        three(&stamps.off),
        us(&stamps.took, 0.5),
        us(&stamps.took, 0.99),
        if quantile(&stamps.since, 0.99) <= WITHIN_NS { "yes" } else { "no" }
    )
}
