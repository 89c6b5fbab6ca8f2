//! A real device's power and counter, replayed: its noise, its refresh of a tenth of a second, its steps between loads.

use inferscope_tests::gpu::{Load, Ran, Scene};
use inferscope_tests::report::Named;
use inferscope_tests::requirements::say;
use serde_json::{Value, json};

use crate::{GB, device};

const RECORDING: &str = include_str!("../../data/h200-nvml.csv");
/// The recording's load is of 5.5 s from its zero on, rests for 1.4 s, and begins again.
const LOAD: Load = Load { requests: 8, tokens: 25 };

/// Milliseconds, counter, power and utilisation.
fn rows() -> impl Iterator<Item = [f64; 4]> {
    let lines = RECORDING.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
        numbers.try_into().expect("four of them")
    })
}

/// Each value until the next, as it was read.
fn steps(column: usize) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for row in rows() {
        if let Some(&(_, last)) = points.last() {
            points.push((row[0], last));
        }
        points.push((row[0], row[column]));
    }
    points
}

/// Between its steps the counter is taken to rise evenly.
fn counter_at(t: f64) -> f64 {
    let mut moved: Vec<(f64, f64)> = Vec::new();
    for row in rows().filter(|row| row[0] <= 9_000.0) {
        if moved.last().is_none_or(|last| last.1 < row[1]) {
            moved.push((row[0], row[1]));
        }
    }
    let next = moved.partition_point(|m| m.0 <= t);
    let (a, b) = (moved[next - 1], moved[next]);
    a.1 + (b.1 - a.1) * (t - a.0) / (b.0 - a.0)
}

fn run(counter: bool) -> (Ran, f64) {
    let mut h200 = device("NVIDIA H200", 141 * GB, 5 * GB, &steps(2), 700);
    h200["sm"] = json!(steps(3));
    h200["energy"] = match counter {
        true => json!({"refresh_ms": 1, "recorded": steps(1)}),
        false => Value::Null,
    };
    let ran = Scene::new(json!({"driver": "580.159", "devices": [h200]})).run(LOAD, &[]);
    let (from, to) = ran.window_ms();
    let truth = counter_at(to) - counter_at(from);
    (ran, truth)
}

#[test]
fn the_energy_of_a_load_on_a_recorded_h200_is_its_counters() {
    let (ran, truth) = run(true);
    let (mj, error) = (ran.gpu(0).real("energy_mj"), ran.gpu(0).real("energy_error_mj"));
    say(&format!("{:.1} J ± {:.1} J, the recording's {:.1} J", mj / 1e3, error / 1e3, truth / 1e3));
    assert_eq!(ran.gpu(0)["energy_source"], "counter");
    assert!((mj - truth).abs() <= error, "{truth} is not {mj} ± {error}");
    assert!(error < truth * 0.1, "{error}");
}

#[test]
fn its_power_alone_tells_the_same_within_a_wider_error() {
    let (ran, truth) = run(false);
    let (mj, error) = (ran.gpu(0).real("energy_mj"), ran.gpu(0).real("energy_error_mj"));
    say(&format!("{:.1} J ± {:.1} J, the recording's {:.1} J", mj / 1e3, error / 1e3, truth / 1e3));
    assert_eq!(ran.gpu(0)["energy_source"], "integrated");
    assert!((mj - truth).abs() <= error, "{truth} is not {mj} ± {error}");
    assert!(error < truth * 0.25, "{error}");
}
