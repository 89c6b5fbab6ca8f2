//! The plan of the observation: the target, the tracker, the devices.

use std::path::PathBuf;

use super::{Endpoint, PlanError};
use crate::cli;
use crate::units::{self, Nanos};

/// What to observe, and how.
#[derive(Debug, Clone)]
pub struct ObservePlan {
    pub target: TargetPlan,
    pub tracker: TrackerChoice,
    /// Size of the kernel's event ring: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Processes with an entry of their own. Further ones are counted and summed.
    pub max_processes: usize,
    /// Memory limit of this whole process.
    pub max_memory: u64,
    pub sample_interval: Nanos,
    pub gpu: GpuChoice,
    pub nvml_lib: Option<PathBuf>,
    /// Time without a load before the first request, for the devices' baseline.
    pub gpu_baseline: Nanos,
    pub prices: Vec<Price>,
}

/// The price of a device for an hour, in any currency.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// A part of the device's name; `None`: any device.
    pub device: Option<String>,
    pub per_hour: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPlan {
    /// `--pid`, with or without its descendants.
    Pid { pid: u32, descendants: bool },
    /// `--cgroup`: every process in it and below. `strict`: a process that is moved out leaves the set.
    Cgroup { path: PathBuf, strict: bool },
    /// `--cgroup-of`: the cgroup of this process.
    CgroupOf { pid: u32, strict: bool },
    /// The process that listens on this endpoint, and its tree.
    Listener { host: String, port: u16 },
    /// No search: the endpoint is on another machine and only the client is measured, or the target is the command of
    /// `exec`.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackerChoice {
    /// eBPF if it can be loaded, else /proc.
    Auto,
    /// eBPF, or exit code 5.
    Ebpf,
    Proc,
}

