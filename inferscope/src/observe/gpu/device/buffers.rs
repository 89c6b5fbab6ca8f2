//! What the driver sampled by itself between two looks.
//!
//! Owns what was seen of its buffers. A part of `device`.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::Sampling;
use nvml_wrapper::enums::device::SampleValue;

use super::super::caller::Caller;
use super::super::driver_samples::{DriverSamples, Fetch};
use crate::clock::{Mono, Origin};
use crate::event::{DeviceAnswer, PowerPoint, ProcessUse, Query, SampledByDriver};
use crate::units::Nanos;

/// However much the driver keeps, what it sampled is asked for as often as this: half as often as this time.
const KEPT: std::ops::RangeInclusive<Nanos> = Nanos::from_millis(800)..=Nanos::from_millis(16_000);

pub(super) struct Buffers {
    power: DriverSamples,
    sm: DriverSamples,
    process_use: DriverSamples,
    /// Since when the device answers, or answers again: what the driver sampled before then is of no time that was polled.
    since: Mono,
    clock_error: Option<Nanos>,
    unmapped: u64,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            power: DriverSamples::default(),
            sm: DriverSamples::default(),
            process_use: DriverSamples::default(),
            since: Mono::now(),
            clock_error: None,
            unmapped: 0,
        }
    }

    /// It was away until then.
    pub(super) const fn begin_anew(&mut self, at: Mono) {
        self.since = at;
    }

    pub(super) fn fetch(&mut self, device: &Device<'_>, caller: &mut Caller<'_>) {
        let power = samples(device, caller, (Query::PowerSamples, Sampling::Power), &mut self.power);
        let sm = samples(device, caller, (Query::SmSamples, Sampling::GpuUtilization), &mut self.sm);
        let seen = self.process_use.last_seen_us;
        let before = Mono::now();
        let used = caller.ask(Query::ProcessSm, || device.process_utilization_stats(seen));
        let fetch = Fetch { before, clocks: Origin::now() };
        // Unused entries of the driver's buffer have no stamp.
        let used = used.unwrap_or_default().into_iter().filter(|u| u.timestamp > 0 && u.sm_util <= 100);
        let used = self.process_use.take(used.map(|u| (u.timestamp, (u.pid, u.sm_util))), fetch);
        let buffers = [&self.power, &self.sm, &self.process_use];
        let unmapped: u64 = buffers.iter().map(|b| b.unmapped).sum();
        let stamped = buffers.iter().any(|b| b.last_seen_us > 0);
        let error = buffers.iter().map(|b| b.error).max().unwrap_or(Nanos::ZERO);
        let clock_error = stamped.then_some(error);
        let since = self.since;
        let percent = |v: u64| u32::try_from(v).ok().filter(|p| *p <= 100);
        let sampled = SampledByDriver {
            power: power
                .into_iter()
                .filter(|(t, _)| *t >= since)
                .map(|(t, mw)| PowerPoint { t, mw })
                .collect(),
            sm: sm
                .into_iter()
                .filter(|(t, _)| *t >= since)
                .filter_map(|(t, v)| Some((t, percent(v)?)))
                .collect(),
            process_use: used
                .into_iter()
                .filter(|(t, _)| *t >= since)
                .map(|(t, (pid, sm_percent))| ProcessUse { t, pid, sm_percent })
                .collect(),
            clock_error,
            unmapped,
        };
        let is_empty = sampled.power.is_empty() && sampled.sm.is_empty() && sampled.process_use.is_empty();
        if !is_empty || (clock_error, unmapped) != (self.clock_error, self.unmapped) {
            (self.clock_error, self.unmapped) = (clock_error, unmapped);
            caller.send(DeviceAnswer::DriverSamples(Box::new(sampled)));
        }
    }
}

/// The new ones of one buffer.
fn samples(
    device: &Device<'_>,
    caller: &mut Caller<'_>,
    (query, kind): (Query, Sampling),
    buffer: &mut DriverSamples,
) -> Vec<(Mono, u64)> {
    let unsigned = |value: SampleValue| match value {
        SampleValue::U32(v) => Some(u64::from(v)),
        SampleValue::U64(v) => Some(v),
        SampleValue::I64(v) => u64::try_from(v).ok(),
        SampleValue::F64(_) => None,
    };
    let seen = buffer.last_seen_us;
    let before = Mono::now();
    let all = caller.ask(query, || device.samples(kind, seen)).unwrap_or_default();
    // The first time it holds all that the driver keeps.
    let stamps = || all.iter().map(|s| s.timestamp);
    if let (0, Some(from), Some(to)) = (seen, stamps().min(), stamps().max()) {
        let kept = Nanos((to - from).saturating_mul(1_000)).clamp(*KEPT.start(), *KEPT.end());
        caller.policy(|policy| policy.keeps(query, kept, before));
    }
    let fetch = Fetch { before, clocks: Origin::now() };
    buffer.take(all.into_iter().filter_map(|s| Some((s.timestamp, unsigned(s.value)?))), fetch)
}
