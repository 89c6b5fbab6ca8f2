//! NVML's known traps, one by one.

use std::process::Command;

use inferscope_tests::binary;
use inferscope_tests::clock::monotonic_ns;
use inferscope_tests::gpu::{LOAD, Load, Scene, library};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::{self, say};
use inferscope_tests::stats::Errors;
use serde_json::{Value, json};

use crate::{GB, check_energy, check_joules, curve, device};

fn l4(power: &[(f64, f64)]) -> Value {
    device("NVIDIA L4", 24 * GB, 2 * GB, power, 72)
}

/// Null with NVML's own words, and nothing else is touched by it.
fn check_refused(gpu: &Value, capability: &str) {
    let told = gpu["capabilities"][capability].as_str().unwrap_or_else(|| panic!("{capability}: {gpu}"));
    assert_eq!(told, "the requested operation is not available on the target device");
}

#[test]
fn unified_memory_has_none_of_its_own_to_tell() {
    let power = curve(10.0, 60.0);
    let mut gb10 = device("NVIDIA GB10", 0, 3 * GB, &power, 140);
    for absent in ["memory_total", "memory_used", "power_limit_mw"] {
        gb10[absent] = json!(null);
    }
    let ran = Scene::new(json!({"devices": [gb10]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    check_refused(gpu, "memory_used_bytes");
    assert_eq!(
        (&gpu["memory_used_bytes"]["mean"], &gpu["limits"]["memory_bytes"]),
        (&json!(null), &json!(null))
    );
    assert!(gpu.list("samples").iter().all(|s| s["memory_used_bytes"].is_null()));
    assert_eq!(gpu["target_memory_bytes"], 3 * GB);
    check_energy(&ran, 0, &power);
}

#[test]
fn a_p100_has_no_energy_counter_so_power_is_integrated() {
    let power = curve(30.0, 180.0);
    let mut p100 = device("Tesla P100-PCIE-16GB", 16 * GB, 2 * GB, &power, 250);
    p100["energy"] = json!(null);
    p100["power_instant"] = json!(false);
    p100["power_average_ms"] = json!(0);
    p100["architecture"] = json!(4);
    let ran = Scene::new(json!({"driver": "470.57.02", "devices": [p100]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    check_refused(gpu, "energy_mj");
    assert_eq!((&gpu["energy_source"], &gpu["power_source"]), (&json!("integrated"), &json!("instant")));
    check_energy(&ran, 0, &power);
    check_joules(&ran, ran.truth_mj(&power));
}

/// The average of a second lags; the error says so, and here it is too large for a figure of a token.
#[test]
fn power_that_is_an_average_is_called_one_and_its_error_covers_the_lag() {
    let power = [(0.0, 30_000.0), (1.0, 60_000.0)];
    let mut device = device("NVIDIA A10", 24 * GB, 2 * GB, &power, 150);
    device["energy"] = json!(null);
    device["power_instant"] = json!(false);
    device["samples"] = json!(null);
    let ran = Scene::new(json!({"devices": [device]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    assert_eq!((&gpu["energy_source"], &gpu["power_source"]), (&json!("integrated"), &json!("average")));
    let (truth, mj, error) = (ran.truth_mj(&power), gpu.real("energy_mj"), gpu.real("energy_error_mj"));
    assert!((mj - truth).abs() <= error, "{truth} is not {mj} ± {error}");
    // That it lags is no small thing: half a second of the change.
    assert!(truth - mj > 10_000.0, "{truth} and {mj} do not differ as an average must");
    assert!(ran.report["efficiency"].text("joules_reason").contains("too short"));
}

#[test]
fn every_layout_of_the_process_list_gives_the_same_memory() {
    let newer = ["nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3"];
    let new = ["nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v2"];
    let memory = ["nvmlDeviceGetMemoryInfo_v2"];
    let oldest = [&newer[..], &new[..], &memory[..]].concat();
    let variants = [
        ("R535", json!({"r535_processes": true, "driver": "535.43.02"})),
        ("v2", json!({"absent": newer})),
        ("v1", json!({"absent": oldest})),
    ];
    for (name, mut scenario) in variants {
        let mut device = l4(&curve(10.0, 40.0));
        device["processes"] = json!([
            {"pid": 1, "memory": GB}, {"name": "server", "memory": 2 * GB}, {"pid": 2, "memory": 500},
        ]);
        scenario["devices"] = json!([device]);
        let ran = Scene::new(scenario).run(Load { requests: 1, tokens: 25 }, &[]);
        let gpu = ran.gpu(0);
        assert_eq!(gpu["target_memory_bytes"], 2 * GB, "{name}: {gpu}");
        let mut listed: Vec<_> =
            gpu.list("processes").iter().map(|p| (p.whole("host_pid"), p["memory_bytes"].as_u64())).collect();
        listed.sort_unstable();
        let expected = [(1, Some(GB)), (2, Some(500)), (u64::from(std::process::id()), Some(2 * GB))];
        assert_eq!(listed, expected, "{name}");
        assert_eq!(gpu["dropped_values"], json!({}), "{name}");
        // The first version counts what is reserved as used.
        let used = if name == "v1" { 2_800_000_000_u64 } else { 2_300_000_000 };
        assert_eq!(gpu["memory_used_bytes"]["max"].as_f64(), Some(used as f64), "{name}");
    }
}

#[test]
fn values_that_cannot_be_true_are_dropped_and_counted() {
    let mut device = l4(&curve(10.0, 40.0));
    device["processes"] = json!([
        {"name": "server", "memory": 2 * GB}, {"pid": 4_194_301, "memory": GB}, {"pid": 1, "memory": 900 * GB},
    ]);
    let ran = Scene::new(json!({"devices": [device]})).run(Load { requests: 1, tokens: 25 }, &[]);
    let gpu = ran.gpu(0);
    assert_eq!((&gpu["target_memory_bytes"], &gpu["other_memory_bytes"]), (&json!(2 * GB), &json!(null)));
    let pids: Vec<_> = gpu.list("processes").iter().map(|p| p["host_pid"].clone()).collect();
    assert_eq!(pids, [json!(1), json!(std::process::id())]);
    assert!(gpu["dropped_values"].real("unknown_pid") >= 1.0, "{gpu}");
    assert!(gpu["dropped_values"].real("memory_beyond_device") >= 1.0, "{gpu}");
    assert!(ran.has_doubt("gpu_values_dropped"));
}

#[test]
fn a_device_that_falls_off_the_bus_is_told_and_the_other_goes_on() {
    let powers = [curve(10.0, 40.0), curve(12.0, 50.0)];
    let devices: Vec<_> = powers.iter().map(|power| l4(power)).collect();
    let lost = json!([{"call": "*", "device": 0, "from_ms": 900, "code": 15}]);
    let ran = Scene::new(json!({"devices": devices, "fail": lost})).run(LOAD, &[]);
    let origin = ran.report["run"].real("origin_monotonic_ns");
    let lost_ms = (ran.gpu(0).real("lost_ns") + origin - ran.begun_ns as f64) / 1e6;
    assert!((900.0..1_200.0).contains(&lost_ms), "lost at {lost_ms}");
    assert!(ran.has_doubt("gpu_lost"));
    // Half a run gives no energy, and no sum that leaves a half out.
    assert_eq!(ran.gpu(0)["energy_mj"], json!(null));
    assert_eq!(
        (&ran.report["gpu_summary"]["energy_mj"], &ran.report["efficiency"]["joules_per_token"]),
        (&json!(null), &json!(null))
    );
    check_energy(&ran, 1, &powers[1]);
    let last = |place: usize| ran.gpu(place).list("samples").last().unwrap().real("t_ns");
    assert!(last(1) - last(0) > 0.5e9, "the second device was polled to the end");
    assert_eq!(ran.report["load"]["requests_ok"], LOAD.requests);
}

#[test]
fn a_query_that_fails_now_and_then_takes_no_other_with_it() {
    let power = curve(10.0, 40.0);
    let fail = json!([
        {"call": "nvmlDeviceGetUtilizationRates", "from_ms": 500, "to_ms": 900, "code": 999},
        {"call": "nvmlDeviceGetMemoryInfo_v2", "from_ms": 1_200, "to_ms": 1_500, "code": 10},
    ]);
    let ran = Scene::new(json!({"devices": [l4(&power)], "fail": fail})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    let samples = gpu.list("samples");
    let without = |name: &str| samples.iter().filter(|s| s[name].is_null()).count();
    assert!((4..=15).contains(&without("sm_percent")), "{} without", without("sm_percent"));
    // Some six looks, at random places of their intervals.
    assert!((3..=12).contains(&without("memory_used_bytes")), "{} without", without("memory_used_bytes"));
    assert_eq!((without("power_mw"), without("temperature_c")), (0, 0));
    assert_eq!(gpu["failed_queries"]["sm_percent"]["reason"], "an internal driver error occurred");
    assert!(ran.has_doubt("gpu_query_failed"));
    check_energy(&ran, 0, &power);
}

#[test]
fn a_counter_that_begins_anew_is_no_figure_and_power_is_integrated_in_its_place() {
    let power = curve(10.0, 40.0);
    let mut device = l4(&power);
    device["energy"]["reset_ms"] = json!(1_000);
    let ran = Scene::new(json!({"devices": [device]})).run(LOAD, &[]);
    assert_eq!(ran.gpu(0)["energy_source"], "integrated");
    check_energy(&ran, 0, &power);
}

#[test]
fn a_device_that_answers_nothing_is_all_null_with_reasons() {
    let mute = json!({"name": "NVIDIA T400", "uuid": "GPU-mute"});
    let ran = Scene::new(json!({"devices": [mute]})).run(Load { requests: 1, tokens: 25 }, &[]);
    let gpu = ran.gpu(0);
    for (capability, told) in gpu["capabilities"].as_object().unwrap() {
        // The call for fields answers, with a refusal for each.
        let calls = ["name", "uuid", "fields", "nvlink_counters", "pcie_counters"];
        assert!(told != "ok" || calls.contains(&capability.as_str()), "{capability}");
    }
    for figure in ["sm_percent", "power_mw", "memory_used_bytes", "temperature_c"] {
        assert_eq!(gpu[figure]["mean"], json!(null));
        assert!(gpu[figure]["reason"].is_string(), "{figure}");
    }
    for figure in ["energy_mj", "target_memory_bytes", "used_by_target", "idle_power_mw", "limited_by"] {
        assert_eq!(gpu[figure], json!(null), "{figure}");
    }
    assert!(gpu.text("energy_reason").contains("no energy counter"));
    assert!(gpu["used_by_target_reason"].is_string());
}

/// Another process's work is not told from the target's where the driver does not divide.
#[test]
fn a_device_that_others_compute_on_gives_no_joules() {
    if !requirements::kernel("processes that the target does not have") {
        return;
    }
    let mut device = l4(&curve(10.0, 40.0));
    device["processes"] =
        json!([{"name": "server", "memory": GB, "sm": 30}, {"pid": 1, "memory": GB, "sm": 9}]);
    let shared = Scene::new(json!({"devices": [device]})).run(LOAD, &[]);
    assert_eq!(
        (&shared.gpu(0)["shared_with"], &shared.report["efficiency"]["joules_per_token"]),
        (&json!([1]), &json!(null))
    );
    assert!(shared.has_doubt("gpu_shared"));
    assert_eq!(shared.gpu(0)["target_sm_percent"]["mean"], 30.0);
}

#[test]
fn stamps_of_samples_come_on_the_one_clock() {
    // A step of power at a time that is known.
    let power = [(0.0, 10_000.0), (1_000.0, 10_000.0), (1_000.1, 60_000.0)];
    for monotonic in [false, true] {
        let mut device = l4(&power);
        device["samples"] = json!({"every_ms": 20, "keep": 120, "monotonic": monotonic});
        let ran = Scene::new(json!({"devices": [device]})).run(LOAD, &[]);
        let samples = ran.gpu(0)["driver_samples"].list("power");
        assert!(samples.is_sorted_by_key(|s| s[0].as_u64()), "in the order of time, none twice");
        let origin = ran.report["run"].real("origin_monotonic_ns");
        let high = samples.iter().find(|s| s[1].as_u64() > Some(30_000)).unwrap();
        let step = (high[0].as_f64().unwrap() + origin - ran.begun_ns as f64) / 1e6;
        let error = ran.gpu(0)["driver_samples"].real("clock_error_ns") / 1e6;
        say(&format!("the step at 1000 ms is seen in the sample of {step:.3} ms, ± {error:.3} ms"));
        assert!((1_000.0 - error..=1_020.1 + error).contains(&step), "{step} ± {error}");
        // More points than 20 looks a second give.
        assert!(ran.gpu(0)["power_mw"].real("count") > 80.0);
    }
}

/// Each call takes 80 ms: the tokens' stamps do not know of it.
#[test]
fn a_slow_driver_delays_nothing_but_itself() {
    let slow = json!({"devices": [l4(&curve(10.0, 40.0))], "latency_us": {"*": 80_000}});
    let quick = json!({"devices": [l4(&curve(10.0, 40.0))]});
    let errors = |scenario| {
        let ran = Scene::new(scenario).run(LOAD, &[]);
        (Errors::of(&ran.stamp_errors()), ran)
    };
    let ((with, ran), (without, _)) = (errors(slow), errors(quick));
    let us = |e: Errors| format!("median {:.0} µs, p90 {:.0} µs", e.p50 / 1e3, e.p90 / 1e3);
    say(&format!("stamps are late by {} with a slow driver, by {} without", us(with), us(without)));
    // What timing.rs asks for; each of the driver's calls is 80 times that.
    assert!(with.p50 < 1e6, "{with:?}");
    assert_eq!(ran.report["load"]["requests_ok"], LOAD.requests);
    let poll = &ran.report["gpu_summary"]["poll"];
    assert!(poll.real("slowest_call_ns") >= 80e6, "{poll}");
    assert!(ran.has_doubt("gpu_driver_slow"));
    // /proc is looked at as often as ever: its own thread, too.
    assert!(ran.report["resources"].list("samples").len() >= 20);
    assert!(ran.gpu(0).list("samples").len() >= 2, "it was polled, at its pace");
}

#[test]
fn without_a_driver_the_run_goes_on_and_says_why() {
    let library = library();
    let pid = std::process::id().to_string();
    let run = |gpu| {
        let mut command = Command::new(binary::inferscope_bin());
        // No scenario: the library is there, the driver is not loaded.
        command.args(["observe", "--pid", &pid, "--duration", "200ms", "--json", "--gpu", gpu]);
        command.arg("--nvml-lib").arg(&library);
        binary::start_as(command).wait()
    };
    let report = run("auto").report();
    assert_eq!(report["gpus"], json!([]));
    assert!(report.text("gpus_reason").contains("NVIDIA driver is not loaded"), "{report}");
    assert_eq!(run("all").code, Some(5));
}

/// NVML's Python client, by NVIDIA, reads the same: both agree on the ABI.
#[test]
fn another_client_reads_the_same_values() {
    let Some(python) = requirements::peer("python", "a second client of the stand-in") else { return };
    let mut device =
        device("NVIDIA H100 80GB HBM3", 80 * GB, 5 * GB, &[(0.0, 100_000.0), (1_000.0, 300_000.0)], 700);
    device["processes"] = json!([{"pid": 1, "memory": 5 * GB, "sm": 40}, {"pid": 2, "memory": null}]);
    device["pcie_tx"] = json!(1_234);
    device["pcie_rx"] = json!(4_321);
    device["gpm"] = json!({"2": [[600.0, 60.0], [800.0, 80.0]], "10": 21.5});
    // The clock stands at 700 ms of the curves, so that both see one moment.
    let base = monotonic_ns() - 700_000_000;
    let scene = Scene::new(json!({"frozen_ms": 700, "base_ns": base, "devices": [device]}));
    scene.begin_at(base);
    let ran = scene.observe("900ms");
    let read = scene.python(&python, "nvml_read.py");
    let gpu = &ran["gpus"][0];
    let sample = gpu.list("samples").last().unwrap();
    assert_eq!(read["name"], gpu["name"]);
    assert_eq!(read["uuid"], gpu["uuid"]);
    assert_eq!(read["memory_total"], gpu["limits"]["memory_bytes"]);
    assert_eq!(read["memory_used"], sample["memory_used_bytes"]);
    assert_eq!(read["power_instant"], sample["power_mw"]);
    assert_eq!(read["sm"], sample["sm_percent"]);
    assert_eq!(read["memory_busy"], sample["memory_percent"]);
    assert_eq!(read["temperature"], sample["temperature_c"]);
    assert_eq!(read["sm_clock"], sample["sm_clock_mhz"]);
    assert_eq!(read["power_limit"], gpu["limits"]["power_mw"]);
    assert_eq!(
        read["pcie"],
        json!([gpu["pcie_tx_kb_per_s"].real("last") as u64, gpu["pcie_rx_kb_per_s"].real("last") as u64])
    );
    let counters =
        ["sm_active_percent", "dram_percent", "fp64_percent"].map(|name| gpu[name]["last"].clone());
    assert_eq!((&read["counters"], &read["gpm_supported"]), (&json!(counters), &json!(1)));
    assert_eq!(counters, [json!(70.0), json!(21.5), json!(null)]);
    let processes: Vec<_> =
        gpu.list("processes").iter().map(|p| json!([p["host_pid"], p["memory_bytes"]])).collect();
    assert_eq!(read["processes"], json!(processes));
    // The truth of the scenario: 100 W to 300 W in a second, at 700 ms.
    assert_eq!(read["power_instant"], 240_000);
    assert_eq!(read["energy"], 123_456_789 + 70_000 + 49_000);
    // What the driver had sampled before the run, all of it where the clock stands still, is none of the run's.
    assert_eq!(read.list("power_samples").len(), 36);
    assert_eq!(gpu["driver_samples"]["power"], json!([]));
}
