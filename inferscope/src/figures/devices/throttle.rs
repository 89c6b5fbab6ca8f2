//! What held a device's clocks back.
//!
//! Owns the names of NVML's bits and their shares of the readings. A part of `devices`.

use std::collections::BTreeMap;

use crate::event::GpuDevice;

use super::Span;

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

/// The names of the bits that are set.
pub(crate) fn reasons(mask: u64) -> impl Iterator<Item = &'static str> {
    REASONS.into_iter().filter(move |(bit, _)| mask & bit != 0).map(|(_, name)| name)
}

/// The share of the readings in which each held the clocks back.
pub(super) fn shares(device: &GpuDevice, span: &Span) -> BTreeMap<&'static str, f64> {
    let inside = device.readings.iter().filter(|r| span.holds(r.t));
    let masks: Vec<u64> = inside.filter_map(|r| r.throttle).collect();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for name in masks.iter().flat_map(|mask| reasons(*mask)) {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().map(|(name, n)| (name, f64::from(n) / masks.len() as f64)).collect()
}
