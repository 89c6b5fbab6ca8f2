//! GPM: samples of the device's own counters, and what lay between two of them.
//!
//! Owns the buffers that a caller allocates: no more than two for each device, so that one who does not free them
//! notices. A metric between two samples is the mean of its curve. Called by the exported functions.

use std::ffi::{c_char, c_uint};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::{self, Code, get, put};
use crate::driver::{Asked, Driver, Now};
use crate::scenario::Device;

/// `NVML_GPM_METRICS_GET_VERSION`, `NVML_GPM_SUPPORT_VERSION`
const VERSION: c_uint = 1;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// `nvmlGpmSample_st`
#[derive(Debug, Clone, Copy)]
pub struct GpmSample {
    taken: Option<(&'static Device, u32, Now)>,
}

/// `nvmlGpmSupport_t`
#[repr(C)]
pub struct GpmSupport {
    pub version: c_uint,
    pub is_supported: c_uint,
}

/// `nvmlGpmMetric_t`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GpmMetric {
    pub id: c_uint,
    pub code: Code,
    pub value: f64,
    pub info: [*const c_char; 3],
}

/// `nvmlGpmMetricsGet_t` up to its array.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpmMetricsGet {
    pub version: c_uint,
    pub count: c_uint,
    pub samples: [*mut GpmSample; 2],
}

const _: () = assert!(size_of::<GpmMetric>() == 40 && size_of::<GpmMetricsGet>() == 24);

pub(crate) fn support(asked: &Asked, place: *mut GpmSupport) -> Result<Code, Code> {
    if get(place.cast::<c_uint>()) != Some(VERSION) {
        return Err(abi::ARGUMENT_VERSION_MISMATCH);
    }
    let is_supported = c_uint::from(asked.device.gpm.is_some());
    Ok(put(place, GpmSupport { version: VERSION, is_supported }))
}

pub(crate) fn alloc(driver: &Driver, place: *mut *mut GpmSample) -> Result<Code, Code> {
    let instances = driver.scenario.devices.iter().flat_map(|d| &d.mig).map(Vec::len).sum::<usize>();
    let most = (driver.scenario.devices.len() + instances) * 2;
    if ALIVE.fetch_add(1, Ordering::Relaxed) >= most {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
        return Err(abi::MEMORY);
    }
    Ok(put(place, Box::into_raw(Box::new(GpmSample { taken: None }))))
}

pub(crate) fn free(place: *mut GpmSample) -> Code {
    if place.is_null() {
        return abi::INVALID_ARGUMENT;
    }
    ALIVE.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: by NVML's contract it is one that `alloc` gave, and not freed yet.
    drop(unsafe { Box::from_raw(place) });
    abi::SUCCESS
}

/// Of the device, or of the instance of it that has this number.
pub(crate) fn take(asked: &Asked, instance: Option<c_uint>, place: *mut GpmSample) -> Result<Code, Code> {
    let device: &'static Device = match instance {
        None => asked.device,
        Some(id) => {
            let mut all = asked.device.mig.iter().flatten();
            all.find(|d| d.gpu_instance == Some(id)).ok_or(abi::INVALID_ARGUMENT)?
        }
    };
    device.gpm.as_ref().ok_or(abi::NOT_SUPPORTED)?;
    Ok(put(place, GpmSample { taken: Some((device, asked.index, asked.driver.now())) }))
}

pub(crate) fn metrics(driver: &Driver, place: *mut GpmMetricsGet) -> Result<Code, Code> {
    let head = get(place).ok_or(abi::INVALID_ARGUMENT)?;
    if head.version != VERSION {
        return Err(abi::ARGUMENT_VERSION_MISMATCH);
    }
    let taken = head.samples.map(|sample| get(sample).and_then(|s| s.taken));
    let [Some((device, index, from)), Some((.., to))] = taken else { return Err(abi::INVALID_ARGUMENT) };
    driver.entered("nvmlGpmMetricsGet", Some(index))?;
    let first = place.wrapping_add(1).cast::<GpmMetric>();
    for i in 0..head.count as usize {
        let place = first.wrapping_add(i);
        let metric = get(place).ok_or(abi::INVALID_ARGUMENT)?;
        let curve = device.gpm.as_ref().and_then(|all| all.get(&metric.id));
        // A clock that stands still has no time between two samples.
        let mean = |curve| match to.0 - from.0 {
            ms if ms > 0.0 => driver.between(curve, from, to) / ms * 1e3,
            _ => driver.at(curve, to),
        };
        put(
            place,
            GpmMetric {
                code: curve.map_or(abi::NOT_SUPPORTED, |_| abi::SUCCESS),
                value: curve.map_or(0.0, mean),
                info: [null_mut(); 3],
                ..metric
            },
        );
    }
    Ok(abi::SUCCESS)
}
