//! One device's readings, prepared to be asked for the energy of any window.
//!
//! Owns what bounds the device's counter, when it began anew unseen, and which readings of power belong together. Never sums
//! over devices. A part of `energy`.

use crate::clock::{Mono, Window};
use crate::event::{GpuDevice, PowerPoint, PowerSource, Query};
use crate::reason::EnergyReason;
use crate::units::Nanos;

use super::{AVERAGED_OVER, Counter, Energy, Kind, integrated};

/// No device uses more than this many times its limit, or the most that was read of it.
const MOST_OF_LIMIT: u64 = 2;
/// A counter's first step may be of this much time before its first reading.
const LONGEST_REFRESH: Nanos = Nanos::from_millis(500);

/// By which of its readings a device's energy is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Counter,
    /// The area under readings of power.
    Integrated,
}

/// Which readings of a device's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readings {
    Polled,
    /// By the driver itself.
    Sampled,
}

/// NVML's own word on its readings of power (nvml.h, `nvmlDeviceGetPowerUsage`): within 5%.
pub(crate) const ACCURACY: f64 = 0.05;

/// Readings of power that belong together.
pub(crate) struct Power<'a> {
    pub(crate) points: &'a [PowerPoint],
    /// Taken for averages where it can't be told.
    pub(crate) kind: Kind,
}

impl Power<'_> {
    /// # Errors
    /// They do not cover the window.
    pub(crate) fn energy(&self, window: Window) -> Result<Energy, EnergyReason> {
        let area = integrated(self.points, window, self.kind)?;
        Ok(Energy { error_mj: ACCURACY.mul_add(area.mj, area.error_mj), ..area })
    }

    /// At rest nothing draws what no reading shows.
    fn at_rest(self) -> Self {
        Self { kind: Kind { most_mw: None, ..self.kind }, ..self }
    }
}

/// A device with its counter.
pub(crate) struct Metered<'a> {
    pub(crate) device: &'a GpuDevice,
    counter: Result<Counter<'a>, EnergyReason>,
}

impl<'a> Metered<'a> {
    pub(crate) fn new(device: &'a GpuDevice) -> Self {
        let counter = match device.refused.get(&Query::Energy) {
            Some(reason) => Err(EnergyReason::NoCounter(reason.clone())),
            None => {
                let away = device.interruptions.iter().map(|away| away.from);
                let mut breaks: Vec<Mono> = away.chain(jumps(device)).collect();
                breaks.sort_unstable();
                // A reading beside the moment is no bound where the power was higher between two readings.
                let read = highest(device).map(|mw| mw.saturating_mul(MOST_OF_LIMIT));
                let most = device.power_limit_mw.max(read);
                Ok(Counter::broken(&device.energy, &breaks).drawing_at_most(most))
            }
        };
        Self { device, counter }
    }

    /// # Errors
    /// The device has none, or its counter is of more than it.
    pub(crate) fn counter(&self) -> Result<&Counter<'a>, EnergyReason> {
        self.is_whole()?;
        self.counter.as_ref().map_err(Clone::clone)
    }

    /// How often its counter moves on; `None` where that can't be told.
    pub(crate) fn refresh(&self) -> Option<Nanos> {
        self.counter.as_ref().ok()?.refresh()
    }

    /// # Errors
    /// It is a MIG instance: NVML's figures are of its device.
    pub(crate) fn is_whole(&self) -> Result<(), EnergyReason> {
        if self.device.mig.is_some() { Err(EnergyReason::OfTheWholeDevice) } else { Ok(()) }
    }

    /// From when to when around the window the device was there all along.
    ///
    /// # Errors
    /// It was away within the window.
    pub(crate) fn unbroken(&self, window: Window) -> Result<(Mono, Mono), EnergyReason> {
        let there = self.device.unbroken(window.from, window.to);
        there.map_err(|away| EnergyReason::DeviceAway(away.words.clone()))
    }

    /// The readings around the window, none from before or after the device was away. The first second after is of the time
    /// away, too, where they are averages.
    ///
    /// # Errors
    /// It was away within the window, or not all readings are there.
    pub(crate) fn power(&self, which: Readings, window: Window) -> Result<Power<'a>, EnergyReason> {
        let device = self.device;
        let (points, thinned, averaged) = match which {
            Readings::Polled => {
                let averaged = device.power_source != Some(PowerSource::Instant);
                (&device.power, device.power_thinned, averaged)
            }
            // What they are is not told: taken for averages like the query beside them.
            Readings::Sampled => (&device.power_sampled, device.power_sampled_thinned, true),
        };
        // The highest of neighbours stayed: their area would be too large.
        if thinned {
            return Err(EnergyReason::PowerThinned);
        }
        let (mut begin, end) = self.unbroken(window)?;
        if averaged && begin > Mono(0) {
            begin = begin.plus(AVERAGED_OVER);
        }
        let first = points.partition_point(|p| p.t < begin);
        let last = points.partition_point(|p| p.t < end).max(first);
        let sampled = device.power_sampled.iter().map(|p| p.mw).max();
        let kind = Kind { averaged, most_mw: device.power_limit_mw.max(sampled) };
        Ok(Power { points: &points[first..last], kind })
    }

    /// Milliwatts over the wait before the load. The error is that of the area, spread over the time.
    ///
    /// # Errors
    /// Neither readings nor the counter cover it.
    pub(crate) fn idle_power(&self, rest: Window) -> Result<Energy, EnergyReason> {
        let seconds = rest.length().as_secs_f64();
        let spent = self
            .power(Readings::Polled, rest)
            .and_then(|power| power.at_rest().energy(rest))
            .or_else(|_| self.counter.as_ref().map_err(Clone::clone)?.within(rest))
            .map_err(|_| EnergyReason::RestNotRead)?;
        Ok(Energy { mj: spent.mj / seconds, error_mj: spent.error_mj / seconds })
    }
}

/// The highest power that was polled.
pub(crate) fn highest(device: &GpuDevice) -> Option<u64> {
    device.power.iter().map(|p| p.mw).max()
}

/// When the counter rose by more than the device can have used since it moved on last: it began anew there, unseen and
/// higher than it was.
fn jumps(device: &GpuDevice) -> Vec<Mono> {
    let most_mw = device.power_limit_mw.max(highest(device)).map(|mw| mw.saturating_mul(MOST_OF_LIMIT));
    let Some(most_mw) = most_mw else { return Vec::new() };
    let mut moved = device.energy.first().map_or(Mono(0), |r| r.before);
    let mut all = Vec::new();
    for pair in device.energy.windows(2).filter(|pair| pair[1].mj > pair[0].mj) {
        let time = pair[1].after.since(moved) + LONGEST_REFRESH;
        if (pair[1].mj - pair[0].mj) as f64 > most_mw as f64 * time.as_secs_f64() {
            all.push(Mono(u64::midpoint(pair[0].after.0, pair[1].before.0)));
        }
        moved = pair[1].before;
    }
    all
}
