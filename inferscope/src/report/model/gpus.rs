//! The devices.
//!
//! Owns the shape of `gpus` and `gpu_summary`; no arithmetic. A part of `model`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Stat;

/// One device, or one MIG instance. Where requests were sent, every [`Stat`] and every energy is of the load's window
/// (`timing.window`), else of the whole run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// NVML's; of a MIG instance that of its device.
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mig: Option<MigInstance>,
    /// Cut into MIG instances, which follow.
    #[serde(default)]
    pub mig_parent: bool,
    /// When it was lost for the rest of the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost_ns: Option<u64>,
    /// NVML's words for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost_reason: Option<String>,
    /// When nothing was to be had of it for a while, and no energy is known. It came back from each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub interruptions: Vec<Interruption>,
    pub used_by_target: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_by_target_reason: Option<String>,
    /// For each query: `ok`, or NVML's reason for refusing.
    pub capabilities: BTreeMap<String, String>,
    /// Queries that the device answers, but not each time.
    #[serde(default)]
    pub failed_queries: BTreeMap<String, FailedQuery>,
    /// Values that could not be true and were dropped, by what was wrong with them.
    #[serde(default)]
    pub dropped_values: BTreeMap<String, u64>,
    pub limits: GpuLimits,
    pub samples: Vec<GpuSample>,
    /// What the driver sampled between two polls.
    #[serde(default)]
    pub driver_samples: DriverSamples,
    #[serde(default)]
    pub processes: Vec<GpuProcess>,
    /// These three are of one moment: that at which the target held most.
    pub target_memory_bytes: Option<u64>,
    pub other_memory_bytes: Option<u64>,
    /// Used, and of no process that the driver lists.
    #[serde(default)]
    pub unattributed_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target_memory_reason: Option<String>,
    /// Share of the driver's window (1/6–1 s) in which any kernel ran.
    pub sm_percent: Stat,
    /// The target's processes' share, summed, by the driver's own samples.
    #[serde(default)]
    pub target_sm_percent: Stat,
    /// Share of the driver's window in which device memory was read or written.
    #[serde(default)]
    pub memory_percent: Stat,
    /// The device's own counters (GPM, from Hopper on): shares of the windows of 250 ms that lie within the load. The mean is
    /// by time.
    #[serde(flatten)]
    pub counters: Counters,
    pub power_mw: Stat<u64>,
    /// `energy_mj` over the time that it is of, where that is known within 25%, else the mean of the readings.
    #[serde(default)]
    pub mean_power_mw: Option<f64>,
    /// `instant`; `average`: over a second, or it can't be told.
    #[serde(default)]
    pub power_source: Option<String>,
    pub memory_used_bytes: Stat<u64>,
    #[serde(flatten)]
    pub gauges: Gauges,
    /// All links together.
    #[serde(default)]
    pub nvlink_tx_kib_per_s: Option<f64>,
    #[serde(default)]
    pub nvlink_rx_kib_per_s: Option<f64>,
    /// Share of the samples in which the clocks were held back, by NVML's reasons.
    #[serde(default)]
    pub throttle: BTreeMap<String, f64>,
    pub energy_mj: Option<u64>,
    /// The truth lies within `energy_mj` ± this, as far as the driver's figures are true: always by the counter, in 95 of
    /// 100 cases where it is integrated.
    #[serde(default)]
    pub energy_error_mj: Option<u64>,
    /// `counter`, or `integrated`: from readings of power.
    pub energy_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub energy_reason: Option<String>,
    /// How often the counter was seen to move on; `null` where it was read too seldom to tell.
    #[serde(default)]
    pub energy_refresh_ns: Option<u64>,
    /// Mean power in the wait before the load (`--gpu-baseline`).
    pub idle_power_mw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idle_power_reason: Option<String>,
    /// Whether nothing computed on it in the wait before the load; `null`: there was none, or it can't be told.
    #[serde(default)]
    pub at_rest: Option<bool>,
    /// `energy_mj` without what the device would have used at rest.
    #[serde(default)]
    pub energy_above_idle_mj: Option<u64>,
    #[serde(default)]
    pub energy_above_idle_error_mj: Option<u64>,
    /// Processes of others that may have used it in the same time: its energy is theirs too.
    #[serde(default)]
    pub shared_with: Vec<u32>,
    /// What the evidence of this report says limits the run on this device. Of a sweep only where it is one thing in all
    /// steps.
    #[serde(default)]
    pub limited_by: Option<LimitedBy>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limited_by_reason: Option<String>,
    /// The figures that it rests on, by name.
    #[serde(default)]
    pub limited_by_evidence: BTreeMap<String, Value>,
}

