//! What the devices do, as a file tells it: curves over time, processes, failures, delays.
//!
//! Owns the file's form and the arithmetic of the curves, which is the truth that reports are held against. Pure but
//! for reading its files. Used by `driver`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    #[serde(default = "driver")]
    pub(crate) driver: String,
    /// CLOCK_MONOTONIC nanoseconds at which the devices were switched on; without it, a minute before the library was.
    pub(crate) base_ns: Option<u64>,
    /// Holds the CLOCK_MONOTONIC nanoseconds at which the curves begin. Until it is there, they stand at their first
    /// value. Without it they begin at the base.
    pub(crate) load_file: Option<PathBuf>,
    /// The curves stand still at this time, in milliseconds.
    pub(crate) frozen_ms: Option<f64>,
    /// A JSON object of pids by name, for processes that are named.
    pub(crate) pids_file: Option<PathBuf>,
    /// As the first drivers of R535: entries of 32 bytes where 24 are promised.
    #[serde(default)]
    pub(crate) r535_processes: bool,
    /// Functions that this driver is too old for.
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    /// Microseconds that a call sleeps, by its name; `*` for all others. Without either it takes what a real one takes.
    #[serde(default)]
    pub(crate) latency_us: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) fail: Vec<Failure>,
    #[serde(default)]
    pub(crate) hang: Vec<Hang>,
    pub(crate) reload: Option<Reload>,
    pub(crate) devices: Vec<Device>,
}

fn driver() -> String {
    "550.54.15".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    /// `*`: every call that takes a device.
    pub(crate) call: String,
    pub(crate) device: Option<u32>,
    #[serde(default)]
    pub(crate) from_ms: f64,
    pub(crate) to_ms: Option<f64>,
    pub(crate) code: u32,
}

/// The call takes that long from then on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hang {
    pub(crate) call: String,
    pub(crate) from_ms: f64,
    pub(crate) for_ms: u64,
}

/// The driver goes away and comes back: then it has to be initialised again, and its handles are others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reload {
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
    /// What every call answers meanwhile.
    pub(crate) code: u32,
}

impl Failure {
    pub(crate) fn hits(&self, call: &str, device: Option<u32>, t_ms: f64) -> bool {
        (self.call == call || self.call == "*" && device.is_some())
            && (self.device.is_none() || self.device == device)
            && t_ms >= self.from_ms
            && self.to_ms.is_none_or(|to| t_ms < to)
    }
}

/// What is left out the device does not support.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) memory_total: Option<u64>,
    pub(crate) memory_reserved: u64,
    pub(crate) memory_used: Option<Curve>,
    pub(crate) sm: Option<Curve>,
    pub(crate) memory_busy: Option<Curve>,
    pub(crate) power_mw: Option<Curve>,
    /// What `nvmlDeviceGetPowerUsage` averages over; 0: the power of the moment.
    pub(crate) power_average_ms: f64,
    /// Whether there is a field for the power of the moment.
    pub(crate) power_instant: bool,
    pub(crate) power_limit_mw: Option<u32>,
    pub(crate) temperature: Option<Curve>,
    pub(crate) sm_clock: Option<Curve>,
    pub(crate) max_sm_clock: Option<u32>,
    /// NVML_DEVICE_ARCH_…
    pub(crate) architecture: Option<u32>,
    /// A mask of reasons.
    pub(crate) throttle: Option<Curve>,
    /// Thousands of bytes a second.
    pub(crate) pcie_tx: Option<Curve>,
    pub(crate) pcie_rx: Option<Curve>,
    /// Whether there are fields that count them.
    pub(crate) pcie_counters: bool,
    /// These go round at 32 bits.
    pub(crate) pcie_narrow: bool,
    /// KiB a second; the field is a counter.
    pub(crate) nvlink_tx: Option<Curve>,
    pub(crate) nvlink_rx: Option<Curve>,
    /// The device's own counters, by the number of the metric (`NVML_GPM_METRIC_…`); a metric that is not there is not
    /// supported. Without any the device has none, as before Hopper.
    pub(crate) gpm: Option<BTreeMap<u32, Curve>>,
    pub(crate) energy: Option<Energy>,
    pub(crate) samples: Option<Samples>,
    pub(crate) processes: Option<Vec<Process>>,
    /// Milliseconds between two readings of the processes' utilisation.
    pub(crate) utilization_ms: Option<f64>,
    pub(crate) mig: Option<Vec<Device>>,
    pub(crate) gpu_instance: Option<u32>,
    pub(crate) compute_instance: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Energy {
    #[serde(default)]
    pub(crate) start_mj: f64,
    pub(crate) refresh_ms: f64,
    /// What a real counter showed, in place of the area under the power.
    pub(crate) recorded: Option<Curve>,
    /// The counter begins anew at this time of the curves, as after a reload of the driver.
    pub(crate) reset_ms: Option<f64>,
    /// At this.
    #[serde(default)]
    pub(crate) reset_to_mj: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Samples {
    pub(crate) every_ms: f64,
    pub(crate) keep: usize,
    /// Their stamps are of CLOCK_MONOTONIC instead of CLOCK_REALTIME.
    #[serde(default)]
    pub(crate) monotonic: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) pid: Option<u32>,
    /// In the file of pids.
    pub(crate) name: Option<String>,
    /// Left out: it can't be told.
    pub(crate) memory: Option<Curve>,
    #[serde(default)]
    pub(crate) graphics: bool,
    #[serde(default)]
    pub(crate) sm: u32,
    #[serde(default)]
    pub(crate) from_ms: Option<f64>,
    pub(crate) to_ms: Option<f64>,
    pub(crate) gpu_instance: Option<u32>,
    pub(crate) compute_instance: Option<u32>,
}

/// A value over time: one number, or points with straight lines between them; before the first and after the last it
/// stays as it is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Curve {
    Constant(f64),
    Points(Vec<(f64, f64)>),
}

impl Curve {
    pub(crate) fn at(&self, t_ms: f64) -> f64 {
        let points = match self {
            Self::Constant(value) => return *value,
            Self::Points(points) => points,
        };
        let next = points.partition_point(|p| p.0 <= t_ms);
        match (next.checked_sub(1).and_then(|i| points.get(i)), points.get(next)) {
            (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (t_ms - a.0) / (b.0 - a.0),
            (Some(p), None) | (None, Some(p)) => p.1,
            (None, None) => 0.0,
        }
    }

    /// The area under it between two times, in its unit times milliseconds.
    pub(crate) fn integral(&self, from_ms: f64, to_ms: f64) -> f64 {
        let mut cuts = vec![from_ms, to_ms];
        if let Self::Points(points) = self {
            cuts.extend(points.iter().map(|p| p.0).filter(|t| (from_ms..to_ms).contains(t)));
        }
        cuts.sort_by(f64::total_cmp);
        // At a step two points share a time: the piece is read inside, where it is straight.
        let piece = |a: f64, b: f64| self.at(a + (b - a) / 2.0) * (b - a);
        cuts.windows(2).map(|w| piece(w[0], w[1])).sum()
    }
}
