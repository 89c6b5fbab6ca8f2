//! Stamps of tokens against the writes of a server that logs its clock before and after each of them.
//!
//! The kernel stamps a chunk within the server's write(2), whoever is scheduled when: a stamp outside of it is an error, but
//! for what is read together (the kernel tells one time for it), which a busy machine makes more of. So bounds are on the
//! median and on nine in ten. `cargo xtask bench stamps` has the 99th percentile, in a release build.

use inferscope_tests::binary;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::needs::say;
use inferscope_tests::stamps::{compare, quantile, truth};

/// Stamps are of CLOCK_REALTIME, converted by reading both clocks.
const MEDIAN_NS: f64 = 10e3;
const NINE_IN_TEN_NS: f64 = 100e3;

#[test]
fn stamps_lie_within_the_writes_that_they_are_of() {
    for (concurrency, requests, interval) in [("1", "6", "10ms"), ("8", "24", "15ms"), ("64", "64", "40ms")] {
        let emitter = Emitter::start(&["--interval", interval, "--tokens", "24"]);
        let args = ["--endpoint", &emitter.endpoint, "--json", "--quiet", "--max-tokens", "24"];
        let load = ["--concurrency", concurrency, "--requests", requests];
        let report = binary::run(&[&args[..], &load].concat()).report();
        let stamps = compare(&report, &truth(&emitter.end())).unwrap_or_else(|why| panic!("{why}"));
        let at = |values: &[f64], q| quantile(values, q) / 1e3;
        say(&format!(
            "{concurrency} at a time: {} stamps, off by {:.1} µs (median), {:.1} (p90), {:.1} (p99); writes took {:.1} (p50), {:.1} (p99)",
            stamps.off.len(),
            at(&stamps.off, 0.5),
            at(&stamps.off, 0.9),
            at(&stamps.off, 0.99),
            at(&stamps.took, 0.5),
            at(&stamps.took, 0.99)
        ));
        assert!(quantile(&stamps.off, 0.5) <= MEDIAN_NS, "{concurrency} at a time: median");
        assert!(quantile(&stamps.off, 0.9) <= NINE_IN_TEN_NS, "{concurrency} at a time: nine in ten");
    }
}
