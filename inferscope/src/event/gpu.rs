//! What NVML told of the devices.

use std::collections::BTreeMap;

use crate::clock::Mono;

/// One GPU poll log. `unavailable` says why there are no devices.
#[derive(Debug, Clone, Default)]
pub struct GpuLog {
    pub unavailable: Option<String>,
    pub devices: Vec<GpuDevice>,
}

#[derive(Debug, Clone, Default)]
pub struct GpuDevice {
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub driver: Option<String>,
    /// For each query that the device refuses: NVML's own words.
    pub refused: BTreeMap<String, String>,
    pub memory_total_bytes: Option<u64>,
    pub power_limit_mw: Option<u64>,
    pub readings: Vec<GpuReading>,
    /// Host pids that NVML saw with a context on it, with their memory where it told.
    pub process_memory: BTreeMap<u32, Option<u64>>,
    /// Whether the process query ever answered.
    pub processes_known: bool,
}

/// One poll of one device; `None` where it did not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuReading {
    pub t: Mono,
    pub memory_used_bytes: Option<u64>,
    pub sm_percent: Option<u32>,
    pub memory_percent: Option<u32>,
    pub power_mw: Option<u64>,
    pub temperature_c: Option<u32>,
    pub sm_clock_mhz: Option<u32>,
}
