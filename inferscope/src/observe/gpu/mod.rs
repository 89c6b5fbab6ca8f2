//! The devices, polled through NVML, and beside them the energy of the CPU packages.
//!
//! Owns its thread: a driver that takes its time delays neither tokens nor /proc. A query that a device refuses is kept
//! with NVML's reason and is `None` in every reading, never 0. Started and stopped by `run`. Proved against a stand-in
//! for the driver (`tests/nvml-standin`), on no hardware yet (README).
//!
//! `device` is one device's queries, `ask` what they answer at all, `processes` and `buffered` make sense of two of them,
//! `raw` holds the unsafe calls, `packages` reads RAPL.

mod ask;
mod buffered;
mod device;
mod packages;
mod processes;
mod raw;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::Thread;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::observer::own_thread_cpu;
use super::series::Series;
use super::target;
use crate::clock::Mono;
use crate::event::{CpuPackages, EnergyReading, GpuDevice, GpuLog, PollCost};
use crate::plan::{GpuChoice, ObservePlan};
use crate::units::Nanos;

use device::Watched;
use packages::Packages;
use processes::Pids;

/// Refreshes of an energy counter come about every 100 ms; one that has not come by then is not waited for.
const REFRESH_LIMIT: Nanos = Nanos::from_millis(500);
const REFRESH_LOOK: Duration = Duration::from_millis(5);
/// A driver that has not answered a look by then is left to itself.
const DRIVER_LIMIT: Duration = Duration::from_secs(10);
/// CPU energy: an hour at 50 ms; beyond, neighbours are merged (see `series`).
const MAX_READINGS: usize = 72_000;
/// The variable by which CUDA hides devices from a process.
const VISIBLE_DEVICES: &[u8] = b"CUDA_VISIBLE_DEVICES=";

#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// Devices were asked for by name.
    #[error("--gpu asks for devices that can't be had: {0}\n  leave --gpu out to go on without")]
    Missing(String),
}

/// A running poll, or why there is none.
pub struct Poller {
    poll: Option<Poll>,
    unavailable: Option<String>,
    /// Where nothing polls.
    no_packages: Option<String>,
    baseline: Option<(Mono, Mono)>,
}

struct Poll {
    thread: Thread,
    stop: Arc<AtomicBool>,
    /// After the first look at all devices.
    looked: Option<oneshot::Receiver<()>>,
    log: Receiver<GpuLog>,
    has_devices: bool,
}

