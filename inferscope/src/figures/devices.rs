//! The devices, as NVML described them.
//!
//! Owns each device's figures and their sums over the devices that the target uses. Never turns a refused query into
//! zero, and counts nothing of a device that the target does not use. Called by `report::build`; `verdict` judges what is here.

mod gauges;
mod gpm;
mod members;
mod rest;
mod span;
mod throttle;
mod total;
mod usage;

use std::collections::BTreeMap;

use crate::clock::Window;
use crate::event::{GpuDevice, GpuLog};
use crate::reason::{DeviceReason, EnergyReason};
use crate::units::Nanos;

use super::energy::{Energy, EnergyTable, Spent};
use super::stat::stat;

pub(crate) use gauges::{Gauges, Sampled};
pub(crate) use gpm::{Activity, Counters, activity};
pub(crate) use members::Members;
pub(crate) use rest::Rest;
pub(crate) use span::Span;
pub(crate) use throttle::reasons;
pub(crate) use total::{Total, total};
pub(crate) use usage::{DeviceUse, shared_with};

/// One device's figures over a span.
#[derive(Debug)]
pub(crate) struct Device<'a> {
    pub(crate) log: &'a GpuDevice,
    pub(crate) usage: DeviceUse,
    pub(crate) gauges: Gauges,
    pub(crate) counters: Counters,
    /// The target's processes' share of the device, in percent.
    pub(crate) target_sm_percent: Sampled,
    /// By the name of what held the clocks back.
    pub(crate) throttle: BTreeMap<&'static str, f64>,
    pub(crate) energy: Result<Spent, EnergyReason>,
    pub(crate) mean_power_mw: Option<f64>,
    pub(crate) rest: Rest,
    /// Millijoules a second.
    pub(crate) idle_power: Result<Energy, EnergyReason>,
    /// The energy without what the device would have used at rest.
    pub(crate) above_idle: Option<Energy>,
    /// How often its energy counter moves on.
    pub(crate) refresh: Option<Nanos>,
}

/// Without windows of a load: over the time of polling. None where devices were never polled.
pub(crate) fn devices<'a>(
    log: &'a GpuLog,
    load: &[Window],
    members: &Members,
    table: &EnergyTable<'a>,
) -> Vec<Device<'a>> {
    let Some(span) = Span::of(log, load) else { return Vec::new() };
    let of = |(place, device)| Device::new(Context { log, members, table, span: &span }, place, device);
    log.devices.iter().enumerate().map(of).collect()
}

/// What all devices share.
#[derive(Clone, Copy)]
struct Context<'c, 'a> {
    log: &'a GpuLog,
    members: &'c Members,
    table: &'c EnergyTable<'a>,
    span: &'c Span,
}

impl<'a> Device<'a> {
    fn new(context: Context<'_, 'a>, place: usize, device: &'a GpuDevice) -> Self {
        let Context { log, members, table, span } = context;
        let usage = usage::usage(device, members, span);
        let gauges = gauges::gauges(device, span);
        let energy = table.energy(place, &span.0);
        let rest = rest::rest(log, device);
        let idle_power = match &rest {
            Rest::Computing(what) => Err(EnergyReason::NotAtRest(what.clone())),
            _ => {
                log.baseline.ok_or(EnergyReason::NoRest).and_then(|rest| table.device(place).idle_power(rest))
            }
        };
        let seconds = span.seconds();
        let above_idle = energy.as_ref().ok().zip(idle_power.as_ref().ok()).map(|(spent, idle)| Energy {
            mj: idle.mj.mul_add(-seconds, spent.energy.mj),
            error_mj: idle.error_mj.mul_add(seconds, spent.energy.error_mj),
        });
        // Readings may miss what the counter holds; an energy that is known too roughly says less than they.
        let by_energy = energy.as_ref().ok().filter(|spent| spent.energy.is_known());
        let by_energy = by_energy.map(|spent| spent.energy.mj / seconds);
        let mean_power_mw = by_energy.or(gauges.power_mw.as_ref().ok().map(|power| power.mean));
        Self {
            log: device,
            target_sm_percent: target_sm_percent(&usage),
            usage,
            gauges,
            counters: gpm::counters(device, span),
            throttle: throttle::shares(device, span),
            energy,
            mean_power_mw,
            rest,
            idle_power,
            above_idle,
            refresh: table.device(place).refresh(),
        }
    }
}

fn target_sm_percent(usage: &DeviceUse) -> Sampled {
    match &usage.used {
        Ok(true) => stat(usage.target_sm.iter().copied()).ok_or(DeviceReason::NoShares),
        Ok(false) => Err(DeviceReason::NotUsed),
        Err(why) => Err(why.clone()),
    }
}

#[cfg(test)]
mod tests;
