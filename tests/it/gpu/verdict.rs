//! What limits a run, by the counters of real runs and by made-up ones.

use inferscope_tests::gpu::{LOAD, Load, Ran, Scene};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use inferscope_tests::script::steady;
use inferscope_tests::timed_server::Answer;
use serde_json::{Value, json};

use crate::counters::h200;
use crate::recorded::{LARGE_ALONE, LARGE_SIXTEEN, SMALL_ALONE, SMALL_SIXTEEN, Window};
use crate::{GB, device};

fn replayed(windows: &[Window]) -> Ran {
    let ran = Scene::new(json!({"devices": [h200(windows)]})).run(Load { requests: 6, ..LOAD }, &[]);
    let gpu = ran.gpu(0);
    say(&format!("{}: {} {}", gpu["limited_by"], gpu["limited_by_reason"], gpu["limited_by_evidence"]));
    ran
}

/// 16 at a time gave 945 tokens/s against 248, and 416 against 75: there was room.
#[test]
fn a_model_alone_on_an_h200_is_limited_by_latency_and_has_room_for_more() {
    for windows in [SMALL_ALONE, LARGE_ALONE] {
        let ran = replayed(&windows);
        assert_eq!(ran.gpu(0)["limited_by"], "latency");
        let insight = ran.insight("gpu_latency_bound");
        let advice = insight.text("advice");
        assert!(advice.starts_with("more requests at a time can use that room"), "{advice}");
        let text = ran.text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains("limited by latency: it is busy, and none of its units is near its limit"),
            "{text}"
        );
        assert!(!text.contains("compute-bound"), "{text}");
    }
}

#[test]
fn sixteen_at_a_time_leave_the_small_model_waiting_for_its_server() {
    let ran = replayed(&SMALL_SIXTEEN);
    assert_eq!(ran.gpu(0)["limited_by"], "host");
    let headline = ran.insight("gpu_waits_for_host").text("headline");
    assert!(headline.contains("waits for the server's work outside of it: it had work 3"), "{headline}");
}

#[test]
fn sixteen_at_a_time_leave_the_large_model_between_two_verdicts() {
    let ran = replayed(&LARGE_SIXTEEN);
    assert_eq!(ran.gpu(0)["limited_by"], json!(null));
    let reason = ran.gpu(0).text("limited_by_reason");
    assert!(reason.contains("partly waits though requests are in flight, and partly works"), "{reason}");
}

/// `transformers serve`, 1.5B: kernels 17% of the time, 1,100 launches a token.
#[test]
fn a_server_that_launches_each_kernel_by_itself_is_waited_for() {
    let mut server = h200(&SMALL_ALONE);
    server["gpm"] = json!({"1": 17.4, "2": 11, "3": 2, "4": 1.5, "5": 0.4, "10": 2.2, "12": 0.6, "13": 0.2});
    server["sm"] = json!(17);
    let ran = Scene::new(json!({"devices": [server]})).run(LOAD, &[]);
    assert_eq!(ran.gpu(0)["limited_by"], "host");
    let advice = ran.insight("gpu_waits_for_host").text("advice");
    assert!(advice.contains("could shorten only the 17% in which this one worked"), "{advice}");
}

fn made_up(busy: f64, tensor: f64, dram: f64) -> Value {
    let mut made_up = h200(&SMALL_ALONE);
    made_up["gpm"] = json!({"1": busy, "2": 92, "3": 30, "4": 15, "5": tensor, "10": dram, "12": 5, "13": 5});
    made_up
}

#[test]
fn long_prompts_that_fill_the_tensor_units_and_weights_that_fill_the_memorys_bandwidth() {
    for (tensor, dram, limit, code) in
        [(74.0, 31.0, "tensor", "gpu_tensor_bound"), (8.0, 78.0, "bandwidth", "gpu_memory_bound")]
    {
        let ran = Scene::new(json!({"devices": [made_up(97.0, tensor, dram)]})).run(LOAD, &[]);
        assert_eq!(ran.gpu(0)["limited_by"], limit);
        assert_eq!(ran.insight(code)["severity"], "info");
    }
    let between = Scene::new(json!({"devices": [made_up(97.0, 8.0, 50.0)]})).run(LOAD, &[]);
    assert_eq!(between.gpu(0)["limited_by"], json!(null));
    let reason = between.gpu(0).text("limited_by_reason");
    assert!(reason.contains("its memory's bandwidth were in use 50%"), "{reason}");
}

/// Every request gets its tokens at one pace, so that four at a time give four times as many.
#[test]
fn a_step_that_the_next_one_outdid_is_not_told_to_be_at_its_limit() {
    let scene = Scene::new(json!({"devices": [made_up(97.0, 74.0, 31.0)]}));
    let load = ["--sweep", "concurrency=1,4", "--duration", "2s", "--gpu-baseline", "200ms"];
    let ran = scene.drive(Answer::Stream(steady(15, 20, 20)), &load);
    let steps = ran.report["sweep"].list("steps");
    let [first, last] = [0, 1].map(|n| &steps[n]["devices"][0]);
    assert_eq!(
        (&first["device"], &first["limited_by"], &last["limited_by"]),
        (&json!(0), &json!(null), &json!("tensor"))
    );
    let ratio = first["limited_by_evidence"].real("next_step_tokens_ratio");
    assert!((3.0..=4.2).contains(&ratio), "{ratio}");
    let reason = first.text("limited_by_reason");
    assert!(reason.contains("near their limit, and yet the next step, with 4.0 times the load"), "{reason}");
    let text = ran.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("limited at 4 its tensor units"), "{text}");
}

/// What was told before they were refused is less than half of the load.
#[test]
fn counters_refused_early_leave_the_drivers_shares_of_the_time() {
    let mut busy = h200(&SMALL_ALONE);
    busy["sm"] = json!(86);
    let refused = json!([{"call": "nvmlGpmSampleGet", "from_ms": 700, "code": 3}]);
    let ran = Scene::new(json!({"devices": [busy], "fail": refused})).run(Load { requests: 6, ..LOAD }, &[]);
    let gpu = ran.gpu(0);
    assert_eq!(gpu["limited_by"], json!(null));
    let reason = gpu.text("limited_by_reason");
    assert!(
        reason.contains("kernels ran 86% of the time") && reason.contains("% of the load only"),
        "{reason}"
    );
    assert!(gpu["sm_active_percent"].real("mean") > 0.0);
}

/// A device that only another process computes on.
#[test]
fn nothing_is_said_of_a_device_that_the_target_is_not_known_to_use() {
    let mut foreign = device("NVIDIA H200", 141 * GB, GB, &[(0.0, 100_000.0), (5.0, 500_000.0)], 700);
    foreign["gpm"] = json!({"1": 97, "2": 92, "4": 15, "5": 74, "10": 31});
    foreign["processes"] = json!([{"pid": 1, "memory": GB, "sm": 99}]);
    let ran = Scene::new(json!({"devices": [foreign]})).run(Load { requests: 1, tokens: 25 }, &[]);
    let gpu = ran.gpu(0);
    assert_eq!((&gpu["limited_by"], &gpu["limited_by_evidence"]), (&json!(null), &json!({})));
}