impl Poller {
    /// `roots`: processes of the target whose environment may say which devices CUDA shows them.
    ///
    /// # Errors
    /// Devices asked for by name (`--gpu all`, indices, UUIDs) that are not there.
    pub fn start(plan: &ObservePlan, roots: &[u32]) -> Result<Self, GpuError> {
        let (devices, unavailable) = match devices(plan) {
            Ok(found) => (Some(found), None),
            Err(why) if !matches!(plan.gpu, GpuChoice::Auto | GpuChoice::Off) => {
                return Err(GpuError::Missing(why));
            }
            Err(why) => (None, Some(why)),
        };
        let packages = Packages::open(Path::new(packages::POWERCAP));
        let has_devices = devices.is_some();
        // Without either there is nothing to poll.
        let none = |unavailable, no_packages| Self { poll: None, unavailable, no_packages, baseline: None };
        let packages = match packages {
            Err(why) if !has_devices => return Ok(none(unavailable, Some(why))),
            packages => packages,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (tell_look, looked) = oneshot::channel();
        let (tell_log, log) = channel();
        let worker = Worker {
            devices,
            packages,
            interval: plan.sample_interval,
            stop: Arc::clone(&stop),
            roots: roots.to_vec(),
        };
        let spawned = std::thread::Builder::new().name("nvml".into()).spawn(move || {
            // Who asked may have gone on without it.
            let _ = tell_log.send(worker.run(tell_look));
        });
        Ok(match spawned {
            Ok(thread) => {
                let poll =
                    Poll { thread: thread.thread().clone(), stop, looked: Some(looked), log, has_devices };
                Self { poll: Some(poll), ..none(unavailable, None) }
            }
            Err(e) => {
                let why = format!("the NVML thread can't be started: {e}");
                none(Some(why.clone()), Some(why))
            }
        })
    }

    /// Where there are devices, waits for the first look and then for `time`, in which nothing is to be sent: what they
    /// use at rest. No longer than until `stop`, and once only.
    pub async fn rest(&mut self, time: Nanos, stop: impl Future<Output = ()>) {
        let Some(poll) = self.poll.as_mut().filter(|p| p.has_devices && time > Nanos::ZERO) else { return };
        let Some(looked) = poll.looked.take() else { return };
        let rested = async {
            timeout(DRIVER_LIMIT, looked).await.ok()?.ok()?;
            let from = Mono::now();
            sleep(time.to_duration()).await;
            Some((from, Mono::now()))
        };
        tokio::select! {
            biased;
            () = stop => {}
            rested = rested => self.baseline = rested,
        }
    }

    #[must_use]
    pub fn finish(self) -> GpuLog {
        let none = |unavailable, no_packages| GpuLog {
            unavailable,
            packages: CpuPackages { unavailable: no_packages, ..CpuPackages::default() },
            ..GpuLog::default()
        };
        let Some(poll) = self.poll else { return none(self.unavailable, self.no_packages) };
        poll.stop.store(true, Ordering::Relaxed);
        poll.thread.unpark();
        match poll.log.recv_timeout(DRIVER_LIMIT) {
            Ok(log) => GpuLog { baseline: self.baseline, unavailable: self.unavailable, ..log },
            Err(_) => {
                let why = format!(
                    "the driver did not answer within {DRIVER_LIMIT:?} at the end: its readings are lost"
                );
                none(Some(why.clone()), Some(why))
            }
        }
    }
}

/// NVML with the devices that are to be polled.
struct Chosen {
    nvml: Nvml,
    /// By UUID or index.
    these: Vec<Which>,
}

#[derive(Debug, Clone)]
enum Which {
    Index(u32),
    Uuid(String),
}

fn devices(plan: &ObservePlan) -> Result<Chosen, String> {
    if plan.gpu == GpuChoice::Off {
        return Err("--gpu off".to_owned());
    }
    let nvml = open(plan.nvml_lib.as_deref())?;
    let count = nvml.device_count().map_err(|e| format!("NVML can't count the devices: {e}"))?;
    let these: Vec<Which> = match &plan.gpu {
        GpuChoice::These(names) => names
            .iter()
            .map(|name| match name.parse::<u32>() {
                Ok(index) if index < count => Ok(Which::Index(index)),
                Ok(index) => Err(format!("there is no device {index}, NVML lists {count}")),
                Err(_) => nvml
                    .device_by_uuid(name.as_str())
                    .map(|_| Which::Uuid(name.clone()))
                    .map_err(|e| format!("device {name}: {e}")),
            })
            .collect::<Result<_, _>>()?,
        _ => (0..count).map(Which::Index).collect(),
    };
    if these.is_empty() {
        return Err("NVML lists no device".into());
    }
    Ok(Chosen { nvml, these })
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

impl Chosen {
    /// Every chosen device, and after a device that is cut into MIG instances those; apart, what can't be had.
    fn watched(&self) -> (Vec<Watched<'_>>, Vec<GpuDevice>) {
        let driver = self.nvml.sys_driver_version().ok();
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        for which in &self.these {
            let (index, found) = match which {
                Which::Index(index) => (*index, self.nvml.device_by_index(*index)),
                Which::Uuid(uuid) => {
                    let found = self.nvml.device_by_uuid(uuid.as_str());
                    let parent = |d: &Device<'_>| d.mig_parent_device().and_then(|p| p.index());
                    let index = found.as_ref().ok().and_then(|d| d.index().or_else(|_| parent(d)).ok());
                    (index.unwrap_or_default(), found)
                }
            };
            let device = match found {
                Ok(device) => device,
                Err(e) => {
                    let refused = BTreeMap::from([("device".to_owned(), e.to_string())]);
                    missing.push(GpuDevice {
                        index,
                        driver: driver.clone(),
                        refused,
                        ..GpuDevice::default()
                    });
                    continue;
                }
            };
            let is_mig = device.mig_is_mig_device_handle().unwrap_or(false);
            let instances = if is_mig { Vec::new() } else { instances(&device) };
            let mut parent = Watched::new(device, index, is_mig, driver.clone());
            if !instances.is_empty() {
                parent.cut_into_instances();
            }
            all.push(parent);
            all.extend(instances.into_iter().map(|i| Watched::new(i, index, true, driver.clone())));
        }
        (all, missing)
    }
}

fn instances<'n>(device: &Device<'n>) -> Vec<Device<'n>> {
    // NVML_DEVICE_MIG_ENABLE
    if !device.mig_mode().is_ok_and(|mode| mode.current == 1) {
        return Vec::new();
    }
    let most = device.mig_device_count().unwrap_or(0);
    (0..most).filter_map(|i| device.mig_device_by_index(i).ok()).collect()
}

