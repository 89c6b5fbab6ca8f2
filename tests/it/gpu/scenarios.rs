//! The published runs, and several devices at once.

use std::process::Command;

use inferscope_tests::gpu::{LOAD, Scene};
use inferscope_tests::process::Group;
use inferscope_tests::report::Named;
use inferscope_tests::requirements;
use serde_json::json;

use crate::{GB, check_energy, check_joules, curve, device};

#[test]
fn an_l4_with_a_small_model() {
    let power = curve(13.0, 42.0);
    let scene = Scene::new(json!({"devices": [device("NVIDIA L4", 24 * GB, 1_300_000_000, &power, 72)]}));
    let ran = scene.run(LOAD, &["--price-per-hour", "l4=0.8"]);
    let gpu = ran.gpu(0);
    assert_eq!((&gpu["used_by_target"], &gpu["target_memory_bytes"]), (&json!(true), &json!(1_300_000_000)));
    assert_eq!(
        (&gpu["other_memory_bytes"], &gpu["unattributed_memory_bytes"]),
        (&json!(0), &json!(300_000_000))
    );
    assert_eq!((&gpu["power_source"], &gpu["energy_source"]), (&json!("instant"), &json!("counter")));
    assert_eq!(gpu["target_sm_percent"]["mean"], 50.0);
    check_energy(&ran, 0, &power);
    check_joules(&ran, ran.truth_mj(&power));
    // At rest it used 13 W.
    assert!((gpu.real("idle_power_mw") - 13_000.0).abs() < 1.0, "{}", gpu["idle_power_mw"]);
    let (from, to) = ran.window_ms();
    let above = ran.truth_mj(&power) - 13.0 * (to - from);
    let told = gpu.real("energy_above_idle_mj");
    assert!((told - above).abs() <= gpu.real("energy_above_idle_error_mj"), "{above} is not {told}");
    let cost = ran.report["efficiency"].real("cost_per_million_tokens");
    let pace = ran.report["timing"].real("output_tokens_per_s");
    assert!((cost - 0.8 / 3_600.0 / pace * 1e6).abs() < 1e-6, "{cost}");
    assert!(ran.text.contains("1.21 GiB the target's"), "{}", ran.text);
}

