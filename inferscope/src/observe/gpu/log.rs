//! What the devices told so far.
//!
//! Owns the log while it grows. The polling thread adds to it between two calls of the driver and never holds it during
//! one, so that a driver which hangs takes nothing along that was told before. Used by `worker` and `device`; taken by
//! the poller at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvml_wrapper::error::NvmlError;

use super::query_policy::QueryPolicy;
use super::schedule::Cost;
use crate::bounded_series::BoundedSeries;
use crate::clock::Mono;
use crate::event::{
    CpuPackages, EnergyReading, GpmWindow, GpuDevice, GpuLog, GpuReading, PollCost, PowerPoint, ProcessLook,
    ProcessUse,
};
use crate::observe::observer::own_thread_cpu;
use crate::units::Nanos;

/// An hour at 50 ms; beyond, neighbours are merged (see `bounded_series`).
const MAX_READINGS: usize = 72_000;
/// An hour and more of GPM's windows, 4.5 MB.
const MAX_WINDOWS: usize = 20_000;
/// Changes of the process list that are kept.
const MAX_LOOKS: usize = 20_000;

/// One device's part.
pub(super) struct DeviceLog {
    pub(super) log: GpuDevice,
    pub(super) policy: QueryPolicy,
    pub(super) readings: BoundedSeries<GpuReading>,
    pub(super) power: BoundedSeries<PowerPoint>,
    pub(super) power_sampled: BoundedSeries<PowerPoint>,
    pub(super) sm_samples: BoundedSeries<(Mono, u32)>,
    pub(super) energy: BoundedSeries<EnergyReading>,
    pub(super) process_use: BoundedSeries<ProcessUse>,
    pub(super) gpm: BoundedSeries<GpmWindow>,
    looks: Vec<ProcessLook>,
}

impl DeviceLog {
    fn new(log: GpuDevice) -> Self {
        Self {
            log,
            policy: QueryPolicy::default(),
            readings: BoundedSeries::new(MAX_READINGS, |a, b| {
                (a.memory_used_bytes, a.power_mw) > (b.memory_used_bytes, b.power_mw)
            }),
            power: BoundedSeries::new(MAX_READINGS, |a, b| a.mw > b.mw),
            power_sampled: BoundedSeries::new(MAX_READINGS, |a, b| a.mw > b.mw),
            sm_samples: BoundedSeries::new(MAX_READINGS, |a, b| a.1 > b.1),
            // Any two of them tell the same, so the later is kept.
            energy: BoundedSeries::new(MAX_READINGS, |a, b| a.before > b.before),
            process_use: BoundedSeries::new(MAX_READINGS, |a, b| a.sm_percent > b.sm_percent),
            // Whatever they say, so that what is kept stands for all.
            gpm: BoundedSeries::new(MAX_WINDOWS, |a, b| a.from > b.from),
            looks: Vec::new(),
        }
    }

    pub(super) fn insane(&mut self, what: &'static str, n: u64) {
        *self.log.insane.entry(what).or_default() += n;
    }

    /// Only what differs from the look before is kept.
    pub(super) fn look(&mut self, look: ProcessLook) {
        self.log.processes_known = true;
        if self.looks.last().is_some_and(|last| last.all == look.all) {
            return;
        }
        if self.looks.len() < MAX_LOOKS {
            self.looks.push(look);
        } else {
            self.insane("process_list_full", 1);
        }
    }

    /// The pids on the device.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.looks.last().into_iter().flat_map(|look| &look.all).map(|p| p.pid).collect()
    }

    fn into_log(self) -> (GpuDevice, PollCost) {
        let told = self.policy.capabilities();
        let (power, power_dropped) = self.power.finish(None);
        let (power_sampled, sampled_dropped) = self.power_sampled.finish(None);
        let (gpm, gpm_dropped) = self.gpm.finish(None);
        let log = GpuDevice {
            answered: told.answered,
            refused: told.refused,
            failed: told.failed,
            lost: self.policy.lost(),
            interruptions: self.policy.interruptions,
            readings: self.readings.finish(None).0,
            power,
            power_sampled,
            power_thinned: power_dropped > 0,
            power_sampled_thinned: sampled_dropped > 0,
            sm_samples: self.sm_samples.finish(None).0,
            energy: self.energy.finish(None).0,
            process_use: self.process_use.finish(None).0,
            gpm,
            gpm_thinned: gpm_dropped > 0,
            processes: self.looks,
            ..self.log
        };
        (log, self.policy.cost)
    }
}

