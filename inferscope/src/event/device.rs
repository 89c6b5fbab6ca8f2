//! What the thread that asks NVML sends, and the reader of the CPU packages' counters.
//!
//! Owns the vocabulary only. Each answer carries the moment at which it was given.

use crate::clock::{Mono, Window};
use crate::units::Nanos;

use super::{
    EnergyReading, GpmWindow, GpuReading, MigInstance, PollCost, PowerPoint, PowerSource, ProcessLook,
    ProcessUse, Query,
};

/// From the thread that asks NVML.
#[derive(Debug, Clone)]
pub enum DeviceEvent {
    /// Whether NVML's pids are those that inferscope sees.
    Began { pids_are_ours: bool },
    /// A device is watched; more of what it is may follow. Places count from zero in the order of these events.
    Found(Box<DeviceIdentity>),
    /// A device that was chosen can't be had.
    Missing { index: u32, driver: Option<String>, words: String },
    /// About the watched device at that place.
    Of { place: usize, answer: DeviceAnswer },
    /// What CUDA may see, as the environment of a process says.
    VisibleDevices { pid: u32, value: Option<String> },
    /// All devices were looked at. `polled`: since the first look has ended; `cost`: of all so far.
    Looked { polled: Window, cost: PollCost },
}

/// What does not change of a device.
#[derive(Debug, Clone, Default)]
pub struct DeviceIdentity {
    /// Of a MIG instance: that of the device which it is cut from.
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub driver: Option<String>,
    pub mig: Option<MigInstance>,
    /// Cut into MIG instances, which follow as devices of their own.
    pub mig_parent: bool,
    pub power_limit_mw: Option<u64>,
    pub sm_clock_max_mhz: Option<u32>,
    pub power_source: Option<PowerSource>,
}

#[derive(Debug, Clone)]
pub enum DeviceAnswer {
    /// All of it, as far as it is known now.
    Identity(Box<DeviceIdentity>),
    Reading(Box<GpuReading>),
    Power(PowerPoint),
    Energy(EnergyReading),
    Memory(MemoryTotals),
    Processes {
        look: ProcessLook,
        wide: bool,
    },
    Gpm(Box<GpmWindow>),
    DriverSamples(Box<SampledByDriver>),
    /// Values that could not be true.
    Implausible {
        what: &'static str,
        count: u64,
    },
    /// The query answers, for the first time.
    Answers(Query),
    /// It never will, in NVML's words.
    Refuses(Query, String),
    /// Not this time.
    Failed(Query, String),
    /// Nothing is to be had of the device. Once more with other words where it was looked for in vain.
    Away {
        since: Mono,
        words: String,
    },
    /// It answers again.
    Back {
        at: Mono,
    },
}

#[derive(Debug, Clone, Copy)]
pub struct MemoryTotals {
    pub total_bytes: u64,
    /// `None`: an older driver does not tell it apart from what is used.
    pub reserved_bytes: Option<u64>,
}

/// From the driver's buffers, since they were read last.
#[derive(Debug, Clone, Default)]
pub struct SampledByDriver {
    pub power: Vec<PowerPoint>,
    pub sm: Vec<(Mono, u32)>,
    pub process_use: Vec<ProcessUse>,
    /// How far the driver's stamps may be from the one clock, where it gave any.
    pub clock_error: Option<Nanos>,
    /// Stamps of no known clock, of all so far.
    pub unmapped: u64,
}

/// From the energy counters of the CPU packages (RAPL).
#[derive(Debug, Clone)]
pub enum PackageEvent {
    /// Why there is nothing to read, in words.
    Unavailable(String),
    /// Millijoules of all packages since the first reading.
    Reading(EnergyReading),
}
