//! A driver that goes away, comes back, or hangs: what was told before is kept, and nothing is made up for the gap.

use std::time::{Duration, Instant};

use inferscope_tests::gpu::{LOAD, Load, Ran, Scene};
use inferscope_tests::report::Named;
use serde_json::{Value, json};

use crate::{GB, check_energy, curve, device};

/// NVML_ERROR_…
const DRIVER_NOT_LOADED: u32 = 9;
const GPU_IS_LOST: u32 = 15;
const MISMATCH: u32 = 18;

const WATTS: f64 = 60.0;

fn l4() -> Value {
    device("NVIDIA L4", 24 * GB, 2 * GB, &[(0.0, WATTS * 1e3)], 72)
}

fn validity<'a>(report: &'a Value, code: &str) -> Vec<&'a str> {
    let all = report.list("validity").iter();
    all.filter(|v| v["code"] == code).filter_map(|v| v["message"].as_str()).collect()
}

/// When samples were taken, in milliseconds of the curves.
fn sampled_ms(ran: &Ran, place: usize) -> Vec<f64> {
    let origin = ran.report["run"].real("origin_monotonic_ns") - ran.begun_ns as f64;
    let samples = ran.gpu(place).list("samples");
    samples.iter().map(|s| (s.real("t_ns") + origin) / 1e6).collect()
}

/// Six requests take three seconds.
const LONG: Load = Load { requests: 6, tokens: 25 };

#[test]
fn a_driver_that_is_reloaded_is_taken_up_again_and_its_gap_is_no_energy() {
    let mut again = l4();
    // It begins anew higher than it was: from its values alone nobody could tell.
    again["energy"]["reset_ms"] = json!(600);
    again["energy"]["reset_to_mj"] = json!(900_000_000_u64);
    let reload = json!({"from_ms": 500, "to_ms": 900, "code": DRIVER_NOT_LOADED});
    let ran = Scene::new(json!({"reload": reload, "devices": [again]})).run(LONG, &[]);
    let gpu = ran.gpu(0);
    let away = gpu.list("interruptions");
    assert_eq!((away.len(), &away[0]["reason"]), (1, &json!("NVIDIA driver is not loaded")), "{away:#?}");
    assert!(gpu["lost_ns"].is_null());
    let times = sampled_ms(&ran, 0);
    assert!(times.iter().any(|t| *t < 500.0) && times.iter().any(|t| *t > 1_500.0), "{times:?}");
    assert!(
        !times.iter().any(|t| (520.0..900.0).contains(t)),
        "samples of a driver that was away: {times:?}"
    );
    // Both ways would have a figure: the counter rises, and power is read before and after.
    assert!(gpu["energy_mj"].is_null(), "{:#}", gpu["energy_mj"]);
    assert!(gpu.text("energy_reason").contains("was away"), "{:#}", gpu["energy_reason"]);
    assert!(ran.report["efficiency"]["joules_per_token"].is_null());
    assert_eq!(validity(&ran.report, "gpu_interrupted").len(), 1);
    assert_eq!(ran.report["load"]["requests_ok"], 6);
    assert!(ran.text.contains("away"), "{}", ran.text);
}

#[test]
fn a_device_that_falls_off_the_bus_and_comes_back_does_not_touch_the_other() {
    let fail = json!([{"call": "*", "device": 0, "from_ms": 400, "to_ms": 800, "code": GPU_IS_LOST}]);
    let power = curve(20.0, 60.0);
    let other = device("NVIDIA L40S", 48 * GB, 2 * GB, &power, 350);
    let ran = Scene::new(json!({"fail": fail, "devices": [l4(), other]})).run(LONG, &[]);
    assert_eq!(ran.gpu(0).list("interruptions").len(), 1);
    assert!(sampled_ms(&ran, 0).iter().any(|t| *t > 1_500.0));
    assert!(ran.gpu(0)["energy_mj"].is_null());
    assert!(ran.gpu(1)["interruptions"].is_null());
    check_energy(&ran, 1, &power);
}