/// The log as it stands.
pub(super) struct PollLog {
    devices: Vec<DeviceLog>,
    /// Devices that can't be had.
    pub(super) missing: Vec<GpuDevice>,
    pub(super) packages: BoundedSeries<EnergyReading>,
    pub(super) packages_unavailable: Option<String>,
    pub(super) visible_devices: BTreeMap<u32, String>,
    pub(super) pids_are_ours: bool,
    /// From the first look to the last.
    pub(super) polled: Option<(Mono, Mono)>,
    pub(super) ticks: u64,
    pub(super) cpu: Nanos,
    /// The call that is not back yet.
    call: Option<(&'static str, Mono)>,
}

impl Default for PollLog {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            missing: Vec::new(),
            packages: BoundedSeries::new(MAX_READINGS, |a, b| a.before > b.before),
            packages_unavailable: None,
            visible_devices: BTreeMap::new(),
            pids_are_ours: false,
            polled: None,
            ticks: 0,
            cpu: Nanos::ZERO,
            call: None,
        }
    }
}

impl PollLog {
    fn into_log(self) -> GpuLog {
        let mut cost = PollCost { ticks: self.ticks, cpu: self.cpu, ..PollCost::default() };
        let mut devices = self.missing;
        for device in self.devices {
            let (log, theirs) = device.into_log();
            cost.calls += theirs.calls;
            cost.in_calls += theirs.in_calls;
            cost.slowest = [cost.slowest.take(), theirs.slowest].into_iter().flatten().max_by_key(|s| s.1);
            devices.push(log);
        }
        // A device stays before its instances.
        devices.sort_by_key(|log| log.index);
        GpuLog {
            devices,
            polled: self.polled,
            visible_devices: self.visible_devices,
            pids_are_ours: self.pids_are_ours,
            cost,
            packages: CpuPackages {
                unavailable: self.packages_unavailable,
                readings: self.packages.finish(None).0,
            },
            ..GpuLog::default()
        }
    }
}

/// The log between the polling thread and whoever waits for it.
#[derive(Clone, Default)]
pub(super) struct SharedLog(Arc<Mutex<PollLog>>);

impl SharedLog {
    pub(super) fn lock(&self) -> MutexGuard<'_, PollLog> {
        // What a panic left is still what was told.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new device's place.
    pub(super) fn add(&self, log: GpuDevice) -> usize {
        let mut known = self.lock();
        known.devices.push(DeviceLog::new(log));
        known.devices.len() - 1
    }

    /// `None` once the log was taken.
    pub(super) fn with<T>(&self, place: usize, f: impl FnOnce(&mut DeviceLog) -> T) -> Option<T> {
        self.lock().devices.get_mut(place).map(f)
    }

    /// The answer, where the query is not refused, the device is there and the last slow answer is long enough ago.
    pub(super) fn ask<T>(
        &self,
        place: usize,
        query: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        let began = Mono::now();
        if !self.with(place, |device| device.policy.is_due(query, began))? {
            return None;
        }
        self.made(place, query, call)
    }

    /// The same, however long ago the last answer is: for a moment that does not come again.
    pub(super) fn ask_now<T>(
        &self,
        place: usize,
        query: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        if !self.with(place, |device| device.policy.is_there() && !device.policy.refuses(query))? {
            return None;
        }
        self.made(place, query, call)
    }

    fn made<T>(
        &self,
        place: usize,
        query: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        let (began, cpu) = (Mono::now(), own_thread_cpu());
        let answer = self.waiting(query, call);
        let cost = Cost { wall: Mono::now().since(began), cpu: own_thread_cpu().saturating_sub(cpu) };
        self.with(place, |device| {
            device.policy.took(query, began, cost);
            device.policy.noted(query, answer, began)
        })?
    }

    /// Makes a call that may never come back.
    pub(super) fn waiting<T>(&self, call: &'static str, make: impl FnOnce() -> T) -> T {
        self.lock().call = Some((call, Mono::now()));
        let made = make();
        self.lock().call = None;
        made
    }

    /// The log, and the call that it still waits for.
    pub(super) fn take(&self) -> (GpuLog, Option<(&'static str, Mono)>) {
        let known = std::mem::take(&mut *self.lock());
        let call = known.call;
        (known.into_log(), call)
    }
}