impl From<cli::TrackerArg> for TrackerChoice {
    fn from(a: cli::TrackerArg) -> Self {
        match a {
            cli::TrackerArg::Auto => Self::Auto,
            cli::TrackerArg::Ebpf => Self::Ebpf,
            cli::TrackerArg::Proc => Self::Proc,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuChoice {
    /// All devices, if there is NVML.
    Auto,
    Off,
    /// All devices, or exit code 5.
    All,
    /// Indices or UUIDs.
    These(Vec<String>),
}

/// Bounds of `--sample-interval`: below 1 ms the sampler would measure itself.
const SAMPLE_INTERVAL: std::ops::RangeInclusive<Nanos> = Nanos::from_millis(1)..=Nanos::from_millis(60_000);

/// The default of `--max-memory`.
pub(super) const MAX_MEMORY: u64 = 512 << 20;
/// Its bounds: the needs of the program with its tracker, and the memory of a machine.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 20..=1 << 44;

/// Bounds of `--ring-size`: the smallest page, and the largest size of a 32-bit map.
const RING_BYTES: std::ops::RangeInclusive<u64> = 4_096..=1 << 30;

/// The target that the flags name. Without one it is the listener of `endpoint`.
pub(super) fn target(args: &cli::TargetArgs, endpoint: Option<&Endpoint>) -> Result<TargetPlan, PlanError> {
    let strict = args.strict_cgroup;
    if strict && args.cgroup.is_none() && args.cgroup_of.is_none() {
        return Err(PlanError::Conflict {
            what: "--strict-cgroup without a cgroup",
            remedy: "name it with --cgroup PATH or --cgroup-of PID",
        });
    }
    if args.no_descendants && args.pid.is_none() {
        return Err(PlanError::Conflict {
            what: "--no-descendants without --pid",
            remedy: "name the process with --pid N",
        });
    }
    let nonzero = |flag, pid: u32| {
        let remedy = "give the pid of a process, or leave it out to find the endpoint's listener";
        if pid == 0 { Err(PlanError::Range { flag, value: "0".into(), remedy }) } else { Ok(pid) }
    };
    if let Some(pid) = args.pid {
        return Ok(TargetPlan::Pid { pid: nonzero("pid", pid)?, descendants: !args.no_descendants });
    }
    if let Some(path) = &args.cgroup {
        return Ok(TargetPlan::Cgroup { path: path.clone(), strict });
    }
    if let Some(pid) = args.cgroup_of {
        return Ok(TargetPlan::CgroupOf { pid: nonzero("cgroup-of", pid)?, strict });
    }
    let listener = endpoint.and_then(Endpoint::address);
    Ok(listener.map_or(TargetPlan::None, |(host, port)| TargetPlan::Listener { host, port }))
}

pub(super) fn observe(args: &cli::ObserveArgs, target: TargetPlan) -> Result<ObservePlan, PlanError> {
    let sample_interval = Nanos::from(args.sample_interval);
    if !SAMPLE_INTERVAL.contains(&sample_interval) {
        return Err(PlanError::Range {
            flag: "sample-interval",
            value: humantime::format_duration(args.sample_interval).to_string(),
            remedy: "give a time from 1ms to 60s",
        });
    }
    let is_cgroup = matches!(target, TargetPlan::Cgroup { .. } | TargetPlan::CgroupOf { .. });
    if is_cgroup && TrackerChoice::from(args.tracker) == TrackerChoice::Proc {
        return Err(PlanError::Conflict {
            what: "--tracker proc and a cgroup target",
            remedy: "only the kernel tracker follows a cgroup: leave --tracker out, or watch a tree with --pid",
        });
    }
    if args.max_processes == 0 {
        return Err(PlanError::Range {
            flag: "max-processes",
            value: "0".into(),
            remedy: "give a number from 1",
        });
    }
    Ok(ObservePlan {
        target,
        tracker: args.tracker.into(),
        ring_bytes: ring_bytes(&args.ring_size, page_bytes())?,
        max_processes: args.max_processes,
        max_memory: max_memory(&args.max_memory)?,
        sample_interval,
        gpu: gpu(&args.gpu)?,
        nvml_lib: args.nvml_lib.clone(),
        gpu_baseline: args.gpu_baseline.into(),
        prices: args.price_per_hour.iter().map(|p| price(p)).collect::<Result<_, _>>()?,
    })
}

/// Parses `2.5` or `H100=2.5`.
fn price(text: &str) -> Result<Price, PlanError> {
    let (device, number) = match text.rsplit_once('=') {
        Some((device, number)) => (Some(device.trim().to_owned()), number),
        None => (None, text),
    };
    let per_hour = number.trim().parse().ok().filter(|p: &f64| p.is_finite() && *p >= 0.0);
    match per_hour {
        Some(per_hour) if device.as_deref() != Some("") => Ok(Price { device, per_hour }),
        _ => Err(PlanError::Value {
            what: format!("--price-per-hour {text}"),
            why: "it is no price".into(),
            remedy: "give a number such as 2.5, or a part of a device's name with it: H100=2.5",
        }),
    }
}

/// The size of a memory page: 4, 16 or 64 KiB.
fn page_bytes() -> u32 {
    // No page has 4 GiB.
    u32::try_from(rustix::param::page_size()).unwrap_or(1 << 16)
}

/// Parses `512K`, `4M` or plain bytes. Rounds up to the power of two and the whole pages that the kernel demands.
pub(super) fn ring_bytes(text: &str, page_bytes: u32) -> Result<u32, PlanError> {
    let range = || PlanError::Range {
        flag: "ring-size",
        value: text.to_owned(),
        remedy: "give a size from 4K to 1G, such as 512K or 4M",
    };
    let bytes = bytes_in(text).filter(|b| RING_BYTES.contains(b)).ok_or_else(range)?;
    u32::try_from(bytes).ok().and_then(|bytes| units::ring_bytes(bytes, page_bytes)).ok_or_else(range)
}

/// Parses `512M`, `2G` or plain bytes.
pub(super) fn max_memory(text: &str) -> Result<u64, PlanError> {
    bytes_in(text).filter(|b| MEMORY_BYTES.contains(b)).ok_or_else(|| PlanError::Range {
        flag: "max-memory",
        value: text.to_owned(),
        remedy: "give a size from 64M, such as 512M or 2G",
    })
}

/// Parses a number of bytes with or without a unit.
fn bytes_in(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn gpu(text: &str) -> Result<GpuChoice, PlanError> {
    match text.trim() {
        "auto" => Ok(GpuChoice::Auto),
        "off" => Ok(GpuChoice::Off),
        "all" => Ok(GpuChoice::All),
        list => {
            let names: Vec<String> = list.split(',').map(|n| n.trim().to_owned()).collect();
            let known =
                |n: &String| n.parse::<u32>().is_ok() || n.starts_with("GPU-") || n.starts_with("MIG-");
            if !names.iter().all(known) {
                return Err(PlanError::Value {
                    what: format!("--gpu {list}"),
                    why: "it names neither a mode nor devices".into(),
                    remedy: "give auto, off, all, indices such as 0,2, or UUIDs such as GPU-…",
                });
            }
            Ok(GpuChoice::These(names))
        }
    }
}
