//! What the device's own counters (GPM) say of the load.
//!
//! Owns which windows count and their means. Never makes a figure of what was not told. A part of `devices`.

use crate::clock::Window;
use crate::event::{GpmMetric, GpmWindow, GpuDevice, GpuLog, GpuReading, Query};
use crate::figures::stat::{Stat, stat};
use crate::reason::DeviceReason;
use crate::units::Nanos;

use super::Span;
use super::gauges::{Sampled, why_not};

/// The counters are refreshed so often (nvml.h): what a window begins with may be of so long before.
const REFRESH: Nanos = Nanos::from_millis(100);
/// What the driver's share of the time is of, at most (nvml.h, `nvmlUtilization_t`).
const DRIVERS_WINDOW: Nanos = Nanos::from_millis(1_000);

/// One figure a metric, in the order of [`GpmMetric::ALL`].
#[derive(Debug, Clone)]
pub(crate) struct Counters([Sampled; GpmMetric::ALL.len()]);

impl Counters {
    pub(crate) const fn get(&self, metric: GpmMetric) -> &Sampled {
        &self.0[metric as usize]
    }

    pub(crate) fn mean(&self, metric: GpmMetric) -> Option<f64> {
        self.get(metric).as_ref().ok().map(|stat| stat.mean)
    }
}

/// The windows that lie within the span as a whole.
fn within<'a>(device: &'a GpuDevice, span: &'a Span) -> impl Iterator<Item = &'a GpmWindow> {
    let inside = |g: &GpmWindow| span.0.iter().any(|w| g.from >= w.from.plus(REFRESH) && g.to <= w.to);
    device.gpm.iter().filter(move |g| inside(g))
}

pub(crate) fn counters(device: &GpuDevice, span: &Span) -> Counters {
    Counters(GpmMetric::ALL.map(|metric| figure(device, span, metric)))
}

/// The mean is by time, as windows are not all of one length.
fn figure(device: &GpuDevice, span: &Span, metric: GpmMetric) -> Sampled {
    let told = within(device, span).filter_map(|w| Some((w.to.since(w.from).as_secs_f64(), w.get(metric)?)));
    let told: Vec<(f64, f64)> = told.collect();
    let plain = stat(told.iter().map(|t| t.1)).ok_or_else(|| why(device, metric))?;
    let time: f64 = told.iter().map(|(length, _)| length).sum();
    let area: f64 = told.iter().map(|(length, value)| length * value).sum();
    Ok(Stat { mean: if time > 0.0 { area / time } else { plain.mean }, ..plain })
}

fn why(device: &GpuDevice, metric: GpmMetric) -> DeviceReason {
    let asked = [Query::Device, Query::GpmSample, Query::GpmMetrics, Query::Gpm(metric)];
    let refused = asked.iter().find_map(|query| device.refused.get(query));
    match refused {
        Some(words) => DeviceReason::Nvml(words.clone()),
        None if device.gpm.is_empty() => DeviceReason::CountersNotRead,
        None => DeviceReason::NoCounterWindow,
    }
}

/// What a device did over a part of the load, for the verdict on it.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) counters: Counters,
    /// The share of that part, from 0 to 1, that the counters' windows lie over; taken as all of it where windows were thinned.
    pub(crate) covered: f64,
    /// The driver's shares of the time, from its windows that lie within that part.
    pub(crate) sm_percent: Sampled,
    pub(crate) memory_percent: Sampled,
}

/// Without windows: over the time of polling.
pub(crate) fn activity(log: &GpuLog, device: &GpuDevice, windows: &[Window]) -> Activity {
    let span = Span::of(log, windows).unwrap_or(Span(Vec::new()));
    let why = match device.readings.iter().any(|r| span.holds(r.t) && r.sm_percent.is_some()) {
        true => DeviceReason::DriverWindowTooLong,
        false => why_not(device, Query::Utilization),
    };
    let later = |r: &&GpuReading| span.0.iter().any(|w| r.t >= w.from.plus(DRIVERS_WINDOW) && r.t <= w.to);
    let of = |get: fn(&GpuReading) -> Option<u32>| {
        let values = device.readings.iter().filter(later).filter_map(get).map(f64::from);
        stat(values).ok_or_else(|| why.clone())
    };
    Activity {
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

#[cfg(test)]
mod tests {
    use crate::event::{GpmMetric, GpmWindow, Query};
    use crate::fixture::{device, fixture, ms, with};

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
        d.refused.insert(Query::GpmSample, "Not Supported".into());
        let report = fixture(vec![d]).report();
        assert_eq!(report.gpus[0].counters.dram_percent.reason.as_deref(), Some("Not Supported"));
        assert!(report.gpus[0].samples.iter().all(|s| s.counters.counters_to_ns.is_none()));
    }
}
