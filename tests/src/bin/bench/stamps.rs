//! How far stamps are from the writes that they are of, at concurrency 1, 8 and 64, over http and https.
//!
//! Owns the loads and the table; warm-up opens the connections. The servers log their clock before and after each write(2): a stamp between the two is as
//! true as the server can tell. Called by `main.rs`.

use inferscope_tests::binary;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::requirements::say;
use inferscope_tests::stamps::{Stamps, compare, quantile, truth};

/// Tokens every 20 ms.
const LOADS: [(&str, &str); 3] = [("1", "10"), ("8", "80"), ("64", "256")];
const TOKENS: &str = "100";
/// The bounds on the 99th percentile.
const HTTP_NS: f64 = 100e3;
const HTTPS_NS: f64 = 300e3;

pub(crate) fn run() {
    println!("\n### Stamps against servers that log their writes ({TOKENS} tokens an answer, every 20 ms)\n");
    println!(
        "| at a time | stamps | since the clock before the write: p50 / p99 / max | outside of the write: p50 / p99 / max \
         | a write takes: p50 / p99 | p99 as it should be |\n|--:|--:|--:|--:|--:|---|"
    );
    for (way, within) in [("http", HTTP_NS), ("https", HTTPS_NS)] {
        for (concurrency, requests) in LOADS {
            say(&format!("bench: {way}, {concurrency} at a time"));
            let load = ["--concurrency", concurrency, "--requests", requests, "--warmup", concurrency];
            match measure(way == "https", &load) {
                Ok(stamps) => println!("{}", line(&format!("{way} {concurrency}"), within, &stamps)),
                Err(why) => println!("| {way} {concurrency} | failed: {why} |||||"),
            }
        }
    }
}

fn measure(https: bool, load: &[&str]) -> Result<Stamps, String> {
    let pace = ["--interval", "20ms", "--tokens", TOKENS, "--lifetime", "120s"];
    let emitter = if https { Emitter::start_https(&pace) } else { Emitter::start(&pace) };
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--quiet", "--max-tokens", TOKENS];
    args.extend(load);
    if https {
        args.extend(["--cacert", emitter.certificate()]);
    }
    let ended = binary::run(&args);
    let log = emitter.end();
    if ended.code == Some(0) { compare(&ended.report(), &truth(&log)) } else { Err(ended.stderr) }
}

fn line(what: &str, within: f64, stamps: &Stamps) -> String {
    let us = |values: &[f64], q| format!("{:.1}", quantile(values, q) / 1e3);
    let three =
        |values: &[f64]| format!("{} / {} / {} µs", us(values, 0.5), us(values, 0.99), us(values, 1.0));
    format!(
        "| {what} | {} | {} | {} | {} / {} µs | {} |",
        stamps.since.len(),
        three(&stamps.since),
        three(&stamps.off),
        us(&stamps.took, 0.5),
        us(&stamps.took, 0.99),
        if quantile(&stamps.since, 0.99) <= within { "yes" } else { "no" }
    )
}
