//! GPM: the device's own counters of what its units do (NVML, from Hopper on; no DCGM is needed).
//!
//! Owns the two samples that a window lies between, and the unsafe calls that fill and compare them. A metric that the
//! device refuses is a query of its own in the capabilities. Never concludes anything. Driven by `device`.

use std::ffi::{c_char, c_uint, c_void};
use std::ptr::null_mut;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};

use super::caller::Caller;
use crate::clock::Mono;
use crate::event::{DeviceAnswer, GpmMetric, GpmWindow, Query};
use crate::units::Nanos;

/// A window's length. The counters are refreshed every 100 ms (nvml.h), so that shorter ones say little.
const WINDOW: Nanos = Nanos::from_millis(250);
/// A look that comes so much early need not wait for the next.
const EARLY: Nanos = Nanos::from_millis(10);
/// The last window may be as short as this.
const SHORTEST: Nanos = Nanos::from_millis(150);
/// `NVML_GPM_METRICS_GET_VERSION`
const VERSION: c_uint = 1;
/// The header's `NVML_GPM_METRIC_MAX` has grown from 98 to 477 without a new version: the library looks at those that
/// are asked for, and finds room for more.
const ROOM: usize = 512;

/// `nvmlGpmMetric_t`
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Metric {
    id: c_uint,
    code: c_uint,
    value: f64,
    /// The library's own strings: a short and a long name, and the unit.
    info: [*mut c_char; 3],
}

/// `nvmlGpmMetricsGet_t`
#[derive(Debug)]
#[repr(C)]
struct MetricsGet {
    version: c_uint,
    count: c_uint,
    samples: [*mut c_void; 2],
    metrics: [Metric; ROOM],
}

const _: () = {
    assert!(size_of::<Metric>() == 40 && std::mem::offset_of!(Metric, value) == 8);
    assert!(
        std::mem::offset_of!(MetricsGet, samples) == 8 && std::mem::offset_of!(MetricsGet, metrics) == 24
    );
};

/// One device's windows.
pub(super) struct Gpm<'n> {
    /// Of a MIG instance; its device, once that was asked for.
    gpu_instance: Option<u32>,
    parent: Option<Device<'n>>,
    is_supported: bool,
    /// The one to fill next.
    spare: Option<Sample<'n>>,
    /// Where the present window began.
    begin: Option<(Sample<'n>, Mono)>,
}

impl<'n> Gpm<'n> {
    pub(super) const fn new(gpu_instance: Option<u32>) -> Self {
        Self { gpu_instance, parent: None, is_supported: false, spare: None, begin: None }
    }

    /// After the device or its driver was away: its counters may have begun anew, and what the library gave is void.
    pub(super) fn begins_anew(&mut self) {
        // A library that was initialised again may not know them: some kilobytes are left to it.
        std::mem::forget(self.spare.take());
        std::mem::forget(self.begin.take());
        (self.parent, self.is_supported) = (None, false);
    }

    /// Ends the present window, where it is long enough, and begins the next.
    pub(super) fn tick(&mut self, device: &Device<'n>, caller: &mut Caller<'_>, last: bool) {
        let now = Mono::now();
        let least = if last { SHORTEST } else { WINDOW.saturating_sub(EARLY) };
        if self.begin.as_ref().is_some_and(|(_, from)| now.since(*from) < least) {
            return;
        }
        // Both calls or none: a sample without its comparison would lose the window, one that waits makes it longer.
        if ![Query::GpmSample, Query::GpmMetrics].iter().all(|query| caller.policy.is_due(*query, now)) {
            return;
        }
        let Some((end, to)) = caller.ask(Query::GpmSample, || self.sample(device)) else {
            // Whatever it was, no window lies across it.
            self.spare = self.spare.take().or(self.begin.take().map(|(sample, _)| sample));
            return;
        };
        if let Some((begin, from)) = self.begin.take() {
            if let Some(values) = compare(device.nvml(), caller, [&begin, &end])
                && values.iter().any(Option::is_some)
            {
                caller.send(DeviceAnswer::Gpm(Box::new(GpmWindow { from, to, values })));
            }
            self.spare = Some(begin);
        }
        self.begin = Some((end, to));
    }

    /// A sample of this moment.
    fn sample(&mut self, device: &Device<'n>) -> Result<(Sample<'n>, Mono), NvmlError> {
        if !self.is_supported {
            if !device.gpm_support()? {
                return Err(NvmlError::NotSupported);
            }
            self.is_supported = true;
        }
        if self.gpu_instance.is_some() && self.parent.is_none() {
            self.parent = Some(device.mig_parent_device()?);
        }
        let sample = match self.spare.take() {
            Some(sample) => sample,
            None => Sample::new(device.nvml())?,
        };
        let before = Mono::now();
        let taken = match (self.gpu_instance, &self.parent) {
            (Some(instance), Some(parent)) => sample.take_of_instance(parent, instance),
            _ => sample.take(device),
        };
        let t = before.plus(Nanos(Mono::now().since(before).0 / 2));
        match taken {
            Ok(()) => Ok((sample, t)),
            Err(error) => {
                self.spare = Some(sample);
                Err(error)
            }
        }
    }
}

