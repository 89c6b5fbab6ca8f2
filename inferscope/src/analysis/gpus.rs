//! The devices, as NVML told.
//!
//! Owns which device the target uses and how a device's memory divides; thin until energy and
//! utilisation of processes are derived. Never turns a refused query into zero. Called by `analysis`.

use std::collections::{BTreeMap, HashSet};

use crate::clock::Origin;
use crate::event::{GpuDevice, GpuLog, GpuReading};
use crate::report::model;

use super::stat::stat;

pub(super) fn gpus(origin: Origin, log: &GpuLog, processes: &model::Processes) -> Vec<model::Gpu> {
    log.devices.iter().map(|d| gpu(origin, d, processes)).collect()
}

fn gpu(origin: Origin, device: &GpuDevice, processes: &model::Processes) -> model::Gpu {
    let usage = usage(device, processes);
    let of = |name: &str, get: fn(&GpuReading) -> Option<f64>| {
        let why = device.refused.get(name).map_or("the device never told", String::as_str);
        stat(device.readings.iter().filter_map(get), why)
    };
    model::Gpu {
        index: device.index,
        uuid: device.uuid.clone(),
        name: device.name.clone(),
        driver: device.driver.clone(),
        used_by_target: usage.used,
        used_by_target_reason: usage.reason,
        capabilities: capabilities(device),
        limits: model::GpuLimits { power_mw: device.power_limit_mw, memory_bytes: device.memory_total_bytes },
        samples: device.readings.iter().map(|r| sample(origin, r)).collect(),
        target_memory_bytes: usage.target_bytes,
        other_memory_bytes: usage.other_bytes,
        sm_percent: of("sm_percent", |r| r.sm_percent.map(f64::from)),
        power_mw: of("power_mw", |r| r.power_mw.map(|v| v as f64)),
        memory_used_bytes: of("memory_used_bytes", |r| r.memory_used_bytes.map(|v| v as f64)),
        temperature_c: of("temperature_c", |r| r.temperature_c.map(f64::from)),
        energy_mj: None,
        energy_source: None,
        idle_power_mw: None,
    }
}

const fn sample(origin: Origin, r: &GpuReading) -> model::GpuSample {
    model::GpuSample {
        t_ns: origin.at(r.t).0,
        memory_used_bytes: r.memory_used_bytes,
        sm_percent: r.sm_percent,
        memory_percent: r.memory_percent,
        power_mw: r.power_mw,
        temperature_c: r.temperature_c,
        sm_clock_mhz: r.sm_clock_mhz,
        throttle: None,
    }
}

/// `ok` for what any reading told, NVML's words for what the device refuses.
fn capabilities(device: &GpuDevice) -> BTreeMap<String, String> {
    type Told = fn(&GpuReading) -> bool;
    let told: [(&str, Told); 6] = [
        ("memory_used_bytes", |r| r.memory_used_bytes.is_some()),
        ("sm_percent", |r| r.sm_percent.is_some()),
        ("memory_percent", |r| r.memory_percent.is_some()),
        ("power_mw", |r| r.power_mw.is_some()),
        ("temperature_c", |r| r.temperature_c.is_some()),
        ("sm_clock_mhz", |r| r.sm_clock_mhz.is_some()),
    ];
    let mut all: BTreeMap<String, String> = told
        .into_iter()
        .filter(|(_, told)| device.readings.iter().any(told))
        .map(|(name, _)| (name.to_owned(), "ok".to_owned()))
        .collect();
    all.extend(device.refused.clone());
    all
}

struct Usage {
    used: Option<bool>,
    reason: Option<String>,
    target_bytes: Option<u64>,
    other_bytes: Option<u64>,
}

