//! What the devices answer at one moment.
//!
//! Owns what is derived from the curves: averages, the counter with its refreshes, samples, lists of processes. Called by
//! the exported functions.

use std::ffi::{c_uint, c_ulonglong};

use crate::abi::{
    self, Code, FieldValue, ProcessR535, ProcessUtilization, ProcessV1, ProcessV2, Sample, Value,
};
use crate::driver::{Asked, Now};
use crate::scenario::{Curve, Device, Process};

/// Total, reserved and used bytes.
pub(crate) fn memory(asked: &Asked) -> Result<(u64, u64, u64), Code> {
    let device = asked.device;
    let total = device.memory_total.ok_or(abi::NOT_SUPPORTED)?;
    let used = device.memory_used.as_ref().ok_or(abi::NOT_SUPPORTED)?;
    Ok((total, device.memory_reserved, asked.driver.at(used, asked.driver.now()).round() as u64))
}

/// The mean over the last `average_ms`; of the moment where that is 0.
pub(crate) fn power_mw(asked: &Asked, average_ms: f64) -> Result<u64, Code> {
    let curve = asked.device.power_mw.as_ref().ok_or(abi::NOT_SUPPORTED)?;
    let (driver, now) = (asked.driver, asked.driver.now());
    if average_ms <= 0.0 {
        return Ok(driver.at(curve, now).round() as u64);
    }
    let area = driver.since_base(curve, now) - driver.since_base(curve, Now(now.0 - average_ms));
    Ok((area / average_ms * 1e3).round() as u64)
}

/// As it stood at its last refresh.
pub(crate) fn energy_mj(asked: &Asked) -> Result<u64, Code> {
    let device = asked.device;
    let (Some(energy), Some(power)) = (&device.energy, &device.power_mw) else {
        return Err(abi::NOT_SUPPORTED);
    };
    let driver = asked.driver;
    if let Some(recorded) = &energy.recorded {
        return Ok(driver.at(recorded, driver.now()) as u64);
    }
    let at = Now((driver.now().0 / energy.refresh_ms).floor() * energy.refresh_ms);
    let total = driver.since_base(power, at);
    let curve_ms = driver.curve_ms(at);
    let value = match energy.reset_ms {
        Some(reset) if curve_ms >= reset => {
            energy.reset_to_mj + total - driver.since_base(power, Now(at.0 - (curve_ms - reset)))
        }
        _ => energy.start_mj + total,
    };
    Ok(value.round() as u64)
}

pub(crate) fn field(asked: &Asked, field: c_uint, scope: c_uint) -> FieldValue {
    let device = asked.device;
    let now = asked.driver.now();
    // NVLink's fields are counters in KiB, of all links together only.
    let counted = |curve: &Option<Curve>| {
        let curve = curve.as_ref().filter(|_| scope == c_uint::MAX).ok_or(abi::NOT_SUPPORTED)?;
        Ok(asked.driver.since_base(curve, now).round() as u64)
    };
    let bytes = |curve: &Option<Curve>| {
        let curve = curve.as_ref().filter(|_| device.pcie_counters).ok_or(abi::NOT_SUPPORTED)?;
        let bytes = (asked.driver.since_base(curve, now) * 1e3) as u64;
        Ok(if device.pcie_narrow { bytes & 0xffff_ffff } else { bytes })
    };
    let answer = match field {
        abi::FIELD_ENERGY => energy_mj(asked),
        abi::FIELD_POWER_INSTANT if device.power_instant => power_mw(asked, 0.0),
        abi::FIELD_POWER_AVERAGE if device.power_instant => power_mw(asked, device.power_average_ms),
        abi::FIELD_NVLINK_TX => counted(&device.nvlink_tx),
        abi::FIELD_NVLINK_RX => counted(&device.nvlink_rx),
        abi::FIELD_PCIE_TX => bytes(&device.pcie_tx),
        abi::FIELD_PCIE_RX => bytes(&device.pcie_rx),
        _ => Err(abi::NOT_SUPPORTED),
    };
    let is_pcie = matches!(field, abi::FIELD_PCIE_TX | abi::FIELD_PCIE_RX);
    let long = is_pcie && !device.pcie_narrow
        || matches!(field, abi::FIELD_ENERGY | abi::FIELD_NVLINK_TX | abi::FIELD_NVLINK_RX);
    FieldValue {
        field,
        scope,
        timestamp_us: asked.driver.stamp_us(now, false).cast_signed(),
        latency_us: 0,
        value_type: if long { abi::TYPE_UNSIGNED_LONG_LONG } else { abi::TYPE_UNSIGNED_INT },
        code: answer.err().unwrap_or(abi::SUCCESS),
        value: Value { ulonglong: answer.unwrap_or(0) },
    }
}

