//! The devices, as the report has them.
//!
//! A part of `build`.

use std::collections::BTreeMap;

use super::super::model;
use super::bottleneck;
use super::energy::{whole_error_mj, whole_mj};
use super::gpu_samples::samples;
use super::stat::stat;
use crate::clock::Origin;
use crate::event::{Gauge, GpmMetric, GpuDevice, GpuLog, Interruption, PowerSource};
use crate::figures::devices::{Counters, Device, DeviceUse, Rest, Sampled, Total};
use crate::figures::energy::Source;
use crate::figures::stat::Stat;
use crate::reason::{Apart as _, DeviceReason};
use crate::verdict::bottleneck::Verdict;

pub(crate) fn gpu(origin: Origin, device: &Device<'_>, verdict: &Verdict) -> model::Gpu {
    let (log, gauges) = (device.log, &device.gauges);
    let spent = device.energy.as_ref().ok();
    let (idle, idle_power_reason) = device.idle_power.clone().apart();
    let (limited_by, limited_by_reason) = bottleneck::limit(verdict.limit.clone());
    model::Gpu {
        index: log.index,
        uuid: log.uuid.clone(),
        name: log.name.clone(),
        driver: log.driver.clone(),
        mig: log.mig.map(|m| model::MigInstance {
            gpu_instance: m.gpu_instance,
            compute_instance: m.compute_instance,
        }),
        mig_parent: log.mig_parent,
        lost_ns: log.lost.as_ref().map(|lost| origin.at(lost.from).0),
        lost_reason: log.lost.as_ref().map(|lost| lost.words.clone()),
        interruptions: log.interruptions.iter().filter_map(|i| interruption(origin, i)).collect(),
        capabilities: capabilities(log),
        failed_queries: log
            .failed
            .iter()
            .map(|(name, (count, reason))| {
                (name.name().to_owned(), model::FailedQuery { count: *count, reason: reason.clone() })
            })
            .collect(),
        dropped_values: log.insane.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        limits: model::GpuLimits {
            power_mw: log.power_limit_mw,
            memory_bytes: log.memory_total_bytes,
            sm_clock_mhz: log.sm_clock_max_mhz,
        },
        samples: samples(origin, log),
        driver_samples: model::DriverSamples {
            power: log.power_sampled.iter().map(|p| (origin.at(p.t).0, p.mw)).collect(),
            sm: log.sm_samples.iter().map(|(t, v)| (origin.at(*t).0, *v)).collect(),
            clock_error_ns: log.sample_clock_error.map(|n| n.0),
        },
        sm_percent: stat(&gauges.sm_percent),
        target_sm_percent: stat(&device.target_sm_percent),
        memory_percent: stat(&gauges.memory_percent),
        counters: counters(&device.counters),
        power_source: log.power_source.map(|source| match source {
            PowerSource::Instant => "instant".to_owned(),
            PowerSource::Average => "average".to_owned(),
        }),
        memory_used_bytes: stat(&gauges.memory_used_bytes),
        gauges: model::Gauges::from_fn(|name| by_name(Gauge::ALL, Gauge::name, name, |g| gauges.get(g))),
        nvlink_tx_kib_per_s: gauges.nvlink_tx_kib_per_s,
        nvlink_rx_kib_per_s: gauges.nvlink_rx_kib_per_s,
        throttle: device.throttle.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect(),
        energy_refresh_ns: device.refresh.map(|n| n.0),
        mean_power_mw: device.mean_power_mw,
        power_mw: stat(&gauges.power_mw),
        energy_mj: spent.map(|spent| whole_mj(spent.energy)),
        energy_error_mj: spent.map(|spent| whole_error_mj(spent.energy)),
        energy_source: spent.map(|spent| match spent.source {
            Source::Counter => "counter".to_owned(),
            Source::Integrated => "integrated".to_owned(),
        }),
        energy_reason: device.energy.as_ref().err().map(ToString::to_string),
        at_rest: match device.rest {
            Rest::Unknown => None,
            Rest::Idle => Some(true),
            Rest::Computing(_) => Some(false),
        },
        idle_power_mw: idle.map(whole_mj),
        idle_power_reason,
        energy_above_idle_mj: device.above_idle.map(whole_mj),
        energy_above_idle_error_mj: device.above_idle.map(whole_error_mj),
        limited_by,
        limited_by_reason,
        limited_by_evidence: bottleneck::evidence(&verdict.evidence),
        ..usage(&device.usage)
    }
}

