//! What the devices' events add up to, and the energy of the CPU packages.

use std::collections::BTreeMap;

use crate::clock::{Mono, Window};
use crate::units::Nanos;

use super::{Gauge, GpmMetric, Query};

/// All devices. `unavailable` says why there are no devices.
#[derive(Debug, Clone, Default)]
pub struct GpuLog {
    pub unavailable: Option<String>,
    pub devices: Vec<GpuDevice>,
    /// The wait before the load, from and to: nothing was sent in it.
    pub baseline: Option<Window>,
    /// When what is measured began, where nothing was sent.
    pub began: Option<Mono>,
    /// From when to when devices were polled.
    pub polled: Option<Window>,
    /// What CUDA may see, as the environment of a process on a device or of the target's root says; by pid.
    pub visible_devices: BTreeMap<u32, String>,
    /// Whether NVML's pids are those that inferscope sees: both count in the initial pid namespace.
    pub pids_are_ours: bool,
    pub cost: PollCost,
    /// A call that did not come back: its name, and since when. The readings end there.
    pub hangs: Option<(String, Mono)>,
}

/// What polling cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollCost {
    /// Looks at all devices.
    pub ticks: u64,
    /// CPU time of the polling thread.
    pub cpu: Nanos,
    /// Time in the driver's calls.
    pub in_calls: Nanos,
    pub calls: u64,
    /// The call that took longest, and how long.
    pub slowest: Option<(String, Nanos)>,
}

/// RAPL: the energy of the CPU packages, where the kernel shows it.
#[derive(Debug, Clone, Default)]
pub struct CpuPackages {
    /// Why there are no readings.
    pub unavailable: Option<String>,
    /// Millijoules of all packages since the first reading.
    pub readings: Vec<EnergyReading>,
}

#[derive(Debug, Clone, Default)]
pub struct GpuDevice {
    /// Of a MIG instance: that of the device which it is cut from.
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub driver: Option<String>,
    pub mig: Option<MigInstance>,
    /// Cut into MIG instances, which follow as devices of their own.
    pub mig_parent: bool,
    /// For each query that the device answers.
    pub answered: Vec<Query>,
    /// For each query that it refuses: NVML's own words.
    pub refused: BTreeMap<Query, String>,
    /// Queries that failed now and then: how often, and the last reason.
    pub failed: BTreeMap<Query, (u64, String)>,
    /// Gone, and not back by the end.
    pub lost: Option<Interruption>,
    /// When nothing was to be had of it for a while. What its counters showed before and after don't belong together.
    pub interruptions: Vec<Interruption>,
    pub memory_total_bytes: Option<u64>,
    /// `memory_used_bytes` holds what the driver reserves: an older driver does not tell it apart.
    pub used_includes_reserved: bool,
    pub memory_reserved_bytes: Option<u64>,
    pub power_limit_mw: Option<u64>,
    pub sm_clock_max_mhz: Option<u32>,
    pub power_source: Option<PowerSource>,
    pub readings: Vec<GpuReading>,
    /// Power as it was polled.
    pub power: Vec<PowerPoint>,
    /// Power from the driver's buffer, at the times that it was sampled.
    pub power_sampled: Vec<PowerPoint>,
    /// There were more than are kept: of neighbours the higher stayed.
    pub power_thinned: bool,
    pub power_sampled_thinned: bool,
    pub energy: Vec<EnergyReading>,
    /// Between two polls: utilisation from the driver's buffer.
    pub sm_samples: Vec<(Mono, u32)>,
    /// How far the driver's stamps may be from the one clock, where it gave any.
    pub sample_clock_error: Option<Nanos>,
    /// Looks at the processes that differ from the one before.
    pub processes: Vec<ProcessLook>,
    pub process_use: Vec<ProcessUse>,
    /// What the device's own counters said (GPM), a window after another.
    pub gpm: Vec<GpmWindow>,
    /// There were more than are kept: each is a window as it was read, but not every window is there.
    pub gpm_thinned: bool,
    /// Whether the process query ever answered.
    pub processes_known: bool,
    /// Values that could not be true, by what was wrong with them.
    pub insane: BTreeMap<&'static str, u64>,
    /// The process list has entries of 32 bytes where the header says 24 (first drivers of R535).
    pub wide_processes: bool,
}

impl GpuDevice {
    /// From when to when around this stretch the device was there all along: only what it told in that time belongs
    /// together.
    ///
    /// # Errors
    /// It was away within the stretch.
    pub fn unbroken(&self, from: Mono, to: Mono) -> Result<(Mono, Mono), &Interruption> {
        let (mut begin, mut end) = (Mono(0), Mono(u64::MAX));
        for away in self.interruptions.iter().chain(&self.lost) {
            match away.to {
                Some(back) if back <= from => begin = begin.max(back),
                _ if away.from >= to => end = end.min(away.from),
                _ => return Err(away),
            }
        }
        Ok((begin, end))
    }
}

/// The device, or the whole driver, was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    pub from: Mono,
    /// `None`: it did not come back.
    pub to: Option<Mono>,
    /// NVML's.
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigInstance {
    pub gpu_instance: Option<u32>,
    pub compute_instance: Option<u32>,
}

/// What a reading of power is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerSource {
    /// Of the moment.
    Instant,
    /// Averaged over a second, or it can't be told.
    Average,
}

/// One look at one device, but for its power; `None` where it did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuReading {
    pub t: Mono,
    pub memory_used_bytes: Option<u64>,
    pub sm_percent: Option<u32>,
    pub memory_percent: Option<u32>,
    /// In the order of [`Gauge::ALL`].
    pub gauges: [Option<u32>; Gauge::ALL.len()],
    /// NVML's mask of what holds the clocks back.
    pub throttle: Option<u64>,
    /// Counters, of all links together.
    pub nvlink_tx_kib: Option<u64>,
    pub nvlink_rx_kib: Option<u64>,
}

impl GpuReading {
    #[must_use]
    pub const fn empty(t: Mono) -> Self {
        Self {
            t,
            memory_used_bytes: None,
            sm_percent: None,
            memory_percent: None,
            gauges: [None; Gauge::ALL.len()],
            throttle: None,
            nvlink_tx_kib: None,
            nvlink_rx_kib: None,
        }
    }

    #[must_use]
    pub const fn get(&self, gauge: Gauge) -> Option<u32> {
        self.gauges[gauge as usize]
    }

    pub const fn set(&mut self, gauge: Gauge, value: Option<u32>) {
        self.gauges[gauge as usize] = value;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerPoint {
    pub t: Mono,
    pub mw: u64,
}

/// Means between two samples of the device's counters; `None` where a metric was not told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpmWindow {
    pub from: Mono,
    pub to: Mono,
    /// In the order of [`GpmMetric::ALL`].
    pub values: [Option<f64>; GpmMetric::ALL.len()],
}

impl GpmWindow {
    #[must_use]
    pub const fn get(&self, metric: GpmMetric) -> Option<f64> {
        self.values[metric as usize]
    }
}

/// A counter, and the moments right before and after the call that read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnergyReading {
    pub before: Mono,
    pub after: Mono,
    pub mj: u64,
}

/// The processes on a device, from this moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessLook {
    pub t: Mono,
    pub all: Vec<GpuProcess>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuProcess {
    /// In the initial pid namespace.
    pub pid: u32,
    pub graphics: bool,
    /// `None`: it can't be told.
    pub bytes: Option<u64>,
}

/// A process's share of the device in the driver's last window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    pub t: Mono,
    pub pid: u32,
    pub sm_percent: u32,
}
