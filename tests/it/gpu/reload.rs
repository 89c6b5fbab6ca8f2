//! What a reload must not do: bridge counters, keep old handles, take a neighbour along. Beside `away`, with more devices.

use inferscope_tests::gpu::{Load, Ran, Scene};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use serde_json::{Value, json};

use crate::{GB, check_energy, curve, device};

/// NVML_ERROR_…
const UNINITIALIZED: u32 = 1;
const GPU_IS_LOST: u32 = 15;

/// Eight requests one after another: four seconds.
const LONG: Load = Load { requests: 8, tokens: 25 };

fn l4(place: u32, power: &[(f64, f64)]) -> Value {
    let mut l4 = device("NVIDIA L4", 24 * GB, 2 * GB, power, 72);
    l4["uuid"] = json!(format!("GPU-{place}"));
    l4
}

/// In milliseconds of the curves.
fn curve_ms(ran: &Ran, ns: &Value) -> f64 {
    ran.on_curve_ms(ns.as_u64().unwrap() + ran.report.run.origin_monotonic_ns)
}

/// The only interruption, from and to.
fn interruption(ran: &Ran, place: usize) -> (f64, f64) {
    let all = ran.gpu(place)["interruptions"].as_array().unwrap_or_else(|| panic!("{:#}", ran.gpu(place)));
    assert_eq!(all.len(), 1, "{all:#?}");
    (curve_ms(ran, &all[0]["from_ns"]), curve_ms(ran, &all[0]["to_ns"]))
}

fn times(ran: &Ran, samples: &Value, of: fn(&Value) -> &Value) -> Vec<f64> {
    samples.as_array().expect("a list").iter().map(|s| curve_ms(ran, of(s))).collect()
}

fn polled(ran: &Ran, place: usize) -> Vec<f64> {
    times(ran, &ran.gpu(place)["samples"], |s| &s["t_ns"])
}

/// There is something from before and from after, and nothing that pretends to be of the time between.
fn check_gap(ran: &Ran, place: usize, (from, to): (f64, f64)) {
    let sampled = times(ran, &ran.gpu(place)["driver_samples"]["power"], |s| &s[0]);
    for (what, times) in [("polled", polled(ran, place)), ("the driver's", sampled)] {
        assert!(times.iter().any(|t| *t < from), "{what}: nothing before {from}");
        assert!(times.iter().any(|t| *t >= to), "{what}: nothing after {to}");
        // The stamps of the driver's samples are this far from the one clock at most.
        let error = 2.0;
        let between = times.iter().find(|t| **t > from + error && **t < to - error);
        assert_eq!(between, None, "{what}: a sample in the gap from {from} to {to}");
    }
}

/// The library answers again only once its last beginning has ended and another was made: NVML counts them.
#[test]
fn all_devices_of_a_driver_that_forgot_us_come_back_by_their_new_handles() {
    let powers = [curve(10.0, 40.0), curve(12.0, 50.0)];
    let mut devices: Vec<_> = (0..).zip(&powers).map(|(place, power)| l4(place, power)).collect();
    for device in &mut devices {
        device["energy"]["reset_ms"] = json!(1_300);
        device["energy"]["reset_to_mj"] = json!(900_000_000_u64);
    }
    let reload = json!({"from_ms": 900, "to_ms": 1_300, "code": UNINITIALIZED});
    let ran = Scene::new(json!({"devices": devices, "reload": reload})).run(LONG, &[]);
    for place in [0, 1] {
        let gap = interruption(&ran, place);
        assert!((900.0..1_250.0).contains(&gap.0) && (1_300.0..3_200.0).contains(&gap.1), "{gap:?}");
        check_gap(&ran, place, gap);
        let gpu = ran.gpu(place);
        assert_eq!((&gpu["energy_mj"], &gpu["energy_above_idle_mj"]), (&json!(null), &json!(null)));
        assert_eq!(gpu["target_memory_bytes"], 2 * GB);
    }
    assert_eq!(ran.report["efficiency"]["joules_per_token"], json!(null));
    assert_eq!(ran.report["load"]["requests_ok"], LONG.requests);
}

#[test]
fn a_device_that_is_reset_keeps_its_neighbour_from_nothing() {
    let powers = [curve(10.0, 40.0), curve(12.0, 50.0)];
    let devices: Vec<_> = (0..).zip(&powers).map(|(place, power)| l4(place, power)).collect();
    let fail = json!([{"call": "*", "device": 0, "from_ms": 800, "to_ms": 1_600, "code": GPU_IS_LOST}]);
    let ran = Scene::new(json!({"devices": devices, "fail": fail})).run(LONG, &[]);
    check_gap(&ran, 0, interruption(&ran, 0));
    check_energy(&ran, 1, &powers[1]);
    let times = polled(&ran, 1);
    let longest = times.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max);
    assert!(longest < 500.0, "the neighbour was not polled for {longest} ms");
}