/// Kernels half of the time, with a peak; 170 of 700 W; 5.6 of 80 GB; no counters, as their driver had none.
#[test]
fn an_h100_that_has_work_half_of_the_time_waits_for_its_server() {
    let power = [(0.0, 70_000.0), (1.0, 170_000.0)];
    let mut h100 = device("NVIDIA H100 80GB HBM3", 80 * GB, 5_300_000_000, &power, 700);
    h100["sm"] = json!([[0.0, 46.0], [900.0, 46.0], [901.0, 90.0], [1_000.0, 90.0], [1_001.0, 42.0]]);
    let ran = Scene::new(json!({"devices": [h100]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    assert_eq!(gpu["limited_by"], "host", "{}", gpu["limited_by_reason"]);
    let evidence = &gpu["limited_by_evidence"];
    assert_eq!(evidence["busy_source"], "driver");
    assert!(evidence.real("in_flight_percent") > 95.0, "{evidence}");
    let insight = ran.insight("gpu_waits_for_host");
    let headline = insight.text("headline");
    assert!(headline.contains("waits for the server's work outside of it: kernels ran 4"), "{headline}");
    check_energy(&ran, 0, &power);
}

/// 88% of the time, 439 W, 21.4 GB, no counters: what limits it is not known, and nothing is advised.
#[test]
fn an_h100_without_counters_that_is_busy_gets_bounds_and_no_verdict() {
    let power = [(0.0, 70_000.0), (1.0, 439_000.0)];
    let mut h100 = device("NVIDIA H100 80GB HBM3", 80 * GB, 21_400_000_000, &power, 700);
    h100["sm"] = json!(88);
    let ran = Scene::new(json!({"devices": [h100]})).run(LOAD, &[]);
    let gpu = ran.gpu(0);
    assert_eq!((&gpu["target_memory_bytes"], &gpu["limited_by"]), (&json!(21_400_000_000_u64), &json!(null)));
    let reason = gpu.text("limited_by_reason");
    assert!(reason.contains("kernels ran 88% of the time, which is no measure"), "{reason}");
    assert!(reason.contains("decoding read at most"), "{reason}");
    // 21.4 GB for each of its tokens, of 3.35 TB/s.
    let bound = 21.4e9 * ran.report["timing"].real("decode_tokens_per_s") / 3.35e12 * 100.0;
    let told = gpu["limited_by_evidence"].real("decode_read_percent_at_most");
    assert!((told - bound).abs() < 0.06, "{told} is not {bound}");
    let insights = ran.report.list("insights");
    assert!(insights.iter().all(|i| !i.text("code").starts_with("gpu_")), "{insights:#?}");
    assert!(ran.text.contains("limited by"), "{}", ran.text);
    check_energy(&ran, 0, &power);
    check_joules(&ran, ran.truth_mj(&power));
}

#[test]
fn two_in_tensor_parallel_a_third_idle_and_a_fourth_of_others() {
    if !requirements::kernel("a device that the target does not use") {
        return;
    }
    let powers = [curve(60.0, 300.0), curve(65.0, 320.0), curve(50.0, 50.0), curve(70.0, 650.0)];
    let name = "NVIDIA A100-SXM4-80GB";
    let mut devices: Vec<_> = powers.iter().map(|power| device(name, 80 * GB, 30 * GB, power, 400)).collect();
    devices[2]["processes"] = json!([]);
    devices[3]["processes"] = json!([{"pid": 1, "memory": 60 * GB, "sm": 99}]);
    let ran = Scene::new(json!({"devices": devices})).run(LOAD, &[]);
    let used: Vec<_> = (0..4).map(|i| ran.gpu(i)["used_by_target"].clone()).collect();
    assert_eq!(used, [json!(true), json!(true), json!(false), json!(false)]);
    let summary = &ran.report["gpu_summary"];
    assert_eq!(summary["devices"], json!([0, 1]));
    assert_eq!(summary["target_memory_bytes"], 60 * GB);
    for (place, power) in powers.iter().enumerate() {
        check_energy(&ran, place, power);
    }
    // Of the two alone.
    let truth = ran.truth_mj(&powers[0]) + ran.truth_mj(&powers[1]);
    let (mj, error) = (summary.real("energy_mj"), summary.real("energy_error_mj"));
    assert!((mj - truth).abs() <= error, "{truth} is not {mj} ± {error}");
    check_joules(&ran, truth);
    let power: f64 = (0..2).map(|i| ran.gpu(i).real("mean_power_mw")).sum();
    assert!((summary.real("power_mw") - power).abs() < 1e-3);
    assert_eq!((&ran.gpu(3)["target_memory_bytes"], &ran.gpu(3)["limited_by"]), (&json!(0), &json!(null)));
    assert!(ran.text.contains("not used"), "{}", ran.text);
}

/// The target in one of two instances, somebody else in the other: the energy of the whole can't be divided.
#[test]
fn mig_instances_are_devices_and_their_energy_is_the_whole_devices() {
    let power = curve(60.0, 300.0);
    let mut parent = device("NVIDIA A100-SXM4-80GB", 80 * GB, 0, &power, 400);
    let instance = |id: u32, pid: serde_json::Value| {
        let mut process = json!({"memory": 7 * GB, "gpu_instance": id, "compute_instance": 0});
        process.as_object_mut().unwrap().extend(pid.as_object().unwrap().clone());
        json!({
            "name": "NVIDIA A100-SXM4-80GB MIG 3g.40gb", "uuid": format!("MIG-{id}"), "gpu_instance": id,
            "compute_instance": 0, "memory_total": 40 * GB, "memory_used": 8 * GB, "processes": [process],
        })
    };
    let (ours, others) = (instance(1, json!({"name": "server"})), instance(2, json!({"pid": 1})));
    parent["processes"] = json!([ours["processes"][0], others["processes"][0]]);
    // As such parts do: utilisation is told neither of the whole nor of a process.
    (parent["sm"], parent["utilization_ms"]) = (json!(null), json!(null));
    parent["mig"] = json!([ours, others]);
    let ran = Scene::new(json!({"devices": [parent]})).run(LOAD, &[]);
    assert_eq!(ran.report.list("gpus").len(), 3);
    assert_eq!((&ran.gpu(0)["mig_parent"], &ran.gpu(1)["mig"]["gpu_instance"]), (&json!(true), &json!(1)));
    assert_eq!(
        (&ran.gpu(1)["uuid"], &ran.gpu(1)["limits"]["memory_bytes"]),
        (&json!("MIG-1"), &json!(40 * GB))
    );
    assert_eq!((&ran.gpu(0)["used_by_target"], &ran.gpu(1)["used_by_target"]), (&json!(true), &json!(true)));
    for place in [0, 1] {
        assert_eq!(ran.gpu(place)["target_memory_bytes"], 7 * GB);
    }
    // Not twice, although both list it.
    assert_eq!(ran.report["gpu_summary"]["target_memory_bytes"], 7 * GB);
    check_energy(&ran, 0, &power);
    assert_eq!(ran.gpu(1)["energy_mj"], json!(null));
    assert!(ran.gpu(1).text("energy_reason").contains("not of a MIG instance"));
    let e = &ran.report["efficiency"];
    assert_eq!(e["joules_per_token"], json!(null));
    assert!(e.text("joules_reason").contains("used by others"), "{e}");
    assert_eq!(ran.gpu(0)["sm_percent"]["mean"], json!(null));
}

/// One process of the target's own ends in mid-run and a foreign one comes.
#[test]
fn processes_that_come_and_go_are_of_whom_they_are() {
    if !requirements::kernel("processes that the target does not have") {
        return;
    }
    let power = curve(60.0, 300.0);
    let helper = Group::start(Command::new("sleep").arg("60").env("CUDA_VISIBLE_DEVICES", "0,3"));
    let mut device = device("NVIDIA L4", 24 * GB, 2 * GB, &power, 400);
    device["processes"] = json!([
        {"name": "server", "memory": [[0, 2e9], [1_000, 2e9], [1_001, 3e9]], "sm": 50},
        {"name": "helper", "memory": 500_000_000, "sm": 0, "to_ms": 700},
        {"pid": 1, "memory": 4 * GB, "graphics": true, "from_ms": 300},
    ]);
    let scene = Scene::new(json!({"devices": [device]}));
    scene.name(&helper, "helper");
    let ran = scene.run(LOAD, &[]);
    let gpu = ran.gpu(0);
    // The most that the target held at one moment: 3 GB alone, not 3.5.
    assert_eq!((&gpu["target_memory_bytes"], &gpu["other_memory_bytes"]), (&json!(3 * GB), &json!(4 * GB)));
    let of = |pid: u32| {
        let all = gpu.list("processes");
        all.iter().find(|p| p["host_pid"] == pid).unwrap_or_else(|| panic!("no {pid} in {all:?}"))
    };
    assert_eq!((&of(helper.pid())["target"], &of(1)["target"]), (&json!(true), &json!(false)));
    let visible = &ran.report["gpu_summary"]["cuda_visible_devices"];
    assert_eq!(visible[helper.pid().to_string()], "0,3");
    // What only draws shares nothing that is told of as another's work.
    assert_eq!(gpu["shared_with"], json!([]));
}