/// What was between two samples.
fn compare(
    nvml: &Nvml,
    caller: &mut Caller<'_>,
    samples: [&Sample<'_>; 2],
) -> Option<[Option<f64>; GpmMetric::ALL.len()]> {
    let asked = |metric: &GpmMetric| !caller.policy.refuses(Query::Gpm(*metric));
    let wanted: Vec<GpmMetric> = GpmMetric::ALL.into_iter().filter(asked).collect();
    let t = Mono::now();
    let answers = caller.ask(Query::GpmMetrics, || metrics(nvml, samples, &wanted))?;
    let mut values = [None; GpmMetric::ALL.len()];
    for (metric, answer) in wanted.into_iter().zip(answers) {
        let value = caller.noted(Query::Gpm(metric), answer, t);
        let sane = value.and_then(|value| sane(metric, value));
        if value.is_some() && sane.is_none() {
            caller.implausible("gpm_value_beyond_range", 1);
        }
        values[metric as usize] = sane;
    }
    Some(values)
}

/// As it may be; a share that its rounding brought just above all is all.
fn sane(metric: GpmMetric, value: f64) -> Option<f64> {
    let most = if metric.is_percent() { 101.0 } else { f64::MAX };
    let value = Some(value).filter(|v| (0.0..=most).contains(v))?;
    Some(if metric.is_percent() { value.min(100.0) } else { value })
}

fn metrics(
    nvml: &Nvml,
    samples: [&Sample<'_>; 2],
    wanted: &[GpmMetric],
) -> Result<Vec<Result<f64, NvmlError>>, NvmlError> {
    let call = *nvml_sym(nvml.lib().nvmlGpmMetricsGet.as_ref())?;
    let none = Metric { id: 0, code: 0, value: 0.0, info: [null_mut(); 3] };
    let mut get = Box::new(MetricsGet {
        version: VERSION,
        count: c_uint::try_from(wanted.len()).unwrap_or(0),
        samples: samples.map(|sample| sample.place),
        metrics: [none; ROOM],
    });
    for (place, metric) in get.metrics.iter_mut().zip(wanted) {
        place.id = metric.id();
    }
    // SAFETY: of the header's layout, with room for more than it has, and both samples are the library's and filled.
    nvml_try(unsafe { call((&raw mut *get).cast()) })?;
    Ok(get.metrics.iter().take(wanted.len()).map(|m| nvml_try(m.code).map(|()| m.value)).collect())
}

/// `nvmlGpmSample_t`: a buffer of the library's.
struct Sample<'n> {
    nvml: &'n Nvml,
    place: *mut c_void,
}

impl<'n> Sample<'n> {
    fn new(nvml: &'n Nvml) -> Result<Self, NvmlError> {
        let call = *nvml_sym(nvml.lib().nvmlGpmSampleAlloc.as_ref())?;
        let mut place = null_mut();
        // SAFETY: `place` outlives the call.
        nvml_try(unsafe { call(&raw mut place) })?;
        if place.is_null() {
            return Err(NvmlError::Unknown);
        }
        Ok(Self { nvml, place: place.cast() })
    }

    fn take(&self, device: &Device<'_>) -> Result<(), NvmlError> {
        let call = *nvml_sym(self.nvml.lib().nvmlGpmSampleGet.as_ref())?;
        // SAFETY: the handle outlives the call, as its library does.
        let handle = unsafe { device.handle() };
        // SAFETY: the buffer is the library's own and not freed yet.
        nvml_try(unsafe { call(handle, self.place.cast()) })
    }

    fn take_of_instance(&self, parent: &Device<'_>, gpu_instance: u32) -> Result<(), NvmlError> {
        let call = *nvml_sym(self.nvml.lib().nvmlGpmMigSampleGet.as_ref())?;
        // SAFETY: the handle outlives the call, as its library does.
        let handle = unsafe { parent.handle() };
        // SAFETY: the buffer is the library's own and not freed yet.
        nvml_try(unsafe { call(handle, gpu_instance, self.place.cast()) })
    }
}

impl Drop for Sample<'_> {
    fn drop(&mut self) {
        let Ok(call) = nvml_sym(self.nvml.lib().nvmlGpmSampleFree.as_ref()) else { return };
        // SAFETY: the library gave it, and nobody has freed it.
        let _ = unsafe { call(self.place.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_beyond_all_is_none_and_a_rate_may_be_any() {
        assert_eq!(sane(GpmMetric::Dram, 100.4), Some(100.0));
        assert_eq!(sane(GpmMetric::Dram, 180.0), None);
        assert_eq!(sane(GpmMetric::Dram, -0.1), None);
        assert_eq!(sane(GpmMetric::Dram, f64::NAN), None);
        assert_eq!(sane(GpmMetric::PcieRx, 1_789.1), Some(1_789.1));
        assert_eq!(sane(GpmMetric::PcieRx, f64::INFINITY), None);
    }
}