/// NVML knows processes by their pid in the initial namespace, so only a known host pid can match.
fn usage(device: &GpuDevice, processes: &model::Processes) -> Usage {
    let unknown =
        |why: &str| Usage { used: None, reason: Some(why.to_owned()), target_bytes: None, other_bytes: None };
    if !device.processes_known {
        return unknown("the device does not tell which processes use it");
    }
    if processes.tracker == model::Tracker::None {
        return unknown("there is no target");
    }
    let hosts: HashSet<u32> = processes.list.iter().filter_map(|p| p.host_pid).collect();
    let is_target = |pid: &u32| hosts.contains(pid);
    let used = device.process_memory.keys().any(is_target);
    // Not found is "not used" only where every process could have been found.
    if !used && (!processes.complete || processes.list.iter().any(|p| p.host_pid.is_none())) {
        return unknown("not every process of the target is known by its host pid");
    }
    let sum = |ours: bool| {
        let of = device.process_memory.iter().filter(|(pid, _)| is_target(pid) == ours);
        of.map(|(_, bytes)| *bytes).try_fold(0u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
    };
    Usage { used: Some(used), reason: None, target_bytes: sum(true), other_bytes: sum(false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{Fixture, ORIGIN, ObservationBuilder, ProcessBuilder, ms};

    fn reading(sm: Option<u32>, power: Option<u64>) -> GpuReading {
        GpuReading {
            t: ms(100),
            memory_used_bytes: None,
            sm_percent: sm,
            memory_percent: None,
            power_mw: power,
            temperature_c: None,
            sm_clock_mhz: None,
        }
    }

    fn target(host_pid: Option<u32>) -> model::Processes {
        let mut o = ObservationBuilder::new().processes(vec![ProcessBuilder::new(10, 1, "server")]).build();
        o.processes[0].host_pid = host_pid;
        Fixture { observation: Some(o), ..Fixture::profile() }.with(crate::analysis::processes::processes)
    }

    fn device(processes: &[(u32, Option<u64>)]) -> GpuDevice {
        GpuDevice {
            process_memory: processes.iter().copied().collect(),
            processes_known: true,
            ..GpuDevice::default()
        }
    }

    #[test]
    fn a_refused_query_is_null_with_nvmls_words() {
        let mut d = device(&[]);
        d.readings = vec![reading(Some(40), None), reading(Some(60), None)];
        d.refused.insert("power_mw".into(), "Not Supported".into());
        let g = gpu(ORIGIN, &d, &target(Some(10)));
        assert_eq!((g.sm_percent.mean, g.power_mw.mean), (Some(50.0), None));
        assert_eq!(g.power_mw.reason.as_deref(), Some("Not Supported"));
        assert_eq!(g.capabilities["power_mw"], "Not Supported");
        assert_eq!(g.capabilities["sm_percent"], "ok");
        assert_eq!((g.samples[0].t_ns, g.energy_mj), (100_000_000, None));
    }

    #[test]
    fn memory_divides_into_the_targets_and_the_others() {
        let g = gpu(ORIGIN, &device(&[(900, Some(5)), (901, Some(7))]), &target(Some(900)));
        assert_eq!(
            (g.used_by_target, g.target_memory_bytes, g.other_memory_bytes),
            (Some(true), Some(5), Some(7))
        );
    }

    #[test]
    fn an_unknown_share_makes_the_sum_unknown() {
        let g = gpu(ORIGIN, &device(&[(900, None)]), &target(Some(900)));
        assert_eq!(
            (g.used_by_target, g.target_memory_bytes, g.other_memory_bytes),
            (Some(true), None, Some(0))
        );
    }

    #[test]
    fn not_used_is_only_said_where_every_host_pid_is_known() {
        assert_eq!(gpu(ORIGIN, &device(&[(7, None)]), &target(Some(900))).used_by_target, Some(false));
        let missing = model::Processes { complete: false, ..target(Some(900)) };
        assert_eq!(gpu(ORIGIN, &device(&[(7, None)]), &missing).used_by_target, None);
        let g = gpu(ORIGIN, &device(&[(7, None)]), &target(None));
        assert_eq!(g.used_by_target, None);
        assert!(g.used_by_target_reason.is_some());
    }
}
