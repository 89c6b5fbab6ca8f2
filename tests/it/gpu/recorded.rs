//! What the counters (GPM) of a real device told.
//!
//! An H200 (driver 580.159) serving a 7B and a 32B model (Q4_K, llama.cpp), read every 250 ms through NVIDIA's Python
//! client. Each list is one load, in the order of the reading.

#![expect(clippy::approx_constant, reason = "what a device told may look like pi")]

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

/// 7B, 16 requests at a time: 945 tokens/s.
pub(crate) const SMALL_SIXTEEN: [Window; 12] = [
    [38.85, 26.29, 3.47, 5.26, 1.04, 5.83, 1.94, 1.93],
    [39.74, 26.90, 3.56, 5.37, 1.07, 5.96, 1.99, 1.98],
    [41.50, 28.13, 3.72, 5.63, 1.12, 6.24, 2.07, 2.06],
    [34.56, 23.35, 3.09, 4.70, 0.93, 5.20, 1.72, 1.71],
    [35.16, 23.74, 3.14, 4.75, 0.94, 5.29, 1.75, 1.74],
    [35.69, 24.07, 3.18, 4.80, 0.96, 5.35, 1.78, 1.77],
    [36.75, 24.86, 3.29, 5.00, 0.99, 5.53, 1.83, 1.82],
    [39.99, 27.09, 3.58, 5.43, 1.08, 6.01, 1.99, 1.99],
    [41.86, 28.36, 3.75, 5.68, 1.13, 6.28, 2.09, 2.08],
    [33.91, 22.89, 3.03, 4.59, 0.91, 5.10, 1.69, 1.68],
    [42.64, 28.93, 3.82, 5.79, 1.15, 6.34, 2.13, 2.12],
    [44.76, 30.42, 4.02, 6.09, 1.21, 6.75, 2.24, 2.23],
];

/// 32B, one request at a time: 75 tokens/s.
pub(crate) const LARGE_ALONE: [Window; 12] = [
    [95.66, 89.37, 44.06, 57.37, 0.01, 29.91, 3.78, 3.38],
    [95.83, 89.54, 44.16, 57.50, 0.01, 30.00, 3.78, 3.38],
    [95.77, 89.49, 44.14, 57.46, 0.01, 29.98, 3.78, 3.38],
    [94.49, 88.28, 43.52, 56.71, 0.01, 29.41, 3.73, 3.34],
    [68.43, 63.97, 31.57, 41.13, 0.00, 21.42, 2.70, 2.42],
    [90.56, 84.60, 41.70, 54.34, 0.01, 28.15, 3.58, 3.20],
    [93.66, 87.51, 43.13, 56.14, 0.01, 29.13, 3.70, 3.30],
    [93.88, 87.71, 43.27, 56.36, 0.01, 29.21, 3.70, 3.32],
    [93.33, 87.20, 42.99, 55.92, 0.01, 29.02, 3.68, 3.29],
    [93.76, 87.60, 43.19, 56.25, 0.01, 29.07, 3.70, 3.31],
    [93.77, 87.63, 43.23, 56.28, 0.01, 29.34, 3.70, 3.31],
    [93.30, 87.15, 42.97, 55.98, 0.01, 28.73, 3.68, 3.29],
];

/// 32B, 16 requests at a time: 416 tokens/s.
pub(crate) const LARGE_SIXTEEN: [Window; 12] = [
    [99.21, 90.38, 14.84, 10.77, 12.19, 7.90, 24.05, 10.10],
    [69.00, 57.56, 8.71, 8.79, 5.44, 7.83, 10.67, 5.94],
    [65.49, 51.64, 6.92, 9.35, 2.26, 12.43, 4.39, 4.51],
    [65.28, 51.48, 6.89, 9.32, 2.26, 12.39, 4.37, 4.49],
    [65.35, 51.55, 6.90, 9.33, 2.26, 12.41, 4.38, 4.50],
    [66.33, 52.35, 7.01, 9.47, 2.29, 12.59, 4.45, 4.57],
    [67.58, 53.37, 7.15, 9.64, 2.34, 12.83, 4.54, 4.66],
    [66.43, 52.40, 7.02, 9.42, 2.29, 12.60, 4.46, 4.59],
    [66.32, 52.32, 7.01, 9.47, 2.29, 12.58, 4.45, 4.57],
    [63.16, 49.76, 6.66, 9.02, 2.18, 12.01, 4.22, 4.34],
    [67.37, 53.19, 7.12, 9.62, 2.33, 12.79, 4.52, 4.65],
    [66.00, 52.10, 7.00, 9.45, 2.29, 12.55, 4.44, 4.56],
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
