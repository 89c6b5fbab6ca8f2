//! What was read of a device at each look, over a span.
//!
//! Owns which readings count, and why there may be none. A part of `devices`.

use crate::event::{GpuDevice, GpuReading, PowerPoint};
use crate::figures::stat::{Stat, stat};
use crate::reason::DeviceReason;

use super::Span;

/// A sampled figure, or why no sample lies within the span.
pub(crate) type Sampled<T = f64> = Result<Stat<T>, DeviceReason>;

/// The readings of one quantity each. Shares are in percent.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) sm_percent: Sampled,
    pub(crate) memory_percent: Sampled,
    pub(crate) power_mw: Sampled<u64>,
    pub(crate) memory_used_bytes: Sampled<u64>,
    pub(crate) temperature_c: Sampled<u64>,
    pub(crate) sm_clock_mhz: Sampled<u64>,
    pub(crate) pcie_tx_kb_per_s: Sampled<u64>,
    pub(crate) pcie_rx_kb_per_s: Sampled<u64>,
    /// All links together; `None` where a window holds no two readings, or the counter fell.
    pub(crate) nvlink_tx_kib_per_s: Option<f64>,
    pub(crate) nvlink_rx_kib_per_s: Option<f64>,
}

pub(super) fn gauges(device: &GpuDevice, span: &Span) -> Gauges {
    let why = |query: &str| why_not(device, query);
    let inside = || device.readings.iter().filter(|r| span.holds(r.t));
    let share = |query: &str, get: fn(&GpuReading) -> Option<u32>| {
        stat(inside().filter_map(get).map(f64::from)).ok_or_else(|| why(query))
    };
    let whole = |query: &str, get: fn(&GpuReading) -> Option<u64>| {
        stat(inside().filter_map(get)).ok_or_else(|| why(query))
    };
    Gauges {
        sm_percent: share("sm_percent", |r| r.sm_percent),
        memory_percent: share("sm_percent", |r| r.memory_percent),
        power_mw: power(device, span).ok_or_else(|| why("power_mw")),
        memory_used_bytes: whole("memory_used_bytes", |r| r.memory_used_bytes),
        temperature_c: whole("temperature_c", |r| r.temperature_c.map(u64::from)),
        sm_clock_mhz: whole("sm_clock_mhz", |r| r.sm_clock_mhz.map(u64::from)),
        pcie_tx_kb_per_s: whole("pcie_tx_kb_per_s", |r| r.pcie_tx_kb_per_s.map(u64::from)),
        pcie_rx_kb_per_s: whole("pcie_rx_kb_per_s", |r| r.pcie_rx_kb_per_s.map(u64::from)),
        nvlink_tx_kib_per_s: rate(device, span, |r| r.nvlink_tx_kib),
        nvlink_rx_kib_per_s: rate(device, span, |r| r.nvlink_rx_kib),
    }
}

/// Why there is no reading of it.
pub(super) fn why_not(device: &GpuDevice, query: &str) -> DeviceReason {
    let refused = device.refused.get(query).or_else(|| device.refused.get("device"));
    refused.map_or(DeviceReason::NotRead, |words| DeviceReason::Nvml(words.clone()))
}

/// The driver's own samples where the span holds more of them.
fn power(device: &GpuDevice, span: &Span) -> Option<Stat<u64>> {
    let within = |points: &[PowerPoint]| stat(points.iter().filter(|p| span.holds(p.t)).map(|p| p.mw));
    let (polled, sampled) = (within(&device.power), within(&device.power_sampled));
    let count = |of: &Option<Stat<u64>>| of.as_ref().map_or(0, |stat| stat.count);
    if count(&sampled) > count(&polled) { sampled } else { polled }
}

/// A counter's rate, between the first and the last reading in each window.
fn rate(device: &GpuDevice, span: &Span, get: fn(&GpuReading) -> Option<u64>) -> Option<f64> {
    let (mut grown, mut seconds) = (0, 0.0);
    for window in &span.0 {
        // A counter may have begun anew in between.
        device.unbroken(window.from, window.to).ok()?;
        let inside = device.readings.iter().filter(|r| window.holds(r.t));
        let read: Vec<_> = inside.filter_map(|r| Some((r.t, get(r)?))).collect();
        let (first, last) = (read.first()?, read.last()?);
        seconds += last.0.since(first.0).as_secs_f64();
        grown += last.1.checked_sub(first.1)?;
    }
    (seconds > 0.0).then(|| grown as f64 / seconds)
}
