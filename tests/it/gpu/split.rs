//! Prefill's energy and decode's, and that of a sweep's steps, against what the server wrote when and the scenario's curve.

use inferscope_tests::gpu::{Ran, Scene, area_mj};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use inferscope_tests::script::steady;
use inferscope_tests::timed_server::Answer;
use serde_json::{Value, json};

use crate::{GB, check_joules, device};

const PREFILL_MS: u64 = 600;
const GAP_MS: u64 = 20;
const TOKENS: u64 = 51;
const REQUESTS: u64 = 3;
/// Of the curve, at its highest.
const HIGHEST_W: f64 = 300.0;

/// From rest; 300 W for as long as a prefill takes, 150 W for as long as decode, for each request in turn. How late the
/// server and the client are in truth does not matter: the truth is the curve's area between the server's own times.
fn in_turn() -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, 50_000.0)];
    let decode_ms = (GAP_MS * (TOKENS - 1)) as f64;
    for n in 0..REQUESTS {
        let begin = n as f64 * (PREFILL_MS as f64 + decode_ms);
        let turn = begin + PREFILL_MS as f64;
        points.extend(level(begin, turn, HIGHEST_W * 1e3));
        points.extend(level(turn, turn + decode_ms, 150_000.0));
    }
    points
}

/// As real power is, never quite the same: that shows how fresh the readings are.
fn level(from: f64, to: f64, mw: f64) -> impl Iterator<Item = (f64, f64)> {
    let steps = ((to - from - 1.0) / 15.0) as u32;
    let ripple = move |n: u32| (from + 1.0 + f64::from(n) * 15.0, mw + f64::from(n % 2) * 200.0);
    (0..=steps).map(ripple).chain([(to, mw)])
}

fn answer() -> Answer {
    Answer::Stream(steady(TOKENS, PREFILL_MS, GAP_MS))
}

/// Joules between the request's arrival and its first token's write, and from there to the last; and how many
/// milliseconds the client's times are from the server's, over all requests.
fn truth(ran: &Ran, curve: &[(f64, f64)]) -> [(f64, f64); 2] {
    let origin = ran.report["run"].real("origin_monotonic_ns");
    let mut truth = [(0.0, 0.0); 2];
    let requests = ran.report.list("requests");
    assert_eq!(requests.len(), ran.exchanges.len());
    for (request, exchange) in requests.iter().zip(&ran.exchanges) {
        let tokens: Vec<u64> = exchange.tokens().map(|w| w.before_ns).collect();
        let server = [exchange.arrived_ns, tokens[0], tokens[tokens.len() - 1]].map(|ns| ran.on_curve_ms(ns));
        let of_client = |name: &str| ran.on_curve_ms((request.real(name) + origin) as u64);
        let client = ["sent_ns", "first_token_ns", "last_token_ns"].map(of_client);
        for part in 0..2 {
            truth[part].0 += area_mj(curve, server[part], server[part + 1]) / 1e3;
            truth[part].1 +=
                (client[part] - server[part]).abs() + (client[part + 1] - server[part + 1]).abs();
        }
    }
    truth
}

fn check(told: &Value, truth: [(f64, f64); 2]) {
    for (name, (joules, apart_ms)) in ["prefill", "decode"].into_iter().zip(truth) {
        assert!(told[format!("{name}_mj")].is_u64(), "{told:#}");
        let mj = told.real(&format!("{name}_mj")) / 1e3;
        let error = told.real(&format!("{name}_error_mj")) / 1e3;
        say(&format!("{name}: {mj:.1} J ± {error:.1} J, truth {joules:.1} J; {apart_ms:.2} ms apart"));
        let slack = apart_ms / 1e3 * HIGHEST_W + 0.1;
        assert!((mj - joules).abs() <= error + slack, "{joules} is not {mj} ± {error}: {told:#}");
        // Else anything would do.
        assert!(slack < joules * 0.1, "the client's times are not the server's: {apart_ms} ms");
        assert!(error < joules * 0.25, "an error of {error} says nothing about {joules}");
    }
}