#[test]
fn a_load_that_ended_before_the_driver_went_has_its_energy_of_the_time_before() {
    // The run's end waits for the counter's next refresh, which the reload gives it; its value is of another counter.
    let mut again = l4();
    again["energy"] =
        json!({"start_mj": 1_000, "refresh_ms": 10_000, "reset_ms": 2_150, "reset_to_mj": 900_000_000_u64});
    let reload = json!({"from_ms": 2_150, "to_ms": 2_200, "code": DRIVER_NOT_LOADED});
    let ran = Scene::new(json!({"reload": reload, "devices": [again]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    let (mj, truth) = (gpu.real("energy_mj"), ran.truth_mj(&[(0.0, WATTS * 1e3)]));
    // The truth is summed by the tenth of a millisecond: less than 6 mJ are left out.
    assert!((mj - truth).abs() <= gpu.real("energy_error_mj") + 8.0, "{truth} is not {mj}: {gpu:#}");
    assert_eq!(gpu["energy_source"], "integrated");
}

#[test]
fn a_library_that_no_longer_fits_the_driver_is_told_with_what_to_do() {
    let reload = json!({"from_ms": 500, "to_ms": 600_000, "code": MISMATCH});
    let ran = Scene::new(json!({"reload": reload, "devices": [l4()]})).run(LOAD, &[]);
    let said = validity(&ran.report, "gpu_lost");
    assert!(said[0].contains("version mismatch; the driver was replaced under its library"), "{said:?}");
    assert!(ran.gpu(0)["lost_ns"].is_u64());
    assert_eq!(ran.report["load"]["requests_ok"], 4);
}

#[test]
fn a_driver_that_hangs_takes_nothing_along_that_it_told_before() {
    let hang = json!([{"call": "nvmlDeviceGetTemperature", "from_ms": 1_000, "for_ms": 60_000}]);
    let began = Instant::now();
    let ran = Scene::new(json!({"hang": hang, "devices": [l4()]})).run(LOAD, &[]);
    assert!(began.elapsed() < Duration::from_secs(15), "the end waited {:?}", began.elapsed());
    let times = sampled_ms(&ran, 0);
    assert!(times.len() > 10 && times.iter().all(|t| *t < 1_100.0), "{times:?}");
    assert_eq!(ran.gpu(0)["target_memory_bytes"], 2 * GB);
    let said = validity(&ran.report, "gpu_driver_hangs");
    assert!(said[0].contains("did not come back from temperature_c"), "{said:?}");
    assert!(ran.gpu(0)["energy_mj"].is_null());
    assert_eq!(ran.report["load"]["requests_ok"], 4);
}

#[test]
fn nvlink_is_the_rate_of_its_counters_and_null_where_there_is_none() {
    let mut linked = l4();
    linked["nvlink_tx"] = json!([[0.0, 0.0], [1.0, 2_000_000.0]]);
    linked["nvlink_rx"] = json!(500_000.0);
    let ran = Scene::new(json!({"devices": [linked, l4()]})).run(LOAD, &[]);
    let rate = |place: usize, name: &str| ran.gpu(place)[name].as_f64();
    let near = |rate: Option<f64>, truth: f64| rate.is_some_and(|r| (r / truth - 1.0).abs() < 0.02);
    assert!(near(rate(0, "nvlink_tx_kib_per_s"), 2e6), "{:?}", rate(0, "nvlink_tx_kib_per_s"));
    assert!(near(rate(0, "nvlink_rx_kib_per_s"), 5e5), "{:?}", rate(0, "nvlink_rx_kib_per_s"));
    assert_eq!(rate(1, "nvlink_tx_kib_per_s"), None);
    let told = &ran.gpu(1)["capabilities"]["nvlink_tx_kib"];
    assert_eq!(told, "the requested operation is not available on the target device");
}
