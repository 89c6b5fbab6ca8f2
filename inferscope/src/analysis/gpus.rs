//! The devices, as NVML told.
//!
//! Owns each device's figures and their sums over the devices that the target uses. Never turns a refused query into
//! zero, and counts nothing of a device that the target does not use. Called by `analysis`.

mod counted;
mod counters;
mod doubts;
mod rest;
mod spent;
mod usage;

use std::collections::BTreeMap;

use crate::clock::{Mono, Origin};
use crate::event::{GpuDevice, GpuLog, GpuReading, Interruption, PowerPoint, PowerSource};
use crate::report::model;

use super::Inputs;
use super::energy::{Counter, Energy};
use super::joules::Joules;
use super::stat::{stat, unknown};
use super::window::Window;

pub(super) use counted::Counted;
pub(super) use counters::{Told, told};
pub(super) use doubts::doubts;
use rest::{Rest, rest};
pub(super) use spent::{ACCURACY, Readings, power};
use spent::{energy_of, idle_power};
pub(super) use usage::Members;
use usage::{DeviceUse, usage};

/// When the figures are of: the load's windows, else the whole time of polling but for a wait at rest and what followed
/// until a command ran.
#[derive(Debug, Clone)]
struct Span(Vec<Window>);

impl Span {
    fn of(log: &GpuLog, load: &[Window]) -> Option<Self> {
        if !load.is_empty() {
            return Some(Self(load.to_vec()));
        }
        let began = log.began.max(log.baseline.map(|(_, to)| to));
        log.polled.map(|(from, to)| Self(vec![Window { from: from.max(began.unwrap_or(from)), to }]))
    }

    fn holds(&self, t: Mono) -> bool {
        self.0.iter().any(|w| (w.from..=w.to).contains(&t))
    }

    /// Whether any of it lies in that stretch.
    fn meets(&self, from: Mono, to: Mono) -> bool {
        self.0.iter().any(|w| from <= w.to && to >= w.from)
    }

    fn seconds(&self) -> f64 {
        self.0.iter().map(|w| w.length().as_secs_f64()).sum()
    }
}

pub(super) fn gpus(inputs: &Inputs<'_>, load: &[Window], members: &Members) -> Vec<model::Gpu> {
    let log = inputs.gpu;
    let Some(span) = Span::of(log, load) else { return Vec::new() };
    let one = |d| gpu(inputs.origin, log, d, members, &span);
    log.devices.iter().map(one).collect()
}