/// What the driver's buffer holds that is newer; each with its own time.
pub(crate) fn samples(asked: &Asked, kind: c_uint, last_seen_us: u64) -> Result<Vec<Sample>, Code> {
    let device = asked.device;
    let buffer = device.samples.as_ref().ok_or(abi::NOT_SUPPORTED)?;
    let curve: &Curve = match kind {
        0 => device.power_mw.as_ref(),
        1 => device.sm.as_ref(),
        2 => device.memory_busy.as_ref(),
        _ => None,
    }
    .ok_or(abi::NOT_SUPPORTED)?;
    // Utilisation is sampled as seldom as it is averaged.
    let every_ms = device.utilization_ms.filter(|_| kind != 0).unwrap_or(buffer.every_ms);
    let newest = (asked.driver.now().0 / every_ms).floor() as u64;
    let oldest = newest.saturating_sub(buffer.keep as u64 - 1);
    let all = (oldest..=newest).map(|n| Now(n as f64 * every_ms)).map(|at| Sample {
        timestamp_us: asked.driver.stamp_us(at, buffer.monotonic),
        value: Value { ulonglong: asked.driver.at(curve, at).round() as c_ulonglong },
    });
    let newer: Vec<Sample> = all.filter(|s| s.timestamp_us > last_seen_us).collect();
    if newer.is_empty() { Err(abi::NOT_FOUND) } else { Ok(newer) }
}

/// The processes that run now, as the device, or the instance of it, lists them.
fn running(asked: &Asked) -> Result<Vec<(u32, &'static Process)>, Code> {
    let device: &'static Device = asked.device;
    let t = asked.driver.curve_ms(asked.driver.now());
    let listed = device.processes.as_ref().ok_or(abi::NOT_SUPPORTED)?;
    let lives = |p: &&Process| p.from_ms.is_none_or(|from| t >= from) && p.to_ms.is_none_or(|to| t < to);
    Ok(listed.iter().filter(lives).filter_map(|p| Some((asked.driver.pid_of(p)?, p))).collect())
}

pub(crate) fn processes(asked: &Asked, graphics: bool) -> Result<Vec<ProcessV2>, Code> {
    let now = asked.driver.now();
    let listed = running(asked)?.into_iter().filter(|(_, p)| p.graphics == graphics);
    Ok(listed
        .map(|(pid, p)| ProcessV2 {
            pid,
            memory: p.memory.as_ref().map_or(abi::NOT_AVAILABLE, |m| asked.driver.at(m, now).round() as u64),
            gpu_instance: p.gpu_instance.unwrap_or(abi::NO_INSTANCE),
            compute_instance: p.compute_instance.unwrap_or(abi::NO_INSTANCE),
        })
        .collect())
}

/// One reading for each process since the last; `NOT_FOUND` where nothing is new, as drivers do.
pub(crate) fn utilization(asked: &Asked, last_seen_us: u64) -> Result<Vec<ProcessUtilization>, Code> {
    let every = asked.device.utilization_ms.ok_or(abi::NOT_SUPPORTED)?;
    let at = Now((asked.driver.now().0 / every).floor() * every);
    let timestamp_us = asked.driver.stamp_us(at, false);
    let all = running(asked)?;
    if all.is_empty() || timestamp_us <= last_seen_us {
        return Err(abi::NOT_FOUND);
    }
    // Before the curves begin nothing computes.
    let begun = asked.driver.curve_ms(at) >= 0.0;
    let sm = |p: &Process| if begun { p.sm } else { 0 };
    Ok(all
        .into_iter()
        .map(|(pid, p)| ProcessUtilization {
            pid,
            timestamp_us,
            sm: sm(p),
            memory: 0,
            encoder: 0,
            decoder: 0,
        })
        .collect())
}

impl From<ProcessV2> for ProcessV1 {
    fn from(p: ProcessV2) -> Self {
        Self { pid: p.pid, memory: p.memory }
    }
}

impl From<ProcessV2> for ProcessR535 {
    fn from(process: ProcessV2) -> Self {
        Self { process, protected_memory: 0 }
    }
}
