//! The devices.
//!
//! Owns the Stats of `gpus[]` and the sums of `gpu_summary`, from `gpus[].samples[]` within the load's windows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::book::{Book, Figure};
use super::dist;
use super::energy;
use super::resources::within;
use super::window::Window;

const SAMPLED: [&str; 5] =
    ["sm_percent", "memory_percent", "memory_used_bytes", "temperature_c", "sm_clock_mhz"];

const COUNTERS: [&str; 13] = [
    "busy_percent",
    "sm_active_percent",
    "sm_occupancy_percent",
    "integer_percent",
    "tensor_percent",
    "dram_percent",
    "fp64_percent",
    "fp32_percent",
    "fp16_percent",
    "pcie_tx_mib_per_s",
    "pcie_rx_mib_per_s",
    "nvlink_tx_mib_per_s",
    "nvlink_rx_mib_per_s",
];

/// `windows`: of the load; `None` where nothing was sent.
pub(super) fn check(book: &mut Book<'_>, windows: Option<&[Window]>) {
    let windows = windows.filter(|windows| !windows.is_empty());
    let devices = book.at("/gpus").as_array().map_or(&[][..], Vec::as_slice);
    for (n, device) in devices.iter().enumerate() {
        let mut samples = within(&device["samples"], windows);
        // Without a load it is the time of polling, whose beginning is not told: the first look may be in it or not.
        let told = book.whole(&format!("/gpus/{n}/sm_percent/count"));
        let listed = samples.iter().filter(|sample| sample["sm_percent"].is_number()).count() as u64;
        if windows.is_none() && told.map(|told| told + 1) == Some(listed) {
            samples.remove(0);
        }
        for name in SAMPLED {
            let values: Vec<f64> = samples.iter().filter_map(|sample| sample[name].as_f64()).collect();
            dist::stat(
                book,
                &format!("/gpus/{n}/{name}"),
                &values,
                "of the samples within the load's window",
            );
        }
        check_power(book, n, device, &samples, windows);
        check_counters(book, n, device, windows);
        check_throttle(book, n, &samples);
        check_memory(book, n, device);
        if let Some(windows) = windows {
            energy::check_device(book, n, windows);
            check_mean_power(book, n, windows);
        }
    }
    if !devices.is_empty() {
        check_summary(book);
    }
}

fn check_power(
    book: &mut Book<'_>,
    n: usize,
    device: &Value,
    samples: &[&Value],
    windows: Option<&[Window]>,
) {
    const DEFINITION: &str =
        "of the samples within the load's window; the driver's own where it holds more of them";
    let polled: Vec<f64> = samples.iter().filter_map(|sample| sample["power_mw"].as_f64()).collect();
    let driver = |windows: Option<&[Window]>| -> Vec<f64> {
        let holds =
            |t: u64| windows.is_none_or(|all| all.iter().any(|(from, to)| (*from..=*to).contains(&t)));
        let all = device["driver_samples"]["power"].as_array().into_iter().flatten();
        let within = all.filter(|sample| sample[0].as_u64().is_some_and(holds));
        within.filter_map(|sample| sample[1].as_f64()).collect()
    };
    let mut values = driver(windows);
    if let (None, Some(told)) = (windows, book.whole(&format!("/gpus/{n}/power_mw/count"))) {
        // Nor when polling began between two of the driver's own samples.
        let within = |sample: &&&Value| sample["t_ns"].as_u64();
        let ends = samples.first().as_ref().and_then(within).zip(samples.last().as_ref().and_then(within));
        let least = ends.map_or(0, |ends| driver(Some(&[ends])).len());
        if (least as u64..=values.len() as u64).contains(&told) {
            values = values.split_off(values.len() - told as usize);
        }
    }
    let values = if values.len() > polled.len() { values } else { polled };
    dist::stat(book, &format!("/gpus/{n}/power_mw"), &values, DEFINITION);
}

/// What a window begins with may be of so long before.
const REFRESH_NS: u64 = 100_000_000;

fn check_counters(book: &mut Book<'_>, n: usize, device: &Value, windows: Option<&[Window]>) {
    const DEFINITION: &str =
        "the device's own counters: of the windows of 250 ms within the load; the mean is by time";
    let all: Vec<(u64, u64, &Value)> = device["samples"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| Some((s["counters_from_ns"].as_u64()?, s["counters_to_ns"].as_u64()?, s)))
        .collect();
    let began = device["samples"][0]["t_ns"].as_u64().unwrap_or(0);
    for name in COUNTERS {
        let told = |windows: &[Window]| -> Vec<(f64, f64)> {
            let holds = |from: u64, to: u64| windows.iter().any(|w| from >= w.0 + REFRESH_NS && to <= w.1);
            let within = all.iter().filter(|(from, to, _)| holds(*from, *to));
            within
                .filter_map(|(from, to, s)| Some((to.saturating_sub(*from) as f64, s[name].as_f64()?)))
                .collect()
        };
        // When polling began is not told: it was before the first sample.
        let told = windows.map_or_else(|| told(&[(began, u64::MAX)]), told);
        let values: Vec<f64> = told.iter().map(|(_, value)| *value).collect();
        let (area, time) = told.iter().fold((0.0, 0.0), |(a, t), (length, v)| (a + length * v, t + length));
        let mean = (time > 0.0).then(|| area / time);
        dist::stat_with_mean(book, &format!("/gpus/{n}/{name}"), &values, mean, DEFINITION);
    }
}

