//! The devices, polled through NVML.
//!
//! Owns its thread: a driver that takes its time delays neither tokens nor /proc. A query that a
//! device refuses is kept with NVML's reason and is `None` in every reading, never 0. Started and
//! stopped by `run`. Proved on no hardware yet (README).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::series::Series;
use crate::clock::Mono;
use crate::event::{GpuDevice, GpuLog, GpuReading};
use crate::plan::{GpuChoice, ObservePlan};
use crate::units::Nanos;

/// An hour at 50 ms; beyond, neighbours are merged (see `series`).
const MAX_READINGS: usize = 72_000;

#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// Devices were asked for by name.
    #[error("--gpu asks for devices that can't be had: {0}\n  leave --gpu out to go on without")]
    Missing(String),
}

/// A running poll, or why there is none.
pub struct Poller {
    thread: Option<JoinHandle<GpuLog>>,
    stop: Arc<AtomicBool>,
    unavailable: Option<String>,
}

impl Poller {
    /// # Errors
    /// Devices asked for by name (`--gpu all`, indices, UUIDs) that are not there.
    pub fn start(plan: &ObservePlan) -> Result<Self, GpuError> {
        let stop = Arc::new(AtomicBool::new(false));
        let none = |why: String| Self { thread: None, stop: Arc::clone(&stop), unavailable: Some(why) };
        if plan.gpu == GpuChoice::Off {
            return Ok(none("--gpu off".to_owned()));
        }
        let by_name = plan.gpu != GpuChoice::Auto;
        let nvml = match open(plan.nvml_lib.as_deref()) {
            Ok(nvml) => nvml,
            Err(why) if by_name => return Err(GpuError::Missing(why)),
            Err(why) => return Ok(none(why)),
        };
        let indices = match chosen(&nvml, &plan.gpu) {
            Ok(indices) if !indices.is_empty() => indices,
            Ok(_) if by_name => return Err(GpuError::Missing("NVML lists no device".into())),
            Ok(_) => return Ok(none("NVML lists no device".into())),
            Err(why) if by_name => return Err(GpuError::Missing(why)),
            Err(why) => return Ok(none(why)),
        };
        let (interval, theirs) = (plan.sample_interval, Arc::clone(&stop));
        let spawned = std::thread::Builder::new()
            .name("nvml".into())
            .spawn(move || poll(&nvml, &indices, interval, &theirs));
        Ok(match spawned {
            Ok(thread) => Self { thread: Some(thread), stop, unavailable: None },
            Err(e) => none(format!("the NVML thread can't be started: {e}")),
        })
    }

    #[must_use]
    pub fn finish(self) -> GpuLog {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread else {
            return GpuLog { unavailable: self.unavailable, devices: Vec::new() };
        };
        thread.thread().unpark();
        thread.join().unwrap_or_else(|_| GpuLog {
            unavailable: Some("the NVML thread panicked; this is a bug".into()),
            devices: Vec::new(),
        })
    }
}

fn open(library: Option<&Path>) -> Result<Nvml, String> {
    let opened = match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    };
    opened.map_err(|e| match e {
        NvmlError::LibloadingError(_) => match library {
            Some(path) => format!("NVML can't be loaded from {}", path.display()),
            None => "no NVIDIA driver: libnvidia-ml.so.1 can't be loaded".to_owned(),
        },
        other => format!("NVML can't be used: {other}"),
    })
}

fn chosen(nvml: &Nvml, choice: &GpuChoice) -> Result<Vec<u32>, String> {
    let count = nvml.device_count().map_err(|e| format!("NVML can't count the devices: {e}"))?;
    match choice {
        GpuChoice::Auto | GpuChoice::All => Ok((0..count).collect()),
        GpuChoice::Off => Ok(Vec::new()),
        GpuChoice::These(names) => names
            .iter()
            .map(|name| match name.parse::<u32>() {
                Ok(index) if index < count => Ok(index),
                Ok(index) => Err(format!("there is no device {index}, NVML lists {count}")),
                Err(_) => nvml
                    .device_by_uuid(name.as_str())
                    .and_then(|d| d.index())
                    .map_err(|e| format!("device {name}: {e}")),
            })
            .collect(),
    }
}

fn poll(nvml: &Nvml, indices: &[u32], interval: Nanos, stop: &AtomicBool) -> GpuLog {
    let series = || Series::new(MAX_READINGS, |a: &GpuReading, b| weight(a) > weight(b));
    let mut devices: Vec<_> = indices.iter().map(|&i| (describe(nvml, i), series())).collect();
    let mut next = Mono::now();
    loop {
        for (log, readings) in &mut devices {
            if let Some(reading) = read(nvml, log) {
                readings.push(reading);
            }
        }
        if stop.load(Ordering::Relaxed) {
            let close = |(log, readings): (GpuDevice, Series<_>)| GpuDevice {
                readings: readings.finish(None).0,
                ..log
            };
            return GpuLog { unavailable: None, devices: devices.into_iter().map(close).collect() };
        }
        next = next.plus(interval).max(Mono::now());
        std::thread::park_timeout(next.since(Mono::now()).to_duration());
    }
}

/// Which of two neighbours a long run keeps: memory decides whether a model fits, then power.
fn weight(r: &GpuReading) -> (Option<u64>, Option<u64>) {
    (r.memory_used_bytes, r.power_mw)
}

/// The answer, or `None` with NVML's reason kept under the query's name.
fn ask<T>(log: &mut GpuDevice, query: &str, answer: Result<T, NvmlError>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(e) => {
            if !log.refused.contains_key(query) {
                log.refused.insert(query.to_owned(), e.to_string());
            }
            None
        }
    }
}

fn describe(nvml: &Nvml, index: u32) -> GpuDevice {
    let mut log = GpuDevice { index, driver: nvml.sys_driver_version().ok(), ..GpuDevice::default() };
    let Some(device) = ask(&mut log, "device", nvml.device_by_index(index)) else { return log };
    log.name = ask(&mut log, "name", device.name());
    log.uuid = ask(&mut log, "uuid", device.uuid());
    log.memory_total_bytes = ask(&mut log, "memory_total", device.memory_info()).map(|m| m.total);
    log.power_limit_mw = ask(&mut log, "power_limit", device.enforced_power_limit()).map(u64::from);
    log
}

fn read(nvml: &Nvml, log: &mut GpuDevice) -> Option<GpuReading> {
    let device = ask(log, "device", nvml.device_by_index(log.index))?;
    let t = Mono::now();
    let memory = ask(log, "memory_used_bytes", device.memory_info());
    let used = ask(log, "sm_percent", device.utilization_rates());
    let reading = GpuReading {
        t,
        memory_used_bytes: memory.map(|m| m.used),
        sm_percent: used.as_ref().map(|u| u.gpu),
        memory_percent: used.as_ref().map(|u| u.memory),
        power_mw: ask(log, "power_mw", device.power_usage()).map(u64::from),
        temperature_c: ask(log, "temperature_c", device.temperature(TemperatureSensor::Gpu)),
        sm_clock_mhz: ask(log, "sm_clock_mhz", device.clock_info(Clock::SM)),
    };
    processes(&device, log);
    Some(reading)
}

fn processes(device: &Device<'_>, log: &mut GpuDevice) {
    let Some(running) = ask(log, "processes", device.running_compute_processes()) else { return };
    log.processes_known = true;
    for process in running {
        let bytes = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let known = log.process_memory.entry(process.pid).or_default();
        *known = (*known).max(bytes);
    }
}
