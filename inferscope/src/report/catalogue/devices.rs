//! What each GPU did. Where requests were sent, every figure is of the load's window.
//!
//! A new counter of the device is one entry in [`COUNTERS`]: the text report and docs/figures.md follow.

use super::{Figure, Unit, Value};
use crate::report::model::Gpu;

type Entry = Figure<Gpu>;

pub const DEVICE: &[Entry] = &[
    Entry::new(
        "gpus[].sm_percent",
        "kernels ran",
        Unit::Percent,
        "share of the driver's window (1/6 to 1 s) in which any kernel ran: no measure of how much of the device was used",
        |g| Value::shares(&g.sm_percent),
    ),
    Entry::new(
        "gpus[].target_sm_percent",
        "kernels of the target ran",
        Unit::Percent,
        "the same share by the target's processes, by the driver's own samples",
        |g| Value::shares(&g.target_sm_percent),
    ),
    Entry::new(
        "gpus[].memory_percent",
        "memory was accessed",
        Unit::Percent,
        "share of the driver's window in which device memory was read or written",
        |g| Value::shares(&g.memory_percent),
    ),
    Entry::new("gpus[].memory_used_bytes", "memory", Unit::Bytes, "device memory in use, by whomever", |g| {
        Value::whole(&g.memory_used_bytes)
    }),
    Entry::new(
        "gpus[].target_memory_bytes",
        "memory of the target",
        Unit::Bytes,
        "what the target's processes held when they held most, by the driver's list of processes",
        |g| Value::count(g.target_memory_bytes, g.target_memory_reason.as_ref()),
    ),
    Entry::new(
        "gpus[].power_mw",
        "power",
        Unit::Milliwatts,
        "by readings, taken at random places of their interval",
        |g| Value::whole(&g.power_mw),
    ),
    Entry::new(
        "gpus[].mean_power_mw",
        "mean power",
        Unit::Milliwatts,
        "energy_mj over its time, where that is known within 25%, else the mean of the readings",
        |g| Value::number(g.mean_power_mw, g.power_mw.reason.as_ref()),
    ),
    Entry::new(
        "gpus[].idle_power_mw",
        "power at rest",
        Unit::Milliwatts,
        "the mean in the wait before the load (--gpu-baseline)",
        |g| Value::count(g.idle_power_mw, g.idle_power_reason.as_ref()),
    ),
    Entry::new(
        "gpus[].energy_mj",
        "energy",
        Unit::Millijoules,
        "the difference of the device's counter, else the area under its power; `energy_source` tells which",
        |g| match g.energy_mj {
            Some(mj) => Value::Number { value: mj as f64, error: g.energy_error_mj.map(|mj| mj as f64) },
            None => Value::unknown(g.energy_reason.as_ref()),
        },
    ),
    Entry::new("gpus[].temperature_c", "temperature", Unit::Celsius, "of the device's core", |g| {
        Value::whole(&g.gauges.temperature_c)
    }),
    Entry::new("gpus[].sm_clock_mhz", "clock", Unit::Megahertz, "of its SMs", |g| {
        Value::whole(&g.gauges.sm_clock_mhz)
    }),
    Entry::new("gpus[].pcie_tx_kb_per_s", "PCIe, sent", Unit::PerSecond("kB"), "by NVML, over 20 ms", |g| {
        Value::whole(&g.gauges.pcie_tx_kb_per_s)
    }),
    Entry::new(
        "gpus[].pcie_rx_kb_per_s",
        "PCIe, received",
        Unit::PerSecond("kB"),
        "by NVML, over 20 ms",
        |g| Value::whole(&g.gauges.pcie_rx_kb_per_s),
    ),
    Entry::new(
        "gpus[].nvlink_tx_kib_per_s",
        "NVLink, sent",
        Unit::PerSecond("KiB"),
        "all links together",
        |g| Value::number(g.nvlink_tx_kib_per_s, None),
    ),
    Entry::new(
        "gpus[].nvlink_rx_kib_per_s",
        "NVLink, received",
        Unit::PerSecond("KiB"),
        "all links together",
        |g| Value::number(g.nvlink_rx_kib_per_s, None),
    ),
];

/// The device's own counters (GPM), in windows of 250 ms; the mean is by time. The text shows the shares of its units, in
/// this order.
pub const COUNTERS: &[Entry] = &[
    Entry::new(
        "gpus[].sm_active_percent",
        "SMs active",
        Unit::Percent,
        "SMs that held at least one warp",
        |g| Value::shares(&g.counters.sm_active_percent),
    ),
    Entry::new(
        "gpus[].sm_occupancy_percent",
        "occupancy",
        Unit::Percent,
        "warps that were on the SMs, of those that would fit",
        |g| Value::shares(&g.counters.sm_occupancy_percent),
    ),
    Entry::new(
        "gpus[].tensor_percent",
        "tensor",
        Unit::Percent,
        "time in which the tensor units worked, on any type",
        |g| Value::shares(&g.counters.tensor_percent),
    ),
    Entry::new(
        "gpus[].integer_percent",
        "integer",
        Unit::Percent,
        "time in which integer units worked",
        |g| Value::shares(&g.counters.integer_percent),
    ),
    Entry::new(
        "gpus[].fp32_percent",
        "FP32",
        Unit::Percent,
        "time in which FP32 units worked, outside of the tensor units",
        |g| Value::shares(&g.counters.fp32_percent),
    ),
    Entry::new(
        "gpus[].dram_percent",
        "DRAM bandwidth",
        Unit::Percent,
        "of the DRAM's theoretical bandwidth",
        |g| Value::shares(&g.counters.dram_percent),
    ),
    Entry::new("gpus[].busy_percent", "busy", Unit::Percent, "any work was on the device", |g| {
        Value::shares(&g.counters.busy_percent)
    })
    .in_json_only(),
    Entry::new(
        "gpus[].fp64_percent",
        "FP64",
        Unit::Percent,
        "time in which FP64 units worked, outside of the tensor units",
        |g| Value::shares(&g.counters.fp64_percent),
    )
    .in_json_only(),
    Entry::new(
        "gpus[].fp16_percent",
        "FP16",
        Unit::Percent,
        "time in which FP16 units worked, outside of the tensor units",
        |g| Value::shares(&g.counters.fp16_percent),
    )
    .in_json_only(),
    Entry::new("gpus[].pcie_tx_mib_per_s", "PCIe, sent", Unit::PerSecond("MiB"), "by the device", |g| {
        Value::shares(&g.counters.pcie_tx_mib_per_s)
    })
    .in_json_only(),
    Entry::new("gpus[].pcie_rx_mib_per_s", "PCIe, received", Unit::PerSecond("MiB"), "by the device", |g| {
        Value::shares(&g.counters.pcie_rx_mib_per_s)
    })
    .in_json_only(),
    Entry::new(
        "gpus[].nvlink_tx_mib_per_s",
        "NVLink, sent",
        Unit::PerSecond("MiB"),
        "all links together",
        |g| Value::shares(&g.counters.nvlink_tx_mib_per_s),
    )
    .in_json_only(),
    Entry::new(
        "gpus[].nvlink_rx_mib_per_s",
        "NVLink, received",
        Unit::PerSecond("MiB"),
        "all links together",
        |g| Value::shares(&g.counters.nvlink_rx_mib_per_s),
    )
    .in_json_only(),
];
