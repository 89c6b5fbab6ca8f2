//! The devices.
//!
//! Owns the shape of `gpus`; no arithmetic. A part of `model`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Stat;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub driver: Option<String>,
    pub used_by_target: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_by_target_reason: Option<String>,
    /// For each query: `ok`, or NVML's reason for refusing.
    pub capabilities: BTreeMap<String, String>,
    pub limits: GpuLimits,
    pub samples: Vec<GpuSample>,
    pub target_memory_bytes: Option<u64>,
    pub other_memory_bytes: Option<u64>,
    pub sm_percent: Stat,
    pub power_mw: Stat,
    pub memory_used_bytes: Stat,
    pub temperature_c: Stat,
    pub energy_mj: Option<u64>,
    pub energy_source: Option<String>,
    pub idle_power_mw: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuLimits {
    pub power_mw: Option<u64>,
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuSample {
    pub t_ns: u64,
    pub memory_used_bytes: Option<u64>,
    /// Share of the driver's window (1/6–1 s) in which any kernel ran.
    pub sm_percent: Option<u32>,
    pub memory_percent: Option<u32>,
    pub power_mw: Option<u64>,
    pub temperature_c: Option<u32>,
    pub sm_clock_mhz: Option<u32>,
    /// `null`: not queried.
    pub throttle: Option<Vec<String>>,
}