fn gpu(origin: Origin, log: &GpuLog, device: &GpuDevice, members: &Members, span: &Span) -> model::Gpu {
    let usage = usage(origin, device, members, span);
    let why = |query: &str| why_not(device, query);
    let inside = || device.readings.iter().filter(|r| span.holds(r.t));
    let of = |query: &str, get: fn(&GpuReading) -> Option<f64>| stat(inside().filter_map(get), why(query));
    let whole = |query: &str, get: fn(&GpuReading) -> Option<u64>| stat(inside().filter_map(get), why(query));
    let power = energy_of(device, span);
    let read_power = power_stat(device, span, why("power_mw"));
    let rest = rest(log, device);
    let idle = match &rest {
        Rest::Computing(what) => Err(format!("the device was not at rest before the load: {what}")),
        _ => idle_power(log, device),
    };
    let above = power.as_ref().ok().zip(idle.as_ref().ok()).map(|(spent, idle)| {
        let seconds = span.seconds();
        Energy {
            mj: idle.mj.mul_add(-seconds, spent.energy.mj),
            error_mj: idle.error_mj.mul_add(seconds, spent.energy.error_mj),
        }
    });
    let mut samples: Vec<_> = device.readings.iter().map(|r| sample(origin, r)).collect();
    counters::place(origin, device, &mut samples);
    model::Gpu {
        index: device.index,
        uuid: device.uuid.clone(),
        name: device.name.clone(),
        driver: device.driver.clone(),
        mig: device.mig.map(|m| model::MigInstance {
            gpu_instance: m.gpu_instance,
            compute_instance: m.compute_instance,
        }),
        mig_parent: device.mig_parent,
        lost_ns: device.lost.as_ref().map(|lost| origin.at(lost.from).0),
        lost_reason: device.lost.as_ref().map(|lost| lost.words.clone()),
        interruptions: device.interruptions.iter().filter_map(|i| interruption(origin, i)).collect(),
        capabilities: capabilities(device),
        failed_queries: device
            .failed
            .iter()
            .map(|(name, (count, reason))| {
                (name.clone(), model::FailedQuery { count: *count, reason: reason.clone() })
            })
            .collect(),
        dropped_values: device.insane.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        limits: model::GpuLimits {
            power_mw: device.power_limit_mw,
            memory_bytes: device.memory_total_bytes,
            sm_clock_mhz: device.sm_clock_max_mhz,
        },
        samples,
        driver_samples: model::DriverSamples {
            power: device.power_sampled.iter().map(|p| (origin.at(p.t).0, p.mw)).collect(),
            sm: device.sm_samples.iter().map(|(t, v)| (origin.at(*t).0, *v)).collect(),
            clock_error_ns: device.sample_clock_error.map(|n| n.0),
        },
        sm_percent: of("sm_percent", |r| r.sm_percent.map(f64::from)),
        memory_percent: of("sm_percent", |r| r.memory_percent.map(f64::from)),
        counters: counters::counters(device, span),
        power_source: device.power_source.map(|source| match source {
            PowerSource::Instant => "instant".to_owned(),
            PowerSource::Average => "average".to_owned(),
        }),
        memory_used_bytes: whole("memory_used_bytes", |r| r.memory_used_bytes),
        temperature_c: whole("temperature_c", |r| r.temperature_c.map(u64::from)),
        sm_clock_mhz: whole("sm_clock_mhz", |r| r.sm_clock_mhz.map(u64::from)),
        pcie_tx_kb_per_s: whole("pcie_tx_kb_per_s", |r| r.pcie_tx_kb_per_s.map(u64::from)),
        pcie_rx_kb_per_s: whole("pcie_rx_kb_per_s", |r| r.pcie_rx_kb_per_s.map(u64::from)),
        nvlink_tx_kib_per_s: rate(device, span, |r| r.nvlink_tx_kib),
        nvlink_rx_kib_per_s: rate(device, span, |r| r.nvlink_rx_kib),
        throttle: throttle(device, span),
        energy_refresh_ns: Counter::of(&device.energy).refresh().map(|n| n.0),
        mean_power_mw: mean_power(power.as_ref().ok().map(|p| p.energy), span).or(read_power.mean),
        power_mw: read_power,
        energy_mj: power.as_ref().ok().map(|p| p.energy.whole_mj()),
        energy_error_mj: power.as_ref().ok().map(|p| p.energy.whole_error_mj()),
        energy_source: power.as_ref().ok().map(|p| p.source.to_owned()),
        energy_reason: power.err(),
        at_rest: match rest {
            Rest::Unknown => None,
            Rest::Idle => Some(true),
            Rest::Computing(_) => Some(false),
        },
        idle_power_mw: idle.as_ref().ok().map(|i| i.whole_mj()),
        idle_power_reason: idle.err(),
        energy_above_idle_mj: above.map(Energy::whole_mj),
        energy_above_idle_error_mj: above.map(Energy::whole_error_mj),
        ..of_usage(usage)
    }
}

/// Why there is no reading of it.
fn why_not<'a>(device: &'a GpuDevice, query: &str) -> &'a str {
    let refused = device.refused.get(query).or_else(|| device.refused.get("device"));
    refused.map_or("it was not told within the window", String::as_str)
}

fn of_usage(usage: DeviceUse) -> model::Gpu {
    let untold = usage.reason.as_deref().unwrap_or("the driver tells no process's share of the device");
    model::Gpu {
        target_sm_percent: match usage.used {
            Some(true) => stat(usage.target_sm.iter().copied(), untold),
            _ => unknown(usage.reason.as_deref().unwrap_or("the target does not use it")),
        },
        used_by_target: usage.used,
        used_by_target_reason: usage.reason,
        processes: usage.processes,
        target_memory_bytes: usage.target_bytes,
        other_memory_bytes: usage.other_bytes,
        unattributed_memory_bytes: usage.unattributed_bytes,
        target_memory_reason: usage.memory_reason,
        shared_with: usage.shared_with,
        ..model::Gpu::default()
    }
}

/// Readings may miss what the counter holds; an energy that is known too roughly says less than they.
fn mean_power(energy: Option<Energy>, span: &Span) -> Option<f64> {
    let energy = energy.filter(|energy| Joules::of(*energy).is_known())?;
    Some(energy.mj / span.seconds())
}

/// The driver's own samples where the window holds more of them.
fn power_stat(device: &GpuDevice, span: &Span, why: &str) -> model::Stat<u64> {
    let within = |points: &[PowerPoint]| -> Vec<u64> {
        let inside = points.iter().filter(|p| span.holds(p.t));
        inside.map(|p| p.mw).collect()
    };
    let (polled, sampled) = (within(&device.power), within(&device.power_sampled));
    stat(if sampled.len() > polled.len() { sampled } else { polled }, why)
}

/// Of a counter, between the first and the last reading in each window.
fn rate(device: &GpuDevice, span: &Span, get: fn(&GpuReading) -> Option<u64>) -> Option<f64> {
    let (mut grown, mut seconds) = (0, 0.0);
    for window in &span.0 {
        // A counter may have begun anew in between.
        device.unbroken(window.from, window.to).ok()?;
        let inside = device.readings.iter().filter(|r| (window.from..=window.to).contains(&r.t));
        let told: Vec<_> = inside.filter_map(|r| Some((r.t, get(r)?))).collect();
        let (first, last) = (told.first()?, told.last()?);
        seconds += last.0.since(first.0).as_secs_f64();
        grown += last.1.checked_sub(first.1)?;
    }
    (seconds > 0.0).then(|| grown as f64 / seconds)
}

