//! The energy of the CPU packages, while a run lasts.
//!
//! Owns the bounded series of readings of one counter, all packages together. Driven by the hub's collector.

use crate::bounded_series::BoundedSeries;
use crate::clock::Mono;
use crate::event::{CpuPackages, EnergyReading, PackageEvent};

use super::Aggregate;

/// An hour at 50 ms.
const MAX_READINGS: usize = 72_000;

#[derive(Debug, Clone)]
pub struct PackageAggregate {
    unavailable: Option<String>,
    readings: BoundedSeries<EnergyReading>,
    latest: Option<EnergyReading>,
}

/// As far as its events were applied.
#[derive(Debug, Clone, Default)]
pub struct PackagePart {
    pub latest: Option<EnergyReading>,
    /// After the last event only.
    pub log: Option<CpuPackages>,
}

impl Default for PackageAggregate {
    fn default() -> Self {
        // Any two of them tell the same, so the later is kept.
        let readings = BoundedSeries::new(MAX_READINGS, |a: &EnergyReading, b| a.before > b.before);
        Self { unavailable: None, readings, latest: None }
    }
}

impl Aggregate for PackageAggregate {
    type Event = PackageEvent;
    type Part = PackagePart;
    type Finals = ();

    fn apply(&mut self, event: PackageEvent) {
        match event {
            PackageEvent::Unavailable(why) => self.unavailable = Some(why),
            PackageEvent::Reading(reading) => {
                self.latest = Some(reading);
                self.readings.push(reading);
            }
        }
    }

    fn snapshot(&self, _now: Mono) -> PackagePart {
        PackagePart { latest: self.latest, log: None }
    }

    fn finish(self, _finals: &()) -> PackagePart {
        let log = CpuPackages { unavailable: self.unavailable, readings: self.readings.finish(None).0 };
        PackagePart { latest: self.latest, log: Some(log) }
    }
}