struct Worker {
    devices: Option<Chosen>,
    packages: Result<Packages, String>,
    interval: Nanos,
    stop: Arc<AtomicBool>,
    roots: Vec<u32>,
}

impl Worker {
    fn run(self, tell_look: oneshot::Sender<()>) -> GpuLog {
        let pids = Pids { are_ours: !target::in_inner_namespace() };
        let cpu = own_thread_cpu();
        let (mut devices, mut logs) = self.devices.as_ref().map(Chosen::watched).unwrap_or_default();
        let mut packages = self.packages;
        let mut package_readings: Series<EnergyReading> =
            Series::new(MAX_READINGS, |a, b| a.before > b.before);
        let mut visible_devices = BTreeMap::new();
        note_visible(&mut visible_devices, self.roots.iter().copied());
        let began = Mono::now();
        let mut next = began;
        let mut ticks = 0;
        let mut tell_look = Some(tell_look);
        loop {
            let last = self.stop.load(Ordering::Relaxed);
            if let Some(reading) = packages.as_mut().ok().and_then(Packages::read) {
                package_readings.push(reading);
            }
            for device in &mut devices {
                // The end of the run is not to wait for one more look at seven others.
                if !last && self.stop.load(Ordering::Relaxed) {
                    break;
                }
                device.tick(&pids, last);
                if pids.are_ours {
                    note_visible(&mut visible_devices, device.pids());
                }
            }
            ticks += 1;
            if let Some(tell) = tell_look.take() {
                // Nobody may be waiting.
                let _ = tell.send(());
            }
            if last {
                break;
            }
            next = next.plus(self.interval).max(Mono::now());
            std::thread::park_timeout(next.since(Mono::now()).to_duration());
        }
        let ended = Mono::now();
        wait_for_refresh(&mut devices);
        let mut cost = PollCost { ticks, cpu: own_thread_cpu().saturating_sub(cpu), ..PollCost::default() };
        for device in devices {
            let (log, theirs) = device.finish();
            cost.calls += theirs.calls;
            cost.in_calls += theirs.in_calls;
            cost.slowest = [cost.slowest.take(), theirs.slowest].into_iter().flatten().max_by_key(|s| s.1);
            logs.push(log);
        }
        // A device stays before its instances.
        logs.sort_by_key(|log| log.index);
        GpuLog {
            devices: logs,
            polled: Some((began, ended)),
            visible_devices: visible_devices.into_iter().filter_map(|(pid, v)| Some((pid, v?))).collect(),
            pids_are_ours: pids.are_ours,
            cost,
            packages: CpuPackages { unavailable: packages.err(), readings: package_readings.finish(None).0 },
            ..GpuLog::default()
        }
    }
}

/// What a counter shows is known to be of after the end only once it has changed after it.
fn wait_for_refresh(devices: &mut [Watched<'_>]) {
    let deadline = Mono::now().plus(REFRESH_LIMIT);
    let first: Vec<Option<u64>> = devices.iter_mut().map(Watched::read_energy).collect();
    let mut waiting: Vec<usize> = (0..devices.len()).filter(|i| first[*i].is_some()).collect();
    while !waiting.is_empty() && Mono::now() < deadline {
        std::thread::sleep(REFRESH_LOOK);
        waiting.retain(|&i| devices[i].read_energy() == first[i]);
    }
}

/// Of each new process, what its environment shows CUDA; nothing else of it is kept.
fn note_visible(known: &mut BTreeMap<u32, Option<String>>, pids: impl Iterator<Item = u32>) {
    for pid in pids {
        if known.contains_key(&pid) {
            continue;
        }
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = environment.split(|b| *b == 0).find_map(|line| line.strip_prefix(VISIBLE_DEVICES));
        known.insert(pid, value.map(|value| String::from_utf8_lossy(value).into_owned()));
    }
}
