//! What polling devices costs, and what a slow driver does to the tokens' stamps.
//!
//! Owns the scenarios and the two tables. The driver is the stand-in, whose calls take the time and the CPU time that those
//! of an H200's driver took; the CPU time of the thread holds both. Called by `main.rs`.

use inferscope_tests::gpu::{Load, Scene};
use inferscope_tests::report::Named;
use inferscope_tests::requirements;
use inferscope_tests::stats::Errors;
use serde_json::{Value, json};

const DEVICES: [usize; 3] = [1, 4, 8];
const LOAD: Load = Load { requests: 20, tokens: 25 };

pub(crate) fn run() {
    println!("\n### GPUs: the poll's own thread, a tick of 50 ms, a driver that costs what an H200's does\n");
    println!(
        "| devices | ticks | calls a tick and device | time a tick and device | CPU a tick and device | share of a CPU |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for devices in DEVICES {
        requirements::say(&format!("bench: gpu, {devices} devices"));
        let scene = Scene::new(json!({"devices": vec![device(); devices]}));
        let report = scene.observe("30s");
        let poll = &report["gpu_summary"]["poll"];
        let (ticks, calls) = (poll.real("ticks"), poll.real("calls"));
        let each = |name: &str| poll.real(name) / ticks / devices as f64 / 1e3;
        let seconds = report["run"].real("duration_ns") / 1e9;
        println!(
            "| {devices} | {ticks} | {:.1} | {:.0} µs | {:.0} µs | {:.2}% |",
            calls / ticks / devices as f64,
            each("call_ns"),
            each("cpu_ns"),
            poll.real("cpu_ns") / 1e9 / seconds * 100.0
        );
    }
    println!("\n### GPUs: how late tokens are stamped\n");
    println!(
        "| driver | median | p90 | worst | slowest call | looks at the device |\n|---|--:|--:|--:|--:|--:|"
    );
    let cases = [
        ("answers at once", json!({"*": 0})),
        ("as an H200's", json!({})),
        ("80 ms a call", json!({"*": 80_000})),
    ];
    for (name, latency) in cases {
        requirements::say(&format!("bench: gpu, driver: {name}"));
        let scene = Scene::new(json!({"devices": [device()], "latency_us": latency}));
        let ran = scene.run(LOAD, &[]);
        let errors = Errors::of(&ran.stamp_errors());
        println!(
            "| {name} | {:.0} µs | {:.0} µs | {:.0} µs | {:.1} ms | {} |",
            errors.p50 / 1e3,
            errors.p90 / 1e3,
            errors.worst / 1e3,
            ran.report["gpu_summary"]["poll"].real("slowest_call_ns") / 1e6,
            ran.gpu(0)["samples"].as_array().map_or(0, Vec::len)
        );
    }
}

/// It tells all that a current one does.
fn device() -> Value {
    json!({
        "name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-0", "memory_total": 85_899_345_920_u64,
        "memory_used": 21_400_000_000_u64, "sm": 88, "memory_busy": 40, "temperature": 60, "sm_clock": 1980,
        "max_sm_clock": 1980, "power_mw": 439_000, "power_instant": true, "power_limit_mw": 700_000, "throttle": 0,
        "pcie_tx": 1000, "pcie_rx": 1000, "pcie_counters": true, "energy": {"refresh_ms": 100}, "samples": {"every_ms": 20, "keep": 120},
        "utilization_ms": 166, "processes": [{"name": "server", "memory": 21_000_000_000_u64, "sm": 88}],
    })
}
