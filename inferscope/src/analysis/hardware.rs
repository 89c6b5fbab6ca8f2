//! Is the hardware right: what part of the chip is in use, and what limits the run.
//!
//! Owns the rules, which go by what the report itself holds. NVML tells in which share of the time any kernel ran, not how
//! much of the chip it filled; power against its limit stands in for that. Never advises more than the evidence says.
//! Called by `analysis`.

mod host;

use std::collections::BTreeMap;

use serde_json::json;

use crate::report::model::{Gpu, GpuSummary, Insight, Level, LimitedBy, Severity, Validity};

pub(super) use host::Busy;

/// From here on kernels run nearly all of the time.
const BUSY_PERCENT: f64 = 80.0;
/// Below, the device waits most of the time.
const IDLE_PERCENT: f64 = 15.0;
/// Of its limit: what a kernel that fills the chip draws at least.
const HIGH_POWER: f64 = 0.5;
/// Of the time: memory is accessed as good as always.
const HIGH_MEMORY_PERCENT: f64 = 80.0;
/// Of its memory: what it holds would fit one of half the size.
const ROOMY: f64 = 0.5;

/// Fills in what limits the run, for the devices that count.
pub(super) fn judge(
    gpus: &mut [Gpu],
    summary: Option<&GpuSummary>,
    busy: Option<&Busy>,
    validity: &[Validity],
) {
    // The codes of `client`.
    let client = validity.iter().any(|v| v.level == Level::Invalid && v.code.starts_with("client_"));
    for (i, gpu) in gpus.iter_mut().enumerate() {
        if !summary.is_some_and(|s| s.devices.contains(&i)) {
            gpu.limited_by_reason = Some("the target is not known to use it".to_owned());
            continue;
        }
        match limit(gpu, busy, client) {
            Ok(limit) => gpu.limited_by = Some(limit),
            Err(why) => gpu.limited_by_reason = Some(why),
        }
    }
}

fn limit(gpu: &Gpu, busy: Option<&Busy>, client: bool) -> Result<LimitedBy, String> {
    let sm = gpu.sm_percent.mean.ok_or_else(|| {
        format!("its utilisation is unknown ({})", gpu.sm_percent.reason.as_deref().unwrap_or("not told"))
    })?;
    if sm >= BUSY_PERCENT {
        let power = power_share(gpu).ok_or("its power or the limit of it is unknown")?;
        let memory = gpu.memory_percent.mean.unwrap_or(0.0);
        return Ok(match power {
            p if memory >= HIGH_MEMORY_PERCENT && p < HIGH_MEMORY_PERCENT / 100.0 => {
                LimitedBy::MemoryBandwidth
            }
            p if p >= HIGH_POWER => LimitedBy::Compute,
            _ => LimitedBy::KernelLatency,
        });
    }
    if client {
        return Ok(LimitedBy::Client);
    }
    if busy.is_some() {
        return Ok(LimitedBy::Host);
    }
    Ok(if sm < IDLE_PERCENT { LimitedBy::Idle } else { LimitedBy::Partial })
}

fn power_share(gpu: &Gpu) -> Option<f64> {
    let limit = gpu.limits.power_mw.filter(|l| *l > 0)? as f64;
    Some(gpu.power_mw.mean? / limit)
}

pub(super) fn insights(gpus: &[Gpu], busy: Option<&Busy>) -> Vec<Insight> {
    let judged = gpus.iter().filter_map(|gpu| Some((gpu, gpu.limited_by?)));
    judged.filter_map(|(gpu, limited_by)| insight(gpu, limited_by, busy)).collect()
}

