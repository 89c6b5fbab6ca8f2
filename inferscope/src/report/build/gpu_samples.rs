//! A device's readings over time, as the report has them.
//!
//! Owns which window of the device's own counters stands beside which reading. A part of `build`.

use super::super::model;
use crate::clock::{Mono, Origin};
use crate::event::{Gauge, GpmMetric, GpmWindow, GpuDevice, GpuReading};
use crate::figures::devices::reasons;
use crate::units::Nanos;

/// A window is put beside a reading that is no older.
const NEAR: Nanos = Nanos::from_millis(250);

pub(super) fn samples(origin: Origin, device: &GpuDevice) -> Vec<model::GpuSample> {
    let mut samples: Vec<_> = device.readings.iter().map(|r| sample(origin, r)).collect();
    place_power(origin, device, &mut samples);
    place(origin, device, &mut samples);
    samples
}

fn sample(origin: Origin, r: &GpuReading) -> model::GpuSample {
    model::GpuSample {
        t_ns: origin.at(r.t).0,
        memory_used_bytes: r.memory_used_bytes,
        sm_percent: r.sm_percent,
        memory_percent: r.memory_percent,
        power_mw: None,
        temperature_c: r.get(Gauge::Temperature),
        sm_clock_mhz: r.get(Gauge::SmClock),
        throttle: r.throttle.map(|mask| reasons(mask).map(str::to_owned).collect()),
        counters: model::CounterSample::default(),
    }
}

/// Puts each window beside the reading of the same look, or on its own where there was none.
fn place(origin: Origin, device: &GpuDevice, samples: &mut Vec<model::GpuSample>) {
    let at = |t: Mono| origin.at(t).0;
    let polled = samples.len();
    for window in &device.gpm {
        let (from, to) = (at(window.from), at(window.to));
        let next = samples[..polled].partition_point(|s| s.t_ns <= to);
        let beside = next.checked_sub(1).and_then(|i| samples.get_mut(i));
        let free = |s: &&mut model::GpuSample| {
            s.counters.counters_to_ns.is_none() && to.saturating_sub(s.t_ns) <= NEAR.0
        };
        let counters = counters_of(window, from, to);
        match beside.filter(free) {
            Some(sample) => sample.counters = counters,
            None => samples.push(model::GpuSample { t_ns: to, counters, ..model::GpuSample::default() }),
        }
    }
    samples.sort_by_key(|s| s.t_ns);
}

/// The power of each look: the highest, where more of it was kept than of the readings.
fn place_power(origin: Origin, device: &GpuDevice, samples: &mut [model::GpuSample]) {
    for point in &device.power {
        let t_ns = origin.at(point.t).0;
        let look = samples.partition_point(|s| s.t_ns <= t_ns).checked_sub(1);
        if let Some(sample) = look.and_then(|i| samples.get_mut(i)) {
            sample.power_mw = sample.power_mw.max(Some(point.mw));
        }
    }
}

fn counters_of(window: &GpmWindow, from: u64, to: u64) -> model::CounterSample {
    let metric = |name: &str| GpmMetric::ALL.into_iter().find(|metric| metric.name() == name);
    model::CounterSample {
        counters_from_ns: Some(from),
        counters_to_ns: Some(to),
        ..model::CounterSample::from_fn(|name| window.get(metric(name)?))
    }
}