fn check_throttle(book: &mut Book<'_>, n: usize, samples: &[&Value]) {
    const DEFINITION: &str = "share of the samples in which the clocks were held back, by NVML's reasons";
    let told: Vec<&Vec<Value>> = samples.iter().filter_map(|sample| sample["throttle"].as_array()).collect();
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for reason in told.iter().flat_map(|reasons| reasons.iter()).filter_map(Value::as_str) {
        *counts.entry(reason).or_default() += 1.0;
    }
    for (reason, count) in counts {
        let share = Figure::real(count / told.len() as f64);
        book.is(&format!("/gpus/{n}/throttle/{reason}"), share, DEFINITION);
    }
}

fn check_mean_power(book: &mut Book<'_>, n: usize, windows: &[Window]) {
    const DEFINITION: &str = "energy_mj over the time that it is of, where that is known within 25%, else the mean of the readings";
    let of = |name: &str| book.number(&format!("/gpus/{n}/{name}"));
    let seconds = windows.iter().map(|(from, to)| to.saturating_sub(*from) as f64 / 1e9).sum::<f64>();
    let energy = of("energy_mj").zip(of("energy_error_mj"));
    let known = energy.filter(|(mj, error)| *mj > 0.0 && *error <= *mj * 0.25 && seconds > 0.0);
    let mean = match known {
        // Told in whole millijoules.
        Some((mj, _)) => Figure::Real(mj / seconds, 1.0 / seconds),
        None => Figure::maybe(of("power_mw/mean")),
    };
    book.is(&format!("/gpus/{n}/mean_power_mw"), mean, DEFINITION);
}

/// Three figures of one moment.
fn check_memory(book: &mut Book<'_>, n: usize, device: &Value) {
    const DEFINITION: &str =
        "target, other and unattributed memory are of one moment: together what was used at it";
    let parts = ["target_memory_bytes", "other_memory_bytes", "unattributed_memory_bytes"];
    let all: Option<Vec<u64>> = parts.iter().map(|name| device[*name].as_u64()).collect();
    let Some(all) = all else { return };
    let sum: u64 = all.iter().sum();
    let samples = device["samples"].as_array().into_iter().flatten();
    let mut used = samples.filter_map(|sample| sample["memory_used_bytes"].as_u64());
    let holds = used.any(|used| used == sum);
    for name in parts {
        book.holds(
            &format!("/gpus/{n}/{name}"),
            holds,
            &format!("a moment at which {sum} were used"),
            DEFINITION,
        );
    }
}

fn check_summary(book: &mut Book<'_>) {
    let places = book.at("/gpu_summary/devices").as_array().map_or(&[][..], Vec::as_slice);
    if places.is_empty() {
        return;
    }
    let devices: Vec<&Value> =
        places.iter().filter_map(Value::as_u64).map(|n| book.at(&format!("/gpus/{n}"))).collect();
    let sum =
        |get: &dyn Fn(&Value) -> Option<u64>| devices.iter().map(|device| get(device)).sum::<Option<u64>>();
    const SUM: &str = "the sum over the devices that the target uses";
    let bytes = Figure::whole(sum(&|device| device["target_memory_bytes"].as_u64()));
    book.is("/gpu_summary/target_memory_bytes", bytes, SUM);
    // Each is rounded once: a sum of n is up to (n + 1) / 2 from the sum of n rounded ones.
    let off = if devices.len() > 1 { devices.len().div_ceil(2) as f64 } else { 0.0 };
    for name in ["energy_mj", "energy_error_mj", "energy_above_idle_mj", "energy_above_idle_error_mj"] {
        let total = sum(&|device| device[name].as_u64());
        let total = total.map_or(Figure::Unknown, |mj| Figure::Real(mj as f64, off));
        book.is(&format!("/gpu_summary/{name}"), total, SUM);
    }
    let memory = sum(&|device| device["limits"]["memory_bytes"].as_u64());
    book.is("/gpu_summary/memory_bytes", Figure::whole(memory), "the sum of the devices' memories");
    let means = devices.iter().map(|device| device["mean_power_mw"].as_f64()).sum::<Option<f64>>();
    book.is("/gpu_summary/power_mw", Figure::maybe(means), "the sum of the devices' mean_power_mw");
}