/// A device in one step of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepDevice {
    /// Its place in `gpus`.
    pub device: usize,
    pub limited_by: Option<LimitedBy>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limited_by_reason: Option<String>,
    #[serde(default)]
    pub limited_by_evidence: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// The tensor units are near what they reach.
    Tensor,
    /// Other units, of integers or floating-point numbers, are. (In reports before these counters were read: the power was
    /// high.)
    Compute,
    /// The memory's bandwidth is.
    #[serde(alias = "memory_bandwidth")]
    Bandwidth,
    /// The device has work nearly all of the time, and none of its units is near its limit.
    #[serde(alias = "kernel_latency")]
    Latency,
    /// The device has no work most of the time, although requests are in flight: the server's work outside of it, or what
    /// it waits for.
    Host,
    /// The device waits for requests that the client could not send or read in time.
    Client,
    /// The device waits for requests.
    Idle,
    /// Of older reports: it was in use for a part of the time.
    Partial,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interruption {
    pub from_ns: u64,
    pub to_ns: u64,
    /// NVML's words.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigInstance {
    pub gpu_instance: Option<u32>,
    pub compute_instance: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedQuery {
    pub count: u64,
    /// NVML's words for the last.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuLimits {
    pub power_mw: Option<u64>,
    pub memory_bytes: Option<u64>,
    #[serde(default)]
    pub sm_clock_mhz: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuSample {
    pub t_ns: u64,
    pub memory_used_bytes: Option<u64>,
    /// Share of the driver's window (1/6–1 s) in which any kernel ran.
    pub sm_percent: Option<u32>,
    pub memory_percent: Option<u32>,
    pub power_mw: Option<u64>,
    pub temperature_c: Option<u32>,
    pub sm_clock_mhz: Option<u32>,
    /// `null`: not told.
    pub throttle: Option<Vec<String>>,
    /// Of the window that ended here.
    #[serde(flatten)]
    pub counters: CounterSample,
}

/// Declares the figures of quantities that are one number each.
macro_rules! gauges {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// What is read at each look and is one number.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        pub struct Gauges {
            $($(#[$meta])* pub $name: Stat<u64>,)*
        }

        impl Gauges {
            pub const NAMES: [&str; [$(stringify!($name),)*].len()] = [$(stringify!($name),)*];

            /// Each figure by its name.
            pub fn from_fn(mut of: impl FnMut(&'static str) -> Stat<u64>) -> Self {
                Self { $($name: of(stringify!($name)),)* }
            }
        }
    };
}

gauges! {
    temperature_c,
    #[serde(default)]
    sm_clock_mhz,
    #[serde(default)]
    pcie_tx_kb_per_s,
    #[serde(default)]
    pcie_rx_kb_per_s,
}

/// Declares the figures of the device's own counters, and what one window of them holds.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the device's own counters told within the load. Of all SMs and of the time, if not said otherwise.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Stat,)*
        }

        impl Counters {
            pub const NAMES: [&str; [$(stringify!($name),)*].len()] = [$(stringify!($name),)*];

            /// Each figure by its name.
            pub fn from_fn(mut of: impl FnMut(&'static str) -> Stat) -> Self {
                Self { $($name: of(stringify!($name)),)* }
            }
        }

        /// One window of the device's own counters; absent where it was not told, or no window ended here.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct CounterSample {
            #[serde(skip_serializing_if = "Option::is_none")]
            pub counters_from_ns: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            pub counters_to_ns: Option<u64>,
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<f64>,)*
        }

        impl CounterSample {
            pub const NAMES: [&str; [$(stringify!($name),)*].len()] = [$(stringify!($name),)*];

            /// Each value by its name, without the window's ends.
            pub fn from_fn(mut of: impl FnMut(&'static str) -> Option<f64>) -> Self {
                Self { counters_from_ns: None, counters_to_ns: None, $($name: of(stringify!($name)),)* }
            }
        }
    };
}

counters! {
    /// Any work was on the device.
    busy_percent,
    /// SMs that held at least one warp.
    sm_active_percent,
    /// Warps that were on them, of those that would fit.
    sm_occupancy_percent,
    /// Integer operations.
    integer_percent,
    /// Tensor operations of any type.
    tensor_percent,
    /// Of the DRAM's theoretical bandwidth.
    dram_percent,
    /// Operations outside of the tensor units.
    fp64_percent,
    fp32_percent,
    fp16_percent,
    pcie_tx_mib_per_s,
    pcie_rx_mib_per_s,
    /// All links together.
    nvlink_tx_mib_per_s,
    nvlink_rx_mib_per_s,
}

/// From the driver's buffers, at its own times.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DriverSamples {
    /// (`t_ns`, mW)
    pub power: Vec<(u64, u64)>,
    /// (`t_ns`, percent)
    pub sm: Vec<(u64, u32)>,
    /// How far the times may be off: the driver's stamps are of another clock.
    pub clock_error_ns: Option<u64>,
}

/// A process that the driver listed on the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuProcess {
    /// In the initial pid namespace.
    pub host_pid: u32,
    /// `null`: not every process of the target is known by its host pid.
    pub target: Option<bool>,
    pub graphics: bool,
    /// The most that it held.
    pub memory_bytes: Option<u64>,
    /// The mean of the driver's samples of it.
    pub sm_percent: Option<f64>,
}

/// The devices that the target uses, together. Sums only: a mean over unlike devices says nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuSummary {
    /// Which they are, by their place in `gpus`.
    pub devices: Vec<usize>,
    /// Why a sum is `null`, or why no device counts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    pub target_memory_bytes: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// The sum of the devices' `mean_power_mw`.
    pub power_mw: Option<f64>,
    pub energy_mj: Option<u64>,
    pub energy_error_mj: Option<u64>,
    pub energy_above_idle_mj: Option<u64>,
    pub energy_above_idle_error_mj: Option<u64>,
    /// `CUDA_VISIBLE_DEVICES` of the target's processes, by pid: a hint, not a proof of use.
    pub cuda_visible_devices: BTreeMap<u32, String>,
    /// What polling cost.
    pub poll: GpuPoll,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuPoll {
    pub ticks: u64,
    pub calls: u64,
    /// CPU time of the polling thread.
    pub cpu_ns: u64,
    /// Time within the driver's calls.
    pub call_ns: u64,
    /// The call that the driver did not come back from, and since when.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hanging_call: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hanging_since_ns: Option<u64>,
    pub slowest_call: Option<String>,
    pub slowest_call_ns: Option<u64>,
}
