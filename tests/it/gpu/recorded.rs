//! What the counters (GPM) of a real device told.
//!
//! An H200 (driver 580.159) serving a 7B and a 32B model (Q4_K, llama.cpp), read every 250 ms through NVIDIA's Python
//! client. Each list is one load, in the order of the reading.

use serde_json::{Value, json};

/// Of one window: busy, SM active, SM occupancy, integer, tensor, DRAM, FP32 and FP16 in percent.
pub(crate) type Window = [f64; 8];

/// `NVML_GPM_METRIC_…` of each.
pub(crate) const IDS: [u32; 8] = [1, 2, 3, 4, 5, 10, 12, 13];

/// 7B, one request at a time: 248 tokens/s.
pub(crate) const SMALL_ALONE: [Window; 12] = [
    [87.64, 77.51, 37.34, 48.69, 0.01, 22.28, 2.91, 2.62],
    [79.62, 70.51, 33.90, 44.23, 0.01, 20.29, 2.65, 2.40],
    [84.59, 74.45, 36.09, 47.03, 0.01, 21.44, 2.77, 2.48],
    [85.18, 74.93, 36.30, 47.27, 0.01, 21.58, 2.79, 2.49],
    [86.96, 76.52, 37.09, 48.32, 0.01, 21.88, 2.85, 2.55],
    [88.03, 77.93, 37.50, 48.91, 0.01, 22.41, 2.93, 2.64],
    [77.41, 68.48, 32.94, 42.94, 0.01, 19.11, 2.57, 2.32],
    [86.72, 76.31, 36.97, 48.16, 0.01, 22.05, 2.84, 2.54],
    [87.61, 77.09, 37.36, 48.67, 0.01, 22.30, 2.87, 2.57],
    [87.37, 76.96, 37.25, 48.52, 0.01, 22.10, 2.87, 2.57],
    [85.88, 76.19, 36.60, 47.77, 0.01, 21.88, 2.87, 2.60],
    [76.45, 67.48, 32.54, 42.41, 0.01, 19.47, 2.53, 2.27],
];

/// How long each of them was.
const WINDOW_MS: f64 = 250.0;

/// As the scenario has it: each value for its window, from the first request on, again and again; at rest before.
pub(crate) fn replayed(windows: &[Window]) -> Value {
    let of = |metric: usize| {
        let mut points = vec![(0.0, 0.0)];
        for (n, window) in windows.iter().cycle().take(80).enumerate() {
            let from = n as f64 * WINDOW_MS;
            points.extend([(from, window[metric]), (from + WINDOW_MS, window[metric])]);
        }
        points
    };
    IDS.iter().enumerate().map(|(metric, id)| (id.to_string(), json!(of(metric)))).collect()
}

/// The mean of one of them between two moments of the curves.
pub(crate) fn mean(windows: &[Window], metric: usize, from_ms: f64, to_ms: f64) -> f64 {
    const STEPS: u32 = 1_000;
    let at = |n: u32| (to_ms - from_ms).mul_add((f64::from(n) + 0.5) / f64::from(STEPS), from_ms);
    let value =
        |t: f64| if t < 0.0 { 0.0 } else { windows[(t / WINDOW_MS) as usize % windows.len()][metric] };
    (0..STEPS).map(|n| value(at(n))).sum::<f64>() / f64::from(STEPS)
}
