//! The devices' figures against the truth of scenarios, through the very path that loads the real driver's library.
//!
//! Each published run and each known trap of NVML is a scenario of the stand-in (`tests/nvml-standin`).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy does not see helpers as tests"
)]

mod away;
mod cost;
mod counters;
mod opening;
mod recorded;
mod reload;
mod replayed;
mod rest;
mod scenarios;
mod split;
mod traps;
mod verdict;
mod wave;

use inferscope_tests::gpu::Ran;
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use serde_json::{Value, json};

const GB: u64 = 1_000_000_000;

/// From rest, up at the first request, with a wave on it, that a single level would not show.
fn curve(idle_w: f64, busy_w: f64) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, idle_w * 1e3), (5.0, busy_w * 1e3)];
    for n in 1..40 {
        let wave = if n % 2 == 0 { 1.1 } else { 0.9 };
        points.push((f64::from(n) * 150.0, busy_w * 1e3 * wave));
    }
    points
}

fn points(curve: &[(f64, f64)]) -> Value {
    json!(curve)
}

/// A device with everything that a current one tells, and the server on it.
fn device(name: &str, total: u64, target: u64, power: &[(f64, f64)], limit_w: u64) -> Value {
    json!({
        "name": name, "uuid": format!("GPU-{name}"), "memory_total": total, "memory_reserved": 500_000_000,
        "memory_used": target + 300_000_000, "sm": [[0.0, 0.0], [1.0, 50.0]], "memory_busy": 30, "temperature": 60,
        "sm_clock": 1500, "max_sm_clock": 1980, "power_mw": points(power), "power_instant": true,
        "power_average_ms": 1000, "power_limit_mw": limit_w * 1000, "throttle": 0,
        "energy": {"start_mj": 123_456_789_u64, "refresh_ms": 100},
        "samples": {"every_ms": 20, "keep": 120}, "utilization_ms": 166,
        "processes": [{"name": "server", "memory": target, "sm": 50}],
    })
}

/// The energy of one device, and what a token took of it, are as true as they say.
fn check_energy(ran: &Ran, place: usize, curve: &[(f64, f64)]) {
    let (gpu, truth) = (ran.gpu(place), ran.truth_mj(curve));
    let (mj, error) = (gpu.real("energy_mj"), gpu.real("energy_error_mj"));
    say(&format!(
        "{}: {:.1} J ± {:.1} J by {}, truth {:.1} J",
        gpu["name"],
        mj / 1e3,
        error / 1e3,
        gpu["energy_source"],
        truth / 1e3
    ));
    assert!((mj - truth).abs() <= error, "{truth} is not {mj} ± {error}");
    assert!(error < truth * 0.3, "an error of {error} says nothing about {truth}");
}

fn check_joules(ran: &Ran, truth_mj: f64) {
    let e = &ran.report["efficiency"];
    let tokens = ran.report["timing"].real("output_tokens");
    let truth = truth_mj / 1e3 / tokens;
    let (joules, error) = (e.real("joules_per_token"), e.real("joules_per_token_error"));
    assert!((joules - truth).abs() <= error, "{truth} is not {joules} ± {error}");
}