fn insight(gpu: &Gpu, limited_by: LimitedBy, busy: Option<&Busy>) -> Option<Insight> {
    let name = gpu.name.as_deref().unwrap_or("no name");
    let device = format!("device {} ({name})", gpu.index);
    let sm = gpu.sm_percent.mean?;
    let peak = gpu.sm_percent.max?;
    let power = power_share(gpu);
    let memory =
        gpu.memory_used_bytes.max.zip(gpu.limits.memory_bytes).map(|(used, all)| used as f64 / all as f64);
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let mut figures = vec![format!("kernels ran {sm:.0}% of the time ({peak:.0}% at most)")];
    figures.extend(power.map(|p| format!("{} of its power limit", percent(p))));
    figures.extend(memory.map(|m| format!("{} of its memory", percent(m))));
    let figures = figures.join(", ");
    let (code, headline, advice) = match limited_by {
        LimitedBy::Compute => (
            "gpu_compute_bound",
            format!("{device} is compute-bound by this evidence: {figures}"),
            "more requests at a time are unlikely to give more tokens a second from this device",
        ),
        LimitedBy::MemoryBandwidth => (
            "gpu_memory_bound",
            format!("{device} is bound by its memory by this evidence: {figures}"),
            "larger batches or smaller weights (quantisation) read memory less often for each token",
        ),
        LimitedBy::KernelLatency => (
            "gpu_kernel_latency",
            format!("{device} is always busy and draws little power: {figures}"),
            "kernels that run all of the time without filling the chip suggest small batches, or waiting for another \
             device; a larger batch may fit",
        ),
        LimitedBy::Host => (
            "gpu_waits_for_host",
            format!("{device} waits a part of the time, in which {}: {figures}", busy?.in_words()),
            busy?.advice(),
        ),
        LimitedBy::Client => (
            "gpu_waits_for_client",
            format!("{device} waits while the client can't keep up: {figures}"),
            "the load is inferscope's limit, not the server's: nothing is said of this hardware",
        ),
        LimitedBy::Idle | LimitedBy::Partial => (
            "gpu_part_of_chip",
            format!(
                "{device} was used to about {} of the chip: {figures}",
                in_words(power.unwrap_or(sm / 100.0))
            ),
            match memory {
                Some(m) if m <= ROOMY => {
                    "at this load a smaller device, a slice of this one, more requests at a time or a larger model would \
                     fit; how latency fares then was not measured"
                }
                _ => {
                    "more requests at a time may fit, by its kernels and power; its memory, as far as the server does not \
                     only reserve it, leaves no room for a smaller device"
                }
            },
        ),
    };
    let whole = |value: Option<f64>| json!(value.map(|v| v.round() as u64));
    let mut evidence = vec![
        ("sm_percent_mean", whole(gpu.sm_percent.mean)),
        ("sm_percent_max", whole(gpu.sm_percent.max)),
        ("power_mean_mw", whole(gpu.power_mw.mean)),
        ("power_max_mw", json!(gpu.power_mw.max)),
        ("power_limit_mw", json!(gpu.limits.power_mw)),
        ("memory_used_bytes", json!(gpu.memory_used_bytes.max)),
        ("memory_bytes", json!(gpu.limits.memory_bytes)),
        ("memory_busy_percent_mean", whole(gpu.memory_percent.mean)),
    ];
    if limited_by == LimitedBy::Host {
        evidence.extend(busy?.evidence());
    }
    Some(Insight {
        code: code.to_owned(),
        severity: Severity::Info,
        headline,
        evidence: evidence.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<BTreeMap<_, _>>(),
        advice: advice.to_owned(),
    })
}

