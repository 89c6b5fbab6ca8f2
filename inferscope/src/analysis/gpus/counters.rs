//! What the device's own counters (GPM) say of the load.
//!
//! Owns which windows count and their means. Never makes a figure of what was not told. A part of `gpus`.

use crate::clock::{Mono, Origin};
use crate::event::{GpmMetric, GpmWindow, GpuDevice, GpuLog, GpuReading};
use crate::report::model;
use crate::units::Nanos;

use super::super::stat::{stat, unknown};
use super::super::window::Window;
use super::{Span, why_not};

/// The counters are refreshed so often (nvml.h): what a window begins with may be of so long before.
const REFRESH: Nanos = Nanos::from_millis(100);
/// What the driver's share of the time is of, at most (nvml.h, `nvmlUtilization_t`).
const DRIVERS_WINDOW: Nanos = Nanos::from_millis(1_000);
/// A window is put beside a reading that is no older.
const NEAR: Nanos = Nanos::from_millis(250);

/// The windows that lie within the span as a whole.
fn within<'a>(device: &'a GpuDevice, span: &'a Span) -> impl Iterator<Item = &'a GpmWindow> {
    let inside = |g: &GpmWindow| span.0.iter().any(|w| g.from >= w.from.plus(REFRESH) && g.to <= w.to);
    device.gpm.iter().filter(move |g| inside(g))
}

pub(super) fn counters(device: &GpuDevice, span: &Span) -> model::Counters {
    let of = |metric| figure(device, span, metric);
    model::Counters {
        busy_percent: of(GpmMetric::Busy),
        sm_active_percent: of(GpmMetric::SmActive),
        sm_occupancy_percent: of(GpmMetric::SmOccupancy),
        integer_percent: of(GpmMetric::Integer),
        tensor_percent: of(GpmMetric::Tensor),
        dram_percent: of(GpmMetric::Dram),
        fp64_percent: of(GpmMetric::Fp64),
        fp32_percent: of(GpmMetric::Fp32),
        fp16_percent: of(GpmMetric::Fp16),
        pcie_tx_mib_per_s: of(GpmMetric::PcieTx),
        pcie_rx_mib_per_s: of(GpmMetric::PcieRx),
        nvlink_tx_mib_per_s: of(GpmMetric::NvlinkTx),
        nvlink_rx_mib_per_s: of(GpmMetric::NvlinkRx),
    }
}

/// The mean is by time, as windows are not all of one length.
fn figure(device: &GpuDevice, span: &Span, metric: GpmMetric) -> model::Stat {
    let told = within(device, span).filter_map(|w| Some((w.to.since(w.from).as_secs_f64(), w.get(metric)?)));
    let told: Vec<(f64, f64)> = told.collect();
    if told.is_empty() {
        return unknown(why(device, metric));
    }
    let time: f64 = told.iter().map(|(length, _)| length).sum();
    let area: f64 = told.iter().map(|(length, value)| length * value).sum();
    model::Stat { mean: (time > 0.0).then(|| area / time), ..stat(told.into_iter().map(|t| t.1), "") }
}

fn why(device: &GpuDevice, metric: GpmMetric) -> &str {
    let refused = ["device", "gpm", "gpm_metrics", metric.name()].iter().find_map(|q| device.refused.get(*q));
    match refused {
        Some(words) => words,
        None if device.gpm.is_empty() => "the device's counters (GPM) were not read",
        None => "no window of the device's counters (250 ms) lies within the load",
    }
}

/// What is told of a device over a part of the load, for the judgement on it.
pub(in crate::analysis) struct Told {
    pub(in crate::analysis) counters: model::Counters,
    /// Of that part, what the counters' windows lie over, of 1; taken as all of it where windows were thinned.
    pub(in crate::analysis) covered: f64,
    /// The driver's shares of the time, of its windows that lie within that part.
    pub(in crate::analysis) sm_percent: model::Stat,
    pub(in crate::analysis) memory_percent: model::Stat,
}

/// Without windows: over the time of polling.
pub(in crate::analysis) fn told(log: &GpuLog, device: &GpuDevice, windows: &[Window]) -> Told {
    let span = Span::of(log, windows).unwrap_or(Span(Vec::new()));
    let why = match device.readings.iter().any(|r| span.holds(r.t) && r.sm_percent.is_some()) {
        true => "the load was too short for the driver's windows (up to 1 s)",
        false => why_not(device, "sm_percent"),
    };
    let later = |r: &&GpuReading| span.0.iter().any(|w| r.t >= w.from.plus(DRIVERS_WINDOW) && r.t <= w.to);
    let of = |get: fn(&GpuReading) -> Option<u32>| {
        stat(device.readings.iter().filter(later).filter_map(get).map(f64::from), why)
    };
    Told {
        counters: counters(device, &span),
        covered: covered(device, &span),
        sm_percent: of(|r| r.sm_percent),
        memory_percent: of(|r| r.memory_percent),
    }
}