/// The counter's first value after the reload lies between the window and the last one before it.
#[test]
fn a_load_after_the_reload_has_the_energy_of_its_own_time() {
    let power = [(0.0, 40_000.0)];
    let mut device = l4(0, &power);
    device["energy"]["reset_ms"] = json!(400);
    device["energy"]["reset_to_mj"] = json!(700_000_000_u64);
    let reload = json!({"from_ms": 100, "to_ms": 400, "code": UNINITIALIZED});
    let scene = Scene::new(json!({"devices": [device], "reload": reload}));
    let ran = scene.run(Load { requests: 4, tokens: 25 }, &["--warmup", "7"]);
    let requests = ran.report.list("requests");
    let measured: Vec<_> = requests.iter().filter(|r| r["warmup"] == false).collect();
    let (first, last) = (curve_ms(&ran, &measured[0]["sent_ns"]), curve_ms(&ran, &measured[3]["done_ns"]));
    let (_, back) = interruption(&ran, 0);
    assert!(back < first, "the reload, over at {back} ms, is not of the warm-up before {first} ms");
    let gpu = ran.gpu(0);
    assert_eq!(gpu["energy_source"], "counter", "{:#}", gpu["energy_reason"]);
    // 40 mJ a millisecond.
    let (truth, mj) = ((last - first) * 40.0, gpu.real("energy_mj"));
    say(&format!(
        "{:.1} J ± {} mJ after a reload, truth {:.1} J",
        mj / 1e3,
        gpu["energy_error_mj"],
        truth / 1e3
    ));
    assert!((mj - truth).abs() <= gpu.real("energy_error_mj") + 1.0, "{mj} is not {truth}");
}

/// No call failed, so there is no gap to be seen: what the counter shows is more than the device can use.
#[test]
fn a_counter_that_begins_anew_higher_unseen_is_no_figure_either() {
    let power = curve(10.0, 40.0);
    let mut device = l4(0, &power);
    device["energy"]["reset_ms"] = json!(1_000);
    // Half a kilojoule above.
    device["energy"]["reset_to_mj"] = json!(124_000_000_u64);
    let ran = Scene::new(json!({"devices": [device]})).run(LONG, &[]);
    assert_eq!(ran.gpu(0)["energy_source"], "integrated");
    check_energy(&ran, 0, &power);
}

/// One device's call hangs: what both told before is there, and neither has more.
#[test]
fn a_call_that_hangs_on_one_device_leaves_what_both_told() {
    let powers = [curve(10.0, 40.0), curve(12.0, 50.0)];
    let devices: Vec<_> = (0..).zip(&powers).map(|(place, power)| l4(place, power)).collect();
    let hang = json!([{"call": "nvmlDeviceGetFieldValues", "from_ms": 1_000, "for_ms": 60_000}]);
    let ran = Scene::new(json!({"devices": devices, "hang": hang})).run(LONG, &[]);
    let since = curve_ms(&ran, &ran.report["gpu_summary"]["poll"]["hanging_since_ns"]);
    assert!((1_000.0..1_300.0).contains(&since), "{since}");
    for place in [0, 1] {
        let times = polled(&ran, place);
        assert!(times.iter().filter(|t| **t > 0.0).count() >= 10, "{times:?}");
        assert!(times.iter().all(|t| *t <= since), "{times:?} and {since}");
        assert_eq!(ran.gpu(place)["energy_mj"], json!(null));
    }
}

/// KiB a second of all links: fields 138 and 139 with the scope of all.
#[test]
fn nvlink_rates_of_two_in_tensor_parallel_are_the_scenarios_and_a_third_has_none() {
    let power = curve(60.0, 300.0);
    // Each sends what the other receives.
    let links = [(3_000_000.0, 2_000_000.0), (2_000_000.0, 3_000_000.0)];
    let mut devices: Vec<_> = (0..3).map(|place| l4(place, &power)).collect();
    for (device, (tx, rx)) in devices.iter_mut().zip(links) {
        device["nvlink_tx"] = json!(tx);
        device["nvlink_rx"] = json!(rx);
    }
    let ran = Scene::new(json!({"devices": devices})).run(Load { requests: 4, tokens: 25 }, &[]);
    for (place, (tx, rx)) in links.into_iter().enumerate() {
        for (name, truth) in [("nvlink_tx_kib_per_s", tx), ("nvlink_rx_kib_per_s", rx)] {
            let told = ran.gpu(place).real(name);
            say(&format!("device {place}: {name} {told:.0}, truth {truth}"));
            assert!((told - truth).abs() < truth * 0.02, "{name}: {told} is not {truth}");
        }
    }
    let third = ran.gpu(2);
    assert_eq!((&third["nvlink_tx_kib_per_s"], &third["nvlink_rx_kib_per_s"]), (&json!(null), &json!(null)));
}