/// nvml.h, `nvmlClocksEventReason…`
const REASONS: [(u64, &str); 11] = [
    (0x1, "gpu_idle"),
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
    (0x200, "board_limit"),
    (0x400, "reliability"),
];

fn reasons(mask: u64) -> impl Iterator<Item = &'static str> {
    REASONS.into_iter().filter(move |(bit, _)| mask & bit != 0).map(|(_, name)| name)
}

fn throttle(device: &GpuDevice, span: &Span) -> BTreeMap<String, f64> {
    let inside = device.readings.iter().filter(|r| span.holds(r.t));
    let masks: Vec<u64> = inside.filter_map(|r| r.throttle).collect();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for name in masks.iter().flat_map(|mask| reasons(*mask)) {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().map(|(name, n)| (name.to_owned(), f64::from(n) / masks.len() as f64)).collect()
}

fn interruption(origin: Origin, away: &Interruption) -> Option<model::Interruption> {
    let (from_ns, to_ns) = (origin.at(away.from).0, origin.at(away.to?).0);
    Some(model::Interruption { from_ns, to_ns, reason: away.words.clone() })
}

fn sample(origin: Origin, r: &GpuReading) -> model::GpuSample {
    model::GpuSample {
        t_ns: origin.at(r.t).0,
        memory_used_bytes: r.memory_used_bytes,
        sm_percent: r.sm_percent,
        memory_percent: r.memory_percent,
        power_mw: r.power_mw,
        temperature_c: r.temperature_c,
        sm_clock_mhz: r.sm_clock_mhz,
        throttle: r.throttle.map(|mask| reasons(mask).map(str::to_owned).collect()),
        counters: model::CounterSample::default(),
    }
}

/// `ok` for what the device answers, NVML's words for what it refuses.
fn capabilities(device: &GpuDevice) -> BTreeMap<String, String> {
    let ok = device.answered.iter().map(|name| ((*name).to_owned(), "ok".to_owned()));
    ok.chain(device.refused.clone()).collect()
}

/// The devices that the target uses, together.
pub(super) fn summary(
    inputs: &Inputs<'_>,
    gpus: &[model::Gpu],
    members: &Members,
) -> Option<model::GpuSummary> {
    if gpus.is_empty() {
        return None;
    }
    let log = inputs.gpu;
    let poll = model::GpuPoll {
        ticks: log.cost.ticks,
        calls: log.cost.calls,
        cpu_ns: log.cost.cpu.0,
        call_ns: log.cost.in_calls.0,
        hanging_call: log.hangs.as_ref().map(|(call, _)| call.clone()),
        hanging_since_ns: log.hangs.as_ref().map(|(_, since)| inputs.origin.at(*since).0),
        slowest_call: log.cost.slowest.as_ref().map(|(name, _)| name.clone()),
        slowest_call_ns: log.cost.slowest.as_ref().map(|(_, time)| time.0),
    };
    let roots = &inputs.target.roots;
    let theirs = log
        .visible_devices
        .iter()
        .filter(|(pid, _)| roots.contains(pid) || members.ever_had(**pid))
        .map(|(pid, value)| (*pid, value.clone()));
    let base = model::GpuSummary { poll, cuda_visible_devices: theirs.collect(), ..Default::default() };
    let devices = match counted::devices(inputs, gpus) {
        Ok(devices) => devices,
        Err(reason) => return Some(model::GpuSummary { reason: Some(reason), ..base }),
    };
    let used: Vec<&model::Gpu> = devices.iter().map(|i| &gpus[*i]).collect();
    let sum = |get: fn(&model::Gpu) -> Option<u64>| {
        used.iter().try_fold(0_u64, |sum, g| Some(sum.saturating_add(get(g)?)))
    };
    let reason = used.iter().find_map(|g| Some(format!("device {}: {}", g.index, g.energy_reason.as_ref()?)));
    Some(model::GpuSummary {
        reason,
        target_memory_bytes: sum(|g| g.target_memory_bytes),
        memory_bytes: sum(|g| g.limits.memory_bytes),
        power_mw: used.iter().map(|g| g.mean_power_mw).sum(),
        energy_mj: sum(|g| g.energy_mj),
        energy_error_mj: sum(|g| g.energy_error_mj),
        energy_above_idle_mj: sum(|g| g.energy_above_idle_mj),
        energy_above_idle_error_mj: sum(|g| g.energy_above_idle_error_mj),
        devices,
        ..base
    })
}

#[cfg(test)]
mod tests;
