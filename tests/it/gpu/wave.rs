//! Power that swings as often as it is read: decode's rhythm, with and without a counter.

use inferscope_tests::gpu::{Load, Ran, Scene};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use serde_json::{Value, json};

use crate::{GB, device};

const LOAD: Load = Load { requests: 6, tokens: 25 };

/// 300 and 100 W in turn, 25 ms each: in each interval of 50 ms between two looks once up and once down.
fn wave() -> Vec<(f64, f64)> {
    let edge = |n: u32| {
        let (at, watts) = (f64::from(n) * 25.0, if n.is_multiple_of(2) { 300_000.0 } else { 100_000.0 });
        [(at + 0.01, watts), (at + 25.0, watts)]
    };
    [(0.0, 80_000.0)].into_iter().chain((0..400).flat_map(edge)).collect()
}

fn run(counter: bool) -> (Ran, f64) {
    let mut h100 = device("NVIDIA H100 80GB HBM3", 80 * GB, 5 * GB, &wave(), 350);
    if !counter {
        h100["energy"] = json!(null);
    }
    let ran = Scene::new(json!({"devices": [h100]})).run(LOAD, &[]);
    let truth = ran.truth_mj(&wave());
    (ran, truth)
}

fn told(gpu: &Value) -> (f64, f64) {
    (gpu.real("energy_mj"), gpu.real("energy_error_mj"))
}

#[test]
fn the_counter_rules_and_the_mean_power_is_its() {
    let (ran, truth) = run(true);
    let gpu = ran.gpu(0);
    let (mj, error) = told(gpu);
    say(&format!("{:.0} J ± {:.0} J by the counter, truth {:.0} J", mj / 1e3, error / 1e3, truth / 1e3));
    assert_eq!(gpu["energy_source"], "counter");
    assert!((mj - truth).abs() <= error && error < truth * 0.15, "{truth} is not {mj} ± {error}");
    let (from, to) = ran.window_ms();
    let mean = gpu.real("mean_power_mw");
    assert!((mean - mj / (to - from) * 1e3).abs() < 1_000.0, "{mean} is not {mj} over {}", to - from);
    // Parts of prefill and decode, where they are told at all, are of the same sum.
    if let Some(parts) = ran.report["efficiency"]["prefill_decode"].as_object() {
        let of = |name: &str| parts.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let (sum, errors) =
            (of("prefill_mj") + of("decode_mj"), of("prefill_error_mj") + of("decode_error_mj"));
        assert!(sum - errors <= mj + error, "{sum} ± {errors} are more than {mj} ± {error}");
    }
}

#[test]
fn without_a_counter_the_error_holds_what_no_look_met() {
    let (ran, truth) = run(false);
    let (mj, error) = told(ran.gpu(0));
    say(&format!("{:.0} J ± {:.0} J by the power, truth {:.0} J", mj / 1e3, error / 1e3, truth / 1e3));
    assert_eq!(ran.gpu(0)["energy_source"], "integrated");
    assert!((mj - truth).abs() <= error, "{truth} is not {mj} ± {error}");
    assert!(error > truth * 0.05, "{error} is too sure of itself");
}