/// The nearest of the fractions that have a name.
fn in_words(share: f64) -> &'static str {
    const NAMES: [(f64, &str); 9] = [
        (0.0, "nothing"),
        (0.1, "a tenth"),
        (0.2, "a fifth"),
        (0.25, "a quarter"),
        (1.0 / 3.0, "a third"),
        (0.5, "half"),
        (2.0 / 3.0, "two thirds"),
        (0.75, "three quarters"),
        (1.0, "all"),
    ];
    let near = |(at, _): &(f64, &str)| (share - at).abs();
    NAMES.iter().min_by(|a, b| near(a).total_cmp(&near(b))).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stat::stat;
    use crate::report::model;

    fn gpu(sm: f64, memory: f64, watts: f64) -> Gpu {
        Gpu {
            name: Some("NVIDIA H100 80GB HBM3".into()),
            sm_percent: stat([sm], ""),
            memory_percent: stat([memory], ""),
            power_mw: stat([watts as u64 * 1_000], ""),
            memory_used_bytes: stat([5_600_000_000_u64], ""),
            limits: model::GpuLimits {
                power_mw: Some(700_000),
                memory_bytes: Some(80_000_000_000),
                sm_clock_mhz: None,
            },
            ..Gpu::default()
        }
    }

    fn judged_beside(gpu: Gpu, busy: Option<Busy>) -> (Option<LimitedBy>, Vec<Insight>) {
        let counted = GpuSummary { devices: vec![0], ..GpuSummary::default() };
        let mut gpus = [gpu];
        judge(&mut gpus, Some(&counted), busy.as_ref(), &[]);
        (gpus[0].limited_by, insights(&gpus, busy.as_ref()))
    }

    fn judged(gpu: Gpu) -> (Option<LimitedBy>, Vec<Insight>) {
        judged_beside(gpu, None)
    }

    #[test]
    fn what_limits_goes_by_kernels_power_memory_and_cpu() {
        let limit = |g| judged(g).0.unwrap();
        assert_eq!(limit(gpu(88.0, 40.0, 439.0)), LimitedBy::Compute);
        assert_eq!(limit(gpu(95.0, 90.0, 400.0)), LimitedBy::MemoryBandwidth);
        assert_eq!(limit(gpu(95.0, 90.0, 650.0)), LimitedBy::Compute);
        assert_eq!(limit(gpu(95.0, 20.0, 150.0)), LimitedBy::KernelLatency);
        assert_eq!(limit(gpu(48.0, 20.0, 170.0)), LimitedBy::Partial);
        let process = || Some(Busy::Process { pid: 7, comm: "python3".into(), cpus: 0.97 });
        let (host, said) = judged_beside(gpu(48.0, 20.0, 170.0), process());
        assert_eq!(host, Some(LimitedBy::Host));
        assert!(said[0].headline.contains("process 7 (python3) of the server used 0.97 CPUs"), "{said:?}");
        assert_eq!(said[0].evidence["busiest_pid"], 7);
        // Whoever is busy, a device that is too does not wait.
        assert_eq!(judged_beside(gpu(88.0, 40.0, 439.0), process()).0, Some(LimitedBy::Compute));
        assert_eq!(limit(gpu(3.0, 1.0, 80.0)), LimitedBy::Idle);
    }

    #[test]
    fn a_device_that_waits_for_a_client_that_cannot_keep_up_is_not_judged() {
        let slow = |level| {
            let doubt = Validity { level, code: "client_busy".into(), message: String::new() };
            let mut gpus = [gpu(48.0, 20.0, 170.0)];
            let counted = GpuSummary { devices: vec![0], ..GpuSummary::default() };
            judge(&mut gpus, Some(&counted), None, &[doubt]);
            gpus[0].limited_by
        };
        assert_eq!(
            (slow(Level::Invalid), slow(Level::Warn)),
            (Some(LimitedBy::Client), Some(LimitedBy::Partial))
        );
    }

    #[test]
    fn the_published_runs_get_the_words_of_the_post() {
        let (_, small) = judged(gpu(48.0, 20.0, 170.0));
        assert_eq!(
            small[0].headline,
            "device 0 (NVIDIA H100 80GB HBM3) was used to about a quarter of the chip: kernels ran 48% of the time (48% at \
             most), 24% of its power limit, 7% of its memory"
        );
        assert!(small[0].advice.starts_with("at this load a smaller device"));
        let mut full = gpu(48.0, 20.0, 170.0);
        full.memory_used_bytes = stat([72_000_000_000_u64], "");
        assert!(judged(full).1[0].advice.contains("leaves no room for a smaller device"));
        let (_, large) = judged(gpu(88.0, 40.0, 439.0));
        assert_eq!(large[0].code, "gpu_compute_bound");
        assert!(large[0].headline.contains("88% of the time"), "{}", large[0].headline);
    }

    #[test]
    fn without_a_utilisation_nothing_is_said_but_why() {
        let mut unknown = gpu(50.0, 50.0, 100.0);
        unknown.sm_percent = crate::analysis::stat::unknown("Not Supported");
        assert_eq!(judged(unknown.clone()), (None, Vec::new()));
        assert!(limit(&unknown, None, false).unwrap_err().contains("Not Supported"));
        // Nor of a device that the target is not known to use.
        let mut foreign = [gpu(88.0, 40.0, 439.0)];
        judge(&mut foreign, None, None, &[]);
        assert_eq!(foreign[0].limited_by, None);
    }
}
