//! From a device's readings to the energy of any windows.
//!
//! Owns which way a device's energy is told. The load's figures and those of a sweep's steps come from here. A part of
//! `gpus`.

use crate::clock::Mono;
use crate::event::{GpuDevice, GpuLog, PowerPoint, PowerSource};
use crate::units::Nanos;

use super::super::energy::{self, Counter, Energy};
use super::super::window::Window;
use super::Span;

/// No device uses more than this many times its limit, or the most that was read of it.
const MOST_OF_LIMIT: u64 = 2;
/// A counter's first step may be of this much time before its first reading.
const LONGEST_REFRESH: Nanos = Nanos::from_millis(500);

pub(super) struct Spent {
    pub(super) energy: Energy,
    pub(super) source: &'static str,
}

/// Why a device's own figures are none of an instance's.
pub(super) const OF_THE_WHOLE: &str =
    "the driver tells the energy of the whole device, not of a MIG instance";

/// Of the device, or why it has none.
pub(super) fn counter(device: &GpuDevice) -> Result<Counter<'_>, String> {
    match device.refused.get("energy_mj") {
        Some(reason) => Err(format!("it has no energy counter ({reason})")),
        None => {
            let away = device.interruptions.iter().map(|away| away.from);
            let mut breaks: Vec<Mono> = away.chain(jumps(device)).collect();
            breaks.sort_unstable();
            // Right beside a moment. What was read is no bound where there is one: a burst between two readings was not.
            let read = device.power.iter().map(|p| p.mw).max().map(|mw| mw.saturating_mul(MOST_OF_LIMIT));
            let most = device.power_limit_mw.max(read);
            Ok(Counter::broken(&device.energy, &breaks).drawing_at_most(most))
        }
    }
}

/// What a device draws no more of, as its limit or the most that was read of it tells.
fn most_mw(device: &GpuDevice) -> Option<u64> {
    let read = device.power.iter().map(|p| p.mw).max();
    device.power_limit_mw.max(read).map(|mw| mw.saturating_mul(MOST_OF_LIMIT))
}

/// When the counter rose by more than the device can have used since it moved on last: it began anew there, unseen and
/// higher than it was.
fn jumps(device: &GpuDevice) -> Vec<Mono> {
    let Some(most_mw) = most_mw(device) else { return Vec::new() };
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

/// The counter's difference; where there is none, the area under whichever readings of power tell it best.
pub(super) fn energy_of(device: &GpuDevice, span: &Span) -> Result<Spent, String> {
    if device.mig.is_some() {
        return Err(OF_THE_WHOLE.to_owned());
    }
    there_in(device, &span.0)?;
    let counted = counter(device).and_then(|c| over(span, |w| c.between(w.from, w.to)));
    let why_not = match counted {
        Ok(energy) => return Ok(Spent { energy, source: "counter" }),
        Err(why) => why,
    };
    let tried: Vec<Result<Energy, String>> = [Readings::Polled, Readings::Sampled]
        .into_iter()
        .map(|which| over(span, |w| power(device, which, w)?.energy(w)))
        .collect();
    let best = tried.iter().flatten().copied().min_by(|a, b| a.error_mj.total_cmp(&b.error_mj));
    let why = || format!("{why_not}; {}", tried[0].as_ref().err().map_or("", String::as_str));
    best.map(|energy| Spent { energy, source: "integrated" }).ok_or_else(why)
}

/// # Errors
/// In words: the device was away within one of the windows.
pub(super) fn there_in(device: &GpuDevice, windows: &[Window]) -> Result<(), String> {
    windows.iter().try_for_each(|window| unbroken(device, window).map(drop))
}

fn unbroken(device: &GpuDevice, window: &Window) -> Result<(Mono, Mono), String> {
    let there = device.unbroken(window.from, window.to);
    there.map_err(|away| format!("the device was away in that time ({})", away.words))
}

/// Which readings of a device's power.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::analysis) enum Readings {
    Polled,
    /// By the driver itself.
    Sampled,
}

/// NVML's own word on its readings of power (nvml.h, `nvmlDeviceGetPowerUsage`): within 5%.
pub(in crate::analysis) const ACCURACY: f64 = 0.05;

/// Readings of power that belong together.
pub(in crate::analysis) struct Power<'a> {
    pub(in crate::analysis) points: &'a [PowerPoint],
    /// Taken for averages where it can't be told.
    pub(in crate::analysis) kind: energy::Kind,
}

impl Power<'_> {
    /// # Errors
    /// In words: they do not cover the window.
    pub(in crate::analysis) fn energy(&self, window: &Window) -> Result<Energy, String> {
        let area = energy::integrated(self.points, window.from, window.to, self.kind)?;
        Ok(Energy { error_mj: ACCURACY.mul_add(area.mj, area.error_mj), ..area })
    }

    /// At rest nothing draws what no reading shows.
    fn at_rest(self) -> Self {
        Self { kind: energy::Kind { most_mw: None, ..self.kind }, ..self }
    }
}

/// The readings around the window, none from before or after the device was away. The first second after is of the time
/// away, too, where they are averages.
///
/// # Errors
/// In words: it was away within the window, or not all readings are there.
pub(in crate::analysis) fn power<'a>(
    device: &'a GpuDevice,
    which: Readings,
    window: &Window,
) -> Result<Power<'a>, String> {
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
        return Err("power was read more often than is kept".to_owned());
    }
    let (mut begin, end) = unbroken(device, window)?;
    if averaged && begin > Mono(0) {
        begin = begin.plus(energy::AVERAGED_OVER);
    }
    let first = points.partition_point(|p| p.t < begin);
    let last = points.partition_point(|p| p.t < end).max(first);
    let read = device.power_sampled.iter().map(|p| p.mw).max();
    let kind = energy::Kind { averaged, most_mw: device.power_limit_mw.max(read) };
    Ok(Power { points: &points[first..last], kind })
}

/// The sum over all windows.
fn over(span: &Span, of: impl Fn(&Window) -> Result<Energy, String>) -> Result<Energy, String> {
    span.0.iter().map(of).try_fold(Energy::NONE, |sum, energy| Ok(sum.plus(energy?)))
}

/// Milliwatts over the wait before the load. Its error is that of the area, spread over the time.
pub(super) fn idle_power(log: &GpuLog, device: &GpuDevice) -> Result<Energy, String> {
    let (from, to) = log.baseline.ok_or("power at rest was not sampled")?;
    let window = Window { from, to };
    let seconds = window.length().as_secs_f64();
    let spent = power(device, Readings::Polled, &window)
        .and_then(|power| power.at_rest().energy(&window))
        .or_else(|_| counter(device)?.between(from, to))
        .map_err(|_| "power was not read over the whole wait before the load".to_owned())?;
    Ok(Energy { mj: spent.mj / seconds, error_mj: spent.error_mj / seconds })
}