fn scene(instant: bool, energy: bool) -> (Scene, Vec<(f64, f64)>) {
    let power = in_turn();
    let mut h100 = device("NVIDIA H100 80GB HBM3", 80 * GB, 5 * GB, &power, 700);
    h100["power_instant"] = json!(instant);
    if !energy {
        h100["energy"] = json!(null);
    }
    (Scene::new(json!({"devices": [h100]})), power)
}

#[test]
fn prefill_and_decode_have_their_own_energy_at_concurrency_one() {
    let (scene, power) = scene(true, true);
    let requests = REQUESTS.to_string();
    let ran = scene
        .drive(answer(), &["--requests", &requests, "--gpu-baseline", "0s", "--sample-interval", "20ms"]);
    let told = &ran.report["efficiency"]["prefill_decode"];
    check(told, truth(&ran, &power));
    assert_eq!(told["requests"], REQUESTS);
    assert_eq!(told["decode_tokens"], REQUESTS * (TOKENS - 1));
    let a_token = told.real("joules_per_decode_token");
    assert!((a_token * (REQUESTS * (TOKENS - 1)) as f64 - told.real("decode_mj") / 1e3).abs() < 0.01);
    check_joules(&ran, ran.truth_mj(&power));
    for line in ["prefill  ", "decode  ", "J a token after the first"] {
        assert!(ran.text.contains(line), "{line} is not in {}", ran.text);
    }
}

#[test]
fn an_average_without_a_counter_tells_no_parts() {
    let (scene, _) = scene(false, false);
    let ran = scene.drive(answer(), &["--requests", "2", "--gpu-baseline", "0s"]);
    let e = &ran.report["efficiency"];
    assert_eq!(e["prefill_decode"], json!(null));
    let reason = e.text("prefill_decode_reason");
    assert!(reason.contains("average of a second"), "{reason}");
}

/// One step with one slot, one with two, each with its own energy.
#[test]
fn a_sweeps_steps_have_their_own_joules_and_the_step_of_one_its_parts() {
    let power = in_turn();
    let (scene, _) = scene(true, true);
    let args = [
        "--sweep",
        "concurrency=1,2",
        "--sweep-all",
        "--requests",
        "2",
        "--gpu-baseline",
        "0s",
        "--sample-interval",
        "20ms",
    ];
    let ran = scene.drive(answer(), &args);
    let steps = ran.report["sweep"].list("steps");
    assert_eq!(steps.len(), 2);
    for (n, (step, of_step)) in steps.iter().zip(ran.exchanges.chunks(2)).enumerate() {
        let from = of_step.iter().map(|e| e.arrived_ns).min().unwrap();
        let to = of_step.iter().filter_map(|e| Some(e.writes.last()?.after_ns)).max().unwrap();
        let truth = area_mj(&power, ran.on_curve_ms(from), ran.on_curve_ms(to)) / 1e3;
        let energy = &step["energy"];
        let (joules, error) = (energy.real("energy_mj") / 1e3, energy.real("energy_error_mj") / 1e3);
        say(&format!("step {n}: {joules:.1} J ± {error:.1} J, truth {truth:.1} J"));
        // The client's window is longer than the server's by what the two are apart at its ends.
        let window = step["timing"].real("window_ns") / 1e6;
        let slack = (window - (to - from) as f64 / 1e6).abs() / 1e3 * HIGHEST_W + 0.1;
        assert!((joules - truth).abs() <= error + slack, "{truth} is not {joules} ± {error}");
        assert!(slack < truth * 0.1, "the client's window is not the server's: {window}");
        let tokens = step["timing"].real("output_tokens");
        assert!((energy.real("joules_per_token") * tokens - joules).abs() < 0.01, "{energy:#}");
    }
    let (one, two) = (&steps[0]["energy"], &steps[1]["energy"]);
    assert!(one["prefill_decode"]["decode_mj"].is_u64(), "{one:#}");
    assert_eq!(two["prefill_decode"], json!(null));
    assert_eq!(two["prefill_decode_reason"], "2 requests were in flight at a time");
    let column = ran.text.lines().any(|line| line.contains("CPU ms") && line.trim_end().ends_with("J/"));
    assert!(column, "{}", ran.text);
    assert!(ran.text.contains("prefill at 1"), "{}", ran.text);
}
