//! One device's series.
//!
//! A part of `devices`.

use crate::bounded_series::BoundedSeries;
use crate::clock::Mono;
use crate::event::{
    DeviceAnswer, DeviceIdentity, EnergyReading, GpmWindow, GpuDevice, GpuReading, Interruption, PowerPoint,
    ProcessLook, ProcessUse, SampledByDriver,
};

use super::LiveDevice;

/// An hour at 50 ms; beyond, neighbours are merged.
const MAX_READINGS: usize = 72_000;
/// An hour and more of GPM's windows, 4.5 MB.
const MAX_WINDOWS: usize = 20_000;
/// Changes of the process list that are kept.
const MAX_LOOKS: usize = 20_000;
/// A device that comes and goes more often is taken for away in between.
const MAX_INTERRUPTIONS: usize = 1_000;

#[derive(Debug, Clone)]
pub(super) struct DeviceSeries {
    /// Without what is in the fields below.
    log: GpuDevice,
    readings: BoundedSeries<GpuReading>,
    power: BoundedSeries<PowerPoint>,
    power_sampled: BoundedSeries<PowerPoint>,
    sm_samples: BoundedSeries<(Mono, u32)>,
    energy: BoundedSeries<EnergyReading>,
    process_use: BoundedSeries<ProcessUse>,
    gpm: BoundedSeries<GpmWindow>,
    looks: u64,
    latest: Option<GpuReading>,
    latest_power: Option<PowerPoint>,
}

impl DeviceSeries {
    pub(super) fn new(identity: &DeviceIdentity) -> Self {
        let mut series = Self {
            log: GpuDevice::default(),
            readings: BoundedSeries::new(MAX_READINGS, |a, b| a.memory_used_bytes > b.memory_used_bytes),
            power: BoundedSeries::new(MAX_READINGS, |a, b| a.mw > b.mw),
            power_sampled: BoundedSeries::new(MAX_READINGS, |a, b| a.mw > b.mw),
            sm_samples: BoundedSeries::new(MAX_READINGS, |a, b| a.1 > b.1),
            // Any two of them tell the same, so the later is kept.
            energy: BoundedSeries::new(MAX_READINGS, |a, b| a.before > b.before),
            process_use: BoundedSeries::new(MAX_READINGS, |a, b| a.sm_percent > b.sm_percent),
            // Whatever they say, so that what is kept stands for all.
            gpm: BoundedSeries::new(MAX_WINDOWS, |a, b| a.from > b.from),
            looks: 0,
            latest: None,
            latest_power: None,
        };
        series.identify(identity.clone());
        series
    }

    fn identify(&mut self, identity: DeviceIdentity) {
        self.log = GpuDevice {
            index: identity.index,
            uuid: identity.uuid,
            name: identity.name,
            driver: identity.driver,
            mig: identity.mig,
            mig_parent: identity.mig_parent,
            power_limit_mw: identity.power_limit_mw,
            sm_clock_max_mhz: identity.sm_clock_max_mhz,
            power_source: identity.power_source,
            ..std::mem::take(&mut self.log)
        };
    }

    pub(super) fn apply(&mut self, answer: &DeviceAnswer) {
        match answer {
            DeviceAnswer::Identity(identity) => self.identify((**identity).clone()),
            DeviceAnswer::Reading(reading) => {
                self.looks += 1;
                self.latest = Some(**reading);
                self.readings.push(**reading);
            }
            DeviceAnswer::Power(point) => {
                self.latest_power = Some(*point);
                self.power.push(*point);
            }
            DeviceAnswer::Energy(reading) => self.energy.push(*reading),
            DeviceAnswer::Memory(memory) => {
                self.log.memory_total_bytes = Some(memory.total_bytes);
                self.log.memory_reserved_bytes =
                    memory.reserved_bytes.filter(|bytes| *bytes <= memory.total_bytes);
                self.log.used_includes_reserved = memory.reserved_bytes.is_none();
            }
            DeviceAnswer::Processes { look, wide } => {
                self.log.wide_processes = *wide;
                self.look(look);
            }
            DeviceAnswer::Gpm(window) => self.gpm.push(**window),
            DeviceAnswer::DriverSamples(samples) => self.sampled(samples),
            DeviceAnswer::Implausible { what, count } => self.implausible(what, *count),
            DeviceAnswer::Answers(query) => self.log.answered.push(*query),
            DeviceAnswer::Refuses(query, words) => {
                self.log.answered.retain(|answered| answered != query);
                self.log.refused.entry(*query).or_insert_with(|| words.clone());
            }
            DeviceAnswer::Failed(query, words) => {
                let failed = self.log.failed.entry(*query).or_default();
                failed.0 += 1;
                failed.1.clone_from(words);
            }
            DeviceAnswer::Away { since, words } => {
                let away = Interruption { from: *since, to: None, words: words.clone() };
                // It is away since the first moment; the newest words tell best what is to be done.
                self.log.lost.get_or_insert(away).words.clone_from(words);
            }
            DeviceAnswer::Back { at } => self.back(*at),
        }
    }

    /// Only what differs from the look before is kept.
    fn look(&mut self, look: &ProcessLook) {
        self.log.processes_known = true;
        if self.log.processes.last().is_some_and(|last| last.all == look.all) {
            return;
        }
        if self.log.processes.len() < MAX_LOOKS {
            self.log.processes.push(look.clone());
        } else {
            self.implausible("process_list_full", 1);
        }
    }

    fn implausible(&mut self, what: &'static str, count: u64) {
        *self.log.insane.entry(what).or_default() += count;
    }

    fn sampled(&mut self, samples: &SampledByDriver) {
        samples.power.iter().for_each(|point| self.power_sampled.push(*point));
        samples.sm.iter().for_each(|sample| self.sm_samples.push(*sample));
        samples.process_use.iter().for_each(|used| self.process_use.push(*used));
        self.log.sample_clock_error = samples.clock_error;
        if samples.unmapped > 0 {
            self.log.insane.insert("stamp_of_no_known_clock", samples.unmapped);
        }
    }

    fn back(&mut self, at: Mono) {
        let Some(away) = self.log.lost.take() else { return };
        let is_full = self.log.interruptions.len() >= MAX_INTERRUPTIONS;
        match self.log.interruptions.last_mut().filter(|_| is_full) {
            Some(last) => last.to = Some(at),
            None => self.log.interruptions.push(Interruption { to: Some(at), ..away }),
        }
    }

    pub(super) fn live(&self) -> LiveDevice {
        LiveDevice {
            index: self.log.index,
            name: self.log.name.clone(),
            looks: self.looks,
            reading: self.latest,
            power: self.latest_power,
            is_away: self.log.lost.is_some(),
        }
    }

    pub(super) fn into_log(self) -> GpuDevice {
        let (power, power_dropped) = self.power.finish(None);
        let (power_sampled, sampled_dropped) = self.power_sampled.finish(None);
        let (gpm, gpm_dropped) = self.gpm.finish(None);
        GpuDevice {
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
            ..self.log
        }
    }
}
