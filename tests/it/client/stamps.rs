//! Stamps of tokens against the writes of servers that log their clock before and after each of them.
//!
//! The kernel stamps a chunk within the server's write(2), whoever is scheduled when: a stamp outside of it is an error, but
//! for what is read together (the kernel tells one time for it), which a busy machine makes more of. So bounds are on the
//! median and on nine in ten. `cargo xtask bench stamps` has the 99th percentile, in a release build.

use inferscope_tests::binary;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::requirements::say;
use inferscope_tests::stamps::{Stamps, compare, quantile, truth};

/// Stamps are of CLOCK_REALTIME, converted by reading both clocks.
const MEDIAN_NS: f64 = 10e3;
const NINE_IN_TEN_NS: f64 = 100e3;
/// At a time, requests, milliseconds between tokens.
const LOADS: [(u64, u64, u64); 3] = [(1, 6, 10), (8, 24, 15), (64, 64, 40)];
const TOKENS: u64 = 24;

fn judge(what: &str, stamps: &Stamps) {
    let at = |values: &[f64], q| quantile(values, q) / 1e3;
    say(&format!(
        "{what}: {} stamps, off by {:.1} µs (median), {:.1} (p90), {:.1} (p99); writes took {:.1} (p50), {:.1} (p99)",
        stamps.off.len(),
        at(&stamps.off, 0.5),
        at(&stamps.off, 0.9),
        at(&stamps.off, 0.99),
        at(&stamps.took, 0.5),
        at(&stamps.took, 0.99)
    ));
    assert!(quantile(&stamps.off, 0.5) <= MEDIAN_NS, "{what}: median");
    assert!(quantile(&stamps.off, 0.9) <= NINE_IN_TEN_NS, "{what}: nine in ten");
}

fn check(https: bool) {
    let tokens = TOKENS.to_string();
    for (concurrency, requests, interval) in LOADS {
        let pace = ["--interval", &format!("{interval}ms"), "--tokens", &tokens];
        let emitter = if https { Emitter::start_https(&pace) } else { Emitter::start(&pace) };
        let [at_once, requests] = [concurrency, requests].map(|n| n.to_string());
        let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--quiet", "--max-tokens", &tokens];
        // Before them as many as there are connections: 64 handshakes at once keep a debug build from reading.
        args.extend(["--concurrency", &at_once, "--requests", &requests, "--warmup", &at_once]);
        if https {
            args.extend(["--cacert", emitter.certificate()]);
        }
        let report = binary::run(&args).report();
        let stamps = compare(&report, &truth(&emitter.end())).unwrap_or_else(|why| panic!("{why}"));
        judge(&format!("{}, {concurrency} at a time", if https { "https" } else { "http" }), &stamps);
    }
}

#[test]
fn stamps_lie_within_the_writes_that_they_are_of() {
    check(false);
}

#[test]
fn stamps_over_tls_lie_within_the_writes_of_their_records() {
    check(true);
}
