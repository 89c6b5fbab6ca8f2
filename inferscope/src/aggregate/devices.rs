//! What NVML described, while a run lasts.
//!
//! Owns the bounded series of each device: beyond an hour at 50 ms neighbours are merged, so that peaks stay. Never
//! concludes anything (`figures::devices` does). Driven by the hub's collector; a driver that hangs takes nothing from here.

mod series;

use std::collections::BTreeMap;

use crate::clock::{Mono, Window};
use crate::event::{DeviceEvent, GpuDevice, GpuLog, GpuReading, PollCost, PowerPoint, Query};

use super::Aggregate;
use series::DeviceSeries;

#[derive(Debug, Clone, Default)]
pub struct DeviceAggregate {
    devices: Vec<DeviceSeries>,
    /// Devices that can't be had.
    missing: Vec<GpuDevice>,
    visible_devices: BTreeMap<u32, String>,
    pids_are_ours: bool,
    polled: Option<Window>,
    cost: PollCost,
}

/// As far as its events were applied.
#[derive(Debug, Clone, Default)]
pub struct DevicePart {
    /// In the order in which they were found.
    pub live: Vec<LiveDevice>,
    /// After the last event only.
    pub log: Option<Box<GpuLog>>,
}

/// A device at the last look.
#[derive(Debug, Clone)]
pub struct LiveDevice {
    pub index: u32,
    pub name: Option<String>,
    /// Looks that gave anything.
    pub looks: u64,
    pub reading: Option<GpuReading>,
    pub power: Option<PowerPoint>,
    pub is_away: bool,
}

/// What only the end tells, or others know.
#[derive(Debug, Clone, Default)]
pub struct DeviceFinals {
    /// Why nothing was polled.
    pub unavailable: Option<String>,
    /// The wait before the load: nothing was sent in it.
    pub baseline: Option<Window>,
    /// When what is measured began, where nothing was sent.
    pub began: Option<Mono>,
    /// A call that did not come back, and since when.
    pub hangs: Option<(String, Mono)>,
}

impl Aggregate for DeviceAggregate {
    type Event = DeviceEvent;
    type Part = DevicePart;
    type Finals = DeviceFinals;

    fn apply(&mut self, event: DeviceEvent) {
        match event {
            DeviceEvent::Began { pids_are_ours } => self.pids_are_ours = pids_are_ours,
            DeviceEvent::Found(identity) => self.devices.push(DeviceSeries::new(&identity)),
            DeviceEvent::Missing { index, driver, words } => self.missing.push(GpuDevice {
                index,
                driver,
                refused: BTreeMap::from([(Query::Device, words)]),
                ..GpuDevice::default()
            }),
            DeviceEvent::Of { place, answer } => {
                if let Some(device) = self.devices.get_mut(place) {
                    device.apply(&answer);
                }
            }
            DeviceEvent::VisibleDevices { pid, value: Some(value) } => {
                self.visible_devices.insert(pid, value);
            }
            DeviceEvent::VisibleDevices { pid, value: None } => {
                self.visible_devices.remove(&pid);
            }
            DeviceEvent::Looked { polled, cost } => {
                self.polled = Some(polled);
                self.cost = cost;
            }
        }
    }

    fn snapshot(&self, _now: Mono) -> DevicePart {
        DevicePart { live: self.live(), log: None }
    }

    fn finish(self, finals: &DeviceFinals) -> DevicePart {
        let live = self.live();
        let mut devices = self.missing;
        devices.extend(self.devices.into_iter().map(DeviceSeries::into_log));
        // A device stays before its instances.
        devices.sort_by_key(|device| device.index);
        let log = GpuLog {
            unavailable: finals.unavailable.clone(),
            devices,
            baseline: finals.baseline,
            began: finals.began,
            polled: self.polled,
            visible_devices: self.visible_devices,
            pids_are_ours: self.pids_are_ours,
            cost: self.cost,
            hangs: finals.hangs.clone(),
        };
        DevicePart { live, log: Some(Box::new(log)) }
    }
}

impl DeviceAggregate {
    fn live(&self) -> Vec<LiveDevice> {
        self.devices.iter().map(DeviceSeries::live).collect()
    }
}

#[cfg(test)]
mod tests;