fn usage(usage: &DeviceUse) -> model::Gpu {
    model::Gpu {
        used_by_target: usage.used.as_ref().ok().copied(),
        used_by_target_reason: usage.used.as_ref().err().map(ToString::to_string),
        processes: usage
            .processes
            .iter()
            .map(|p| model::GpuProcess {
                host_pid: p.host_pid,
                target: p.target,
                graphics: p.graphics,
                memory_bytes: p.memory_bytes,
                sm_percent: p.sm_percent,
            })
            .collect(),
        target_memory_bytes: usage.memory.target_bytes,
        other_memory_bytes: usage.memory.other_bytes,
        unattributed_memory_bytes: usage.memory.unattributed_bytes,
        target_memory_reason: usage.memory_reason.as_ref().map(ToString::to_string),
        shared_with: usage.shared_with.clone(),
        ..model::Gpu::default()
    }
}

fn counters(counters: &Counters) -> model::Counters {
    model::Counters::from_fn(|name| {
        by_name(GpmMetric::ALL, GpmMetric::name, name, |metric| counters.get(metric))
    })
}

/// The figure of the model's field of that name, which is the query's (a test holds the two together).
fn by_name<'f, Q: Copy, T: Copy + Default + 'f>(
    all: impl IntoIterator<Item = Q>,
    name_of: fn(Q) -> &'static str,
    name: &str,
    figure: impl Fn(Q) -> &'f Sampled<T>,
) -> model::Stat<T> {
    let query = all.into_iter().find(|query| name_of(*query) == name);
    query.map_or_else(|| stat(&Err::<Stat<T>, _>(DeviceReason::NotRead)), |query| stat(figure(query)))
}

fn interruption(origin: Origin, away: &Interruption) -> Option<model::Interruption> {
    let (from_ns, to_ns) = (origin.at(away.from).0, origin.at(away.to?).0);
    Some(model::Interruption { from_ns, to_ns, reason: away.words.clone() })
}

/// `ok` for what the device answers, NVML's words for what it refuses.
fn capabilities(device: &GpuDevice) -> BTreeMap<String, String> {
    let ok = device.answered.iter().map(|query| (query.name().to_owned(), "ok".to_owned()));
    let refused = device.refused.iter().map(|(query, words)| (query.name().to_owned(), words.clone()));
    ok.chain(refused).collect()
}

/// The devices that the target uses, together. `visible_devices`: what CUDA shows the target's processes, by pid.
pub(crate) fn summary(
    origin: Origin,
    log: &GpuLog,
    total: &Result<Total, DeviceReason>,
    visible_devices: BTreeMap<u32, String>,
) -> model::GpuSummary {
    let poll = model::GpuPoll {
        ticks: log.cost.ticks,
        calls: log.cost.calls,
        cpu_ns: log.cost.cpu.0,
        call_ns: log.cost.in_calls.0,
        hanging_call: log.hangs.as_ref().map(|(call, _)| call.clone()),
        hanging_since_ns: log.hangs.as_ref().map(|(_, since)| origin.at(*since).0),
        slowest_call: log.cost.slowest.as_ref().map(|(name, _)| name.clone()),
        slowest_call_ns: log.cost.slowest.as_ref().map(|(_, time)| time.0),
    };
    let base =
        model::GpuSummary { poll, cuda_visible_devices: visible_devices, ..model::GpuSummary::default() };
    let total = match total {
        Ok(total) => total,
        Err(why) => return model::GpuSummary { reason: Some(why.to_string()), ..base },
    };
    let (energy, reason) = total.energy.clone().apart();
    model::GpuSummary {
        devices: total.devices.clone(),
        reason,
        target_memory_bytes: total.target_memory_bytes,
        memory_bytes: total.memory_bytes,
        power_mw: total.power_mw,
        energy_mj: energy.map(whole_mj),
        energy_error_mj: energy.map(whole_error_mj),
        energy_above_idle_mj: total.above_idle.map(whole_mj),
        energy_above_idle_error_mj: total.above_idle.map(whole_error_mj),
        ..base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gauge_and_each_metric_has_a_field_and_each_field_is_one() {
        assert_eq!(model::Gauges::NAMES, Gauge::ALL.map(Gauge::name));
        assert_eq!(model::Counters::NAMES, GpmMetric::ALL.map(GpmMetric::name));
        assert_eq!(model::CounterSample::NAMES, GpmMetric::ALL.map(GpmMetric::name));
    }
}
