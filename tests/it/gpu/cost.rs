//! What polling costs at the price that an H200's driver takes for each call, and that nothing is lost by asking seldom.

use inferscope_tests::gpu::{LOAD, Scene, area_mj};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use inferscope_tests::script::steady;
use inferscope_tests::timed_server::Answer;
use serde_json::{Value, json};

use crate::{GB, curve, device};

fn h200() -> Value {
    let mut h200 = device("NVIDIA H200", 141 * GB, 20 * GB, &curve(78.0, 430.0), 700);
    (h200["pcie_tx"], h200["pcie_rx"]) = (json!(1_234_000), json!(56_000));
    h200["pcie_counters"] = json!(true);
    h200
}

/// Without the calls' own time the rest is inferscope's, much of it as this build is one for debugging; `cargo xtask bench
/// gpu` has the figure of both. Spent on the thread's own clock, so that a busy machine changes little. It was 2,700 µs when
/// each look made every call but the slowest.
#[test]
fn a_look_takes_less_than_half_a_millisecond_of_the_drivers_cpu() {
    let run = |latency: Value| {
        let report = Scene::new(json!({"devices": [h200()], "latency_us": latency})).observe("15s");
        let poll = &report["gpu_summary"]["poll"];
        assert!(poll.real("ticks") > 150.0, "{poll}");
        poll.real("cpu_ns") / poll.real("ticks") / 1e3
    };
    let (with, without) = (run(json!({})), run(json!({"*": 0})));
    say(&format!("{with:.0} µs of CPU a look, {without:.0} µs without a real driver's calls"));
    assert!(with - without < 500.0, "{with} µs and {without} µs");
}

#[test]
fn pcie_is_the_rate_of_counters_and_the_slow_query_is_not_made_where_there_are_some() {
    let ran = Scene::new(json!({"devices": [h200()]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    for (name, truth) in [("pcie_tx_kb_per_s", 1_234_000.0), ("pcie_rx_kb_per_s", 56_000.0)] {
        let told = gpu[name].real("mean");
        assert!((told / truth - 1.0).abs() < 0.03, "{name}: {told} is not {truth}");
        assert_eq!(gpu["capabilities"][name], json!(null));
    }
    assert_eq!(gpu["capabilities"]["pcie_tx_bytes"], "ok");
}

/// A counter of 32 bits may go round between two readings: 4 GiB are a tenth of a second of PCIe 5.0.
#[test]
fn a_pcie_counter_that_goes_round_is_not_used() {
    let mut narrow = h200();
    narrow["pcie_narrow"] = json!(true);
    let ran = Scene::new(json!({"devices": [narrow]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    let told = gpu["capabilities"].text("pcie_tx_bytes");
    assert!(told.contains("of 32 bits"), "{told}");
    assert_eq!(gpu["capabilities"]["pcie_tx_kb_per_s"], "ok");
    // It is asked every five seconds; a run of two may have it once.
    let mean = &gpu["pcie_tx_kb_per_s"]["mean"];
    assert!(mean.is_null() || mean.as_f64() == Some(1_234_000.0), "{mean}");
}

#[test]
fn what_the_driver_sampled_in_the_run_is_all_there_and_nothing_from_before() {
    let report = Scene::new(json!({"devices": [h200()]})).observe("4s");
    let gpu = &report["gpus"][0];
    let times = |name: &str| -> Vec<f64> {
        gpu["driver_samples"].list(name).iter().map(|s| s[0].as_f64().unwrap() / 1e6).collect()
    };
    // As the driver keeps 2.4 s of power and 20 s of utilisation.
    for (name, every) in [("power", 20.0), ("sm", 166.0)] {
        let times = times(name);
        assert!(times[0] > 0.0, "{name}: a sample of {} ms", times[0]);
        let widest = times.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max);
        let narrowest = times.windows(2).map(|w| w[1] - w[0]).fold(f64::MAX, f64::min);
        say(&format!("{name}: {} samples, {narrowest:.3} to {widest:.3} ms apart", times.len()));
        assert!(widest < every + 2.0 && narrowest > every - 2.0, "{name}: {times:?}");
        let duration = report["run"].real("duration_ns") / 1e6;
        assert!(times[times.len() - 1] > duration - every - 300.0, "{name} ends early");
    }
}

/// The window ends with its time, and the requests under way run on: the counter is read at that moment, too.
#[test]
fn a_window_that_ends_with_its_time_has_its_energy_bracketed_at_both_ends() {
    let power = [(0.0, 78_000.0), (1.0, 430_000.0)];
    let mut h200 = h200();
    h200["power_mw"] = json!(power);
    // 1.3 s a request.
    let answer = Answer::Stream(steady(25, 100, 50));
    let args = ["--duration", "3s", "--concurrency", "2", "--gpu-baseline", "200ms"];
    let ran = Scene::new(json!({"devices": [h200]})).drive(answer, &args);
    let window = &ran.report["timing"]["window"]["spans"][0];
    let origin = ran.report["run"].real("origin_monotonic_ns");
    let at = |name: &str| ran.on_curve_ms((window.real(name) + origin) as u64);
    let truth = area_mj(&power, at("from_ns"), at("to_ns"));
    let (mj, error) = (ran.gpu(0).real("energy_mj"), ran.gpu(0).real("energy_error_mj"));
    say(&format!("{:.1} J ± {:.1} J, truth {:.1} J", mj / 1e3, error / 1e3, truth / 1e3));
    assert!((mj - truth).abs() <= error, "{truth} is not {mj} ± {error}");
    // Two refreshes of a tenth of a second, and what is used until the counter is read.
    assert!(error < truth * 0.12, "{error}: its end was not bracketed");
}