fn covered(device: &GpuDevice, span: &Span) -> f64 {
    let seconds = within(device, span).map(|w| w.to.since(w.from).as_secs_f64()).sum::<f64>();
    match span.seconds() {
        all if all <= 0.0 || seconds <= 0.0 => 0.0,
        _ if device.gpm_thinned => 1.0,
        all => seconds / all,
    }
}

/// Puts each window beside the reading of the same look, or on its own where there was none.
pub(super) fn place(origin: Origin, device: &GpuDevice, samples: &mut Vec<model::GpuSample>) {
    let at = |t: Mono| origin.at(t).0;
    let polled = samples.len();
    for window in &device.gpm {
        let (from, to) = (at(window.from), at(window.to));
        let next = samples[..polled].partition_point(|s| s.t_ns <= to);
        let beside = next.checked_sub(1).and_then(|i| samples.get_mut(i));
        let free = |s: &&mut model::GpuSample| {
            s.counters.counters_to_ns.is_none() && to.saturating_sub(s.t_ns) <= NEAR.0
        };
        let told = counters_of(window, from, to);
        match beside.filter(free) {
            Some(sample) => sample.counters = told,
            None => {
                samples.push(model::GpuSample { t_ns: to, counters: told, ..model::GpuSample::default() })
            }
        }
    }
    samples.sort_by_key(|s| s.t_ns);
}

fn counters_of(window: &GpmWindow, from: u64, to: u64) -> model::CounterSample {
    model::CounterSample {
        counters_from_ns: Some(from),
        counters_to_ns: Some(to),
        busy_percent: window.get(GpmMetric::Busy),
        sm_active_percent: window.get(GpmMetric::SmActive),
        sm_occupancy_percent: window.get(GpmMetric::SmOccupancy),
        integer_percent: window.get(GpmMetric::Integer),
        tensor_percent: window.get(GpmMetric::Tensor),
        dram_percent: window.get(GpmMetric::Dram),
        fp64_percent: window.get(GpmMetric::Fp64),
        fp32_percent: window.get(GpmMetric::Fp32),
        fp16_percent: window.get(GpmMetric::Fp16),
        pcie_tx_mib_per_s: window.get(GpmMetric::PcieTx),
        pcie_rx_mib_per_s: window.get(GpmMetric::PcieRx),
        nvlink_tx_mib_per_s: window.get(GpmMetric::NvlinkTx),
        nvlink_rx_mib_per_s: window.get(GpmMetric::NvlinkRx),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{device, fixture, ms, with};

    fn window(from: u64, to: u64, dram: f64) -> GpmWindow {
        let mut values = [None; GpmMetric::ALL.len()];
        values[GpmMetric::Dram as usize] = Some(dram);
        GpmWindow { from: ms(from), to: ms(to), values }
    }

    /// The fixture's load is from 1 s to 3 s.
    #[test]
    fn only_windows_within_the_load_count_and_their_mean_is_by_time() {
        let mut d = with(device(0, 100), &[(900, Some(5))]);
        d.gpm = vec![
            window(800, 1_050, 90.0),
            window(1_050, 1_300, 80.0),
            window(1_300, 1_550, 20.0),
            window(1_550, 2_300, 40.0),
            window(2_900, 3_150, 70.0),
        ];
        let gpu = &fixture(vec![d]).report().gpus[0];
        let dram = &gpu.counters.dram_percent;
        assert_eq!((dram.count, dram.min, dram.mean, dram.max), (2, Some(20.0), Some(35.0), Some(40.0)));
        assert_eq!(gpu.counters.tensor_percent.mean, None);
        let told: Vec<_> = gpu.samples.iter().filter_map(|s| s.counters.dram_percent).collect();
        assert_eq!(told, [90.0, 80.0, 20.0, 40.0, 70.0]);
        // Each beside the reading of its look: none comes on its own.
        assert_eq!(gpu.samples.len(), 80);
    }

    #[test]
    fn without_them_there_are_nvmls_words() {
        let mut d = with(device(0, 100), &[(900, Some(5))]);
        d.refused.insert("gpm".into(), "Not Supported".into());
        let report = fixture(vec![d]).report();
        assert_eq!(report.gpus[0].counters.dram_percent.reason.as_deref(), Some("Not Supported"));
        assert!(report.gpus[0].samples.iter().all(|s| s.counters.counters_to_ns.is_none()));
    }
}
