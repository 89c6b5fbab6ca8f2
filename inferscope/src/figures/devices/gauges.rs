//! What was read of a device at each look, over a span.
//!
//! Owns which readings count, and why there may be none. A part of `devices`.

use crate::event::{Gauge, GpuDevice, GpuReading, PowerPoint, Query};
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
    /// In the order of [`Gauge::ALL`].
    single: [Sampled<u64>; Gauge::ALL.len()],
    /// All links together; `None` where a window holds no two readings, or the counter fell.
    pub(crate) nvlink_tx_kib_per_s: Option<f64>,
    pub(crate) nvlink_rx_kib_per_s: Option<f64>,
}

impl Gauges {
    pub(crate) const fn get(&self, gauge: Gauge) -> &Sampled<u64> {
        &self.single[gauge as usize]
    }
}

pub(super) fn gauges(device: &GpuDevice, span: &Span) -> Gauges {
    let why = |query: Query| why_not(device, query);
    let inside = || device.readings.iter().filter(|r| span.holds(r.t));
    let share = |get: fn(&GpuReading) -> Option<u32>| {
        stat(inside().filter_map(get).map(f64::from)).ok_or_else(|| why(Query::Utilization))
    };
    let single = |gauge: Gauge| {
        let values = inside().filter_map(|r| r.get(gauge)).map(u64::from);
        stat(values).ok_or_else(|| why(Query::Gauge(gauge)))
    };
    Gauges {
        sm_percent: share(|r| r.sm_percent),
        memory_percent: share(|r| r.memory_percent),
        power_mw: power(device, span).ok_or_else(|| why(Query::Power)),
        memory_used_bytes: stat(inside().filter_map(|r| r.memory_used_bytes))
            .ok_or_else(|| why(Query::MemoryUsed)),
        single: Gauge::ALL.map(single),
        nvlink_tx_kib_per_s: rate(device, span, |r| r.nvlink_tx_kib),
        nvlink_rx_kib_per_s: rate(device, span, |r| r.nvlink_rx_kib),
    }
}

/// Why there is no reading of it.
pub(super) fn why_not(device: &GpuDevice, query: Query) -> DeviceReason {
    let refused = device.refused.get(&query).or_else(|| device.refused.get(&Query::Device));
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
