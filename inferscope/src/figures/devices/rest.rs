//! Whether a device was at rest in the wait before the load.
//!
//! Owns the rule: what a device draws while anything computes on it is not what it draws at rest. A part of `devices`.

use crate::event::{GpuDevice, GpuLog};
use crate::reason::Computing;

/// Of the time, or of the device. A display, a monitor, a server's heartbeat stay below.
const LITTLE_PERCENT: f64 = 5.0;
/// Of its limit: no device draws so much for nothing.
const MUCH_POWER: f64 = 0.7;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rest {
    /// There was no wait, or nothing was told in it.
    Unknown,
    Idle,
    /// What was seen.
    Computing(Computing),
}

pub(super) fn rest(log: &GpuLog, device: &GpuDevice) -> Rest {
    let Some(window) = log.baseline else { return Rest::Unknown };
    let inside = || device.readings.iter().filter(|r| window.holds(r.t));
    let sm = mean(inside().filter_map(|r| r.sm_percent).map(f64::from));
    if let Some(sm) = sm.filter(|sm| *sm > LITTLE_PERCENT) {
        return Rest::Computing(Computing::Kernels(sm));
    }
    let mut used = device.process_use.iter().filter(|u| window.holds(u.t));
    if let Some(used) = used.find(|u| f64::from(u.sm_percent) > LITTLE_PERCENT) {
        return Rest::Computing(Computing::Process { pid: used.pid, percent: used.sm_percent });
    }
    let power = mean(device.power.iter().filter(|p| window.holds(p.t)).map(|p| p.mw as f64));
    let share = power.zip(device.power_limit_mw.filter(|mw| *mw > 0)).map(|(mw, limit)| mw / limit as f64);
    if let Some(share) = share.filter(|share| *share > MUCH_POWER) {
        return Rest::Computing(Computing::Power(share * 100.0));
    }
    // Much power proves work; little proves no rest.
    if sm.is_some() { Rest::Idle } else { Rest::Unknown }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
