//! All aggregates of a run, as one.
//!
//! Owns which event goes to which aggregate, and what a snapshot of the run is. Adds up nothing itself. Driven by the hub's
//! collector.

use crate::clock::Mono;
use crate::event::Event;
use crate::plan::LoadPlan;

use super::Aggregate;
use super::command::{CommandAggregate, CommandPart};
use super::devices::{DeviceAggregate, DeviceFinals, DevicePart};
use super::load::{LoadAggregate, LoadPart};
use super::packages::{PackageAggregate, PackagePart};
use super::set::{SetAggregate, SetPart};

/// Applied on the collector's thread alone.
#[derive(Debug)]
pub struct Aggregates {
    /// `None`: nothing is to be sent.
    load: Option<LoadAggregate>,
    command: CommandAggregate,
    devices: DeviceAggregate,
    packages: PackageAggregate,
    set: SetAggregate,
}

/// A run at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Later events may change any of it, counts only upwards.
    pub provisional: bool,
    pub load: Option<LoadPart>,
    pub command: CommandPart,
    pub devices: DevicePart,
    pub packages: PackagePart,
    pub set: SetPart,
}

/// What only the end of a run tells.
#[derive(Debug, Clone, Default)]
pub struct Finals {
    pub devices: DeviceFinals,
}

impl Aggregates {
    #[must_use]
    pub fn new(load: Option<&LoadPlan>) -> Self {
        Self {
            load: load.map(LoadAggregate::new),
            command: CommandAggregate::default(),
            devices: DeviceAggregate::default(),
            packages: PackageAggregate::default(),
            set: SetAggregate::new(),
        }
    }
}

impl Aggregate for Aggregates {
    type Event = Event;
    type Part = Snapshot;
    type Finals = Finals;

    fn apply(&mut self, event: Event) {
        match event {
            Event::Load(event) => {
                if let Some(load) = &mut self.load {
                    load.apply(event);
                }
            }
            Event::Command(event) => self.command.apply(event),
            Event::Device(event) => self.devices.apply(event),
            Event::Package(event) => self.packages.apply(event),
            Event::Set(event) => self.set.apply(event),
        }
    }

    fn snapshot(&self, now: Mono) -> Snapshot {
        Snapshot {
            provisional: true,
            load: self.load.as_ref().map(|load| load.snapshot(now)),
            command: self.command.snapshot(now),
            devices: self.devices.snapshot(now),
            packages: self.packages.snapshot(now),
            set: self.set.snapshot(now),
        }
    }

    fn finish(self, finals: &Finals) -> Snapshot {
        Snapshot {
            provisional: false,
            load: self.load.map(|load| load.finish(&())),
            command: self.command.finish(&()),
            devices: self.devices.finish(&finals.devices),
            packages: self.packages.finish(&()),
            set: self.set.finish(&()),
        }
    }
}

#[cfg(test)]
mod tests;
