//! The device's own counters (GPM): what is read of them, and where they are refused.

use inferscope_tests::gpu::{LOAD, Load, Scene};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use serde_json::{Value, json};

use crate::recorded::{self, SMALL_ALONE};
use crate::{GB, device};

pub(crate) fn h200(windows: &[recorded::Window]) -> Value {
    let mut h200 = device("NVIDIA H200", 141 * GB, 6 * GB, &[(0.0, 124_000.0), (5.0, 430_000.0)], 700);
    h200["gpm"] = recorded::replayed(windows);
    h200
}

/// In the order of `recorded::IDS`.
const NAMES: [&str; 8] = [
    "busy_percent",
    "sm_active_percent",
    "sm_occupancy_percent",
    "integer_percent",
    "tensor_percent",
    "dram_percent",
    "fp32_percent",
    "fp16_percent",
];

#[test]
fn windows_hold_what_the_counters_did_in_them() {
    let ran = Scene::new(json!({"devices": [h200(&SMALL_ALONE)]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    let origin = ran.report["run"].real("origin_monotonic_ns");
    let ms = |sample: &Value, name: &str| ran.on_curve_ms((sample.real(name) + origin) as u64);
    let told: Vec<&Value> = gpu.list("samples").iter().filter(|s| s["counters_to_ns"].is_number()).collect();
    let mut worst: f64 = 0.0;
    for sample in &told {
        let (from, to) = (ms(sample, "counters_from_ns"), ms(sample, "counters_to_ns"));
        for (metric, name) in NAMES.into_iter().enumerate() {
            let truth = recorded::mean(&SMALL_ALONE, metric, from, to);
            worst = worst.max((sample.real(name) - truth).abs());
        }
    }
    say(&format!("{} windows, off by {worst:.3} points at most", told.len()));
    // The stand-in's clock is read within the call, some of a millisecond beside the stamp: of 88 points in 250 ms.
    assert!(worst < 1.5, "{worst}");
    // Four requests of half a second.
    assert!(told.len() >= 6, "{}", told.len());
    let (from, to) = ran.window_ms();
    let within: Vec<_> = told
        .iter()
        .filter(|s| ms(s, "counters_from_ns") >= from + 100.0 && ms(s, "counters_to_ns") <= to)
        .collect();
    assert_eq!(gpu["dram_percent"].real("count") as usize, within.len());
    let dram = recorded::mean(
        &SMALL_ALONE,
        5,
        ms(within[0], "counters_from_ns"),
        ms(within[within.len() - 1], "counters_to_ns"),
    );
    assert!((gpu["dram_percent"].real("mean") - dram).abs() < 0.3, "{} is not {dram}", gpu["dram_percent"]);
    // No link in the scenario: a refusal of its own.
    assert_eq!(gpu["capabilities"]["dram_percent"], "ok");
    let words = "the requested operation is not available on the target device";
    assert_eq!(gpu["capabilities"]["nvlink_tx_mib_per_s"], words);
    assert_eq!(
        (&gpu["nvlink_tx_mib_per_s"]["mean"], &gpu["nvlink_tx_mib_per_s"]["reason"]),
        (&json!(null), &json!(words))
    );
    assert_eq!(ran.report["load"]["requests_ok"], LOAD.requests);
}

#[test]
fn a_device_or_library_without_counters_says_so_and_tells_the_rest() {
    let mut older = h200(&SMALL_ALONE);
    older["gpm"] = json!(null);
    let absent = ["nvmlGpmQueryDeviceSupport"];
    for scenario in [json!({"devices": [older]}), json!({"absent": absent, "devices": [h200(&SMALL_ALONE)]})]
    {
        let ran = Scene::new(scenario).run(Load { requests: 1, tokens: 25 }, &[]);
        let gpu = ran.gpu(0);
        let words = gpu["capabilities"].text("gpm");
        assert_ne!(words, "ok");
        assert_eq!(gpu["sm_active_percent"]["mean"], json!(null));
        assert_eq!(gpu["sm_active_percent"]["reason"], words);
        assert_eq!(gpu["sm_percent"]["mean"], 50.0);
        assert!(gpu.list("samples").iter().all(|s| s.get("counters_to_ns").is_none()));
    }
}

#[test]
fn counters_refused_in_mid_run_end_there_and_nothing_else_does() {
    let refused = json!([{"call": "nvmlGpmSampleGet", "from_ms": 900, "code": 3}]);
    let ran = Scene::new(json!({"devices": [h200(&SMALL_ALONE)], "fail": refused})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    let origin = ran.report["run"].real("origin_monotonic_ns");
    let samples = gpu.list("samples");
    let ends: Vec<f64> = samples
        .iter()
        .filter_map(|s| Some(ran.on_curve_ms((s["counters_to_ns"].as_f64()? + origin) as u64)))
        .collect();
    assert!(ends.iter().all(|t| *t < 905.0) && ends.len() >= 2, "{ends:?}");
    assert!(gpu["failed_queries"]["gpm"].real("count") >= 2.0, "{}", gpu["failed_queries"]);
    assert!(ran.has_doubt("gpu_query_failed"));
    assert!(samples.last().unwrap().real("power_mw") > 0.0);
}

#[test]
fn a_mig_instance_has_counters_of_its_own() {
    let mut parent = h200(&SMALL_ALONE);
    let process = json!({"name": "server", "memory": 7 * GB, "gpu_instance": 1, "compute_instance": 0});
    parent["processes"] = json!([process]);
    parent["mig"] = json!([{
        "name": "NVIDIA H200 MIG 3g.71gb", "uuid": "MIG-1", "gpu_instance": 1, "compute_instance": 0,
        "memory_total": 70 * GB, "memory_used": 8 * GB, "processes": [process], "gpm": {"2": 90, "10": 55},
    }]);
    let ran = Scene::new(json!({"devices": [parent]})).run(LOAD, &[]);
    let near = |place: usize, name: &str, value: f64| {
        let mean = ran.gpu(place)[name].real("mean");
        assert!((mean - value).abs() < 6.0, "{name} of {place}: {mean} is not {value}");
    };
    near(0, "dram_percent", 21.5);
    near(1, "dram_percent", 55.0);
    near(1, "sm_active_percent", 90.0);
    assert_eq!(ran.gpu(1)["tensor_percent"]["mean"], json!(null));
}
