//! What the calls of a real driver take.
//!
//! Owns the table, measured on an H200 (driver 580.159) under load: the means of twenty calls each through NVIDIA's Python
//! client. A call that is made twice, first for the length of a list, takes its time with the list. Called by the exported
//! functions.

use std::ffi::c_uint;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::abi;

/// Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) wall: u64,
    pub(crate) cpu: u64,
}

const fn cost(wall: u64, cpu: u64) -> Cost {
    Cost { wall, cpu }
}

/// Of a call that does not depend on what it is asked for.
pub(crate) fn of_call(call: &str) -> Cost {
    match call {
        "nvmlDeviceGetTotalEnergyConsumption" => cost(6_995, 5_656),
        "nvmlDeviceGetPcieThroughput" => cost(21_635, 617),
        "nvmlDeviceGetPowerUsage" | "nvmlDeviceGetTemperature" => cost(3, 3),
        "nvmlDeviceGetClockInfo"
        | "nvmlDeviceGetCurrentClocksThrottleReasons"
        | "nvmlDeviceGetUtilizationRates" => cost(2, 2),
        "nvmlDeviceGetMemoryInfo" | "nvmlDeviceGetMemoryInfo_v2" => cost(428, 24),
        _ if call.starts_with("nvmlDeviceGetComputeRunningProcesses") => cost(49, 49),
        _ if call.starts_with("nvmlDeviceGetGraphicsRunningProcesses") => cost(18, 18),
        _ => Cost::default(),
    }
}

/// Of the fields of one call together.
pub(crate) fn of_fields(fields: impl Iterator<Item = c_uint>) -> Cost {
    let each = fields.map(|field| match field {
        // With the power beside it 5,070 and 4,165.
        abi::FIELD_ENERGY => cost(5_060, 4_154),
        // Both together 359 and 232.
        abi::FIELD_PCIE_TX | abi::FIELD_PCIE_RX => cost(180, 116),
        _ => cost(10, 10),
    });
    each.fold(Cost::default(), |sum, one| cost(sum.wall + one.wall, sum.cpu + one.cpu))
}

pub(crate) fn of_samples(kind: c_uint) -> Cost {
    if kind == 0 { cost(321, 321) } else { cost(2_522, 1_442) }
}

pub(crate) const PROCESS_UTILIZATION: Cost = cost(4_053, 1_497);

/// Works, then waits.
pub(crate) fn spend(cost: Cost) {
    if cost.wall == 0 {
        return;
    }
    let now = |clock| {
        let t = clock_gettime(clock);
        t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned()
    };
    let began = now(ClockId::Monotonic);
    let until = now(ClockId::ThreadCPUTime) + cost.cpu * 1_000;
    while now(ClockId::ThreadCPUTime) < until {
        std::hint::spin_loop();
    }
    // The kernel wakes a sleeper some 50 µs late; what is shorter is left out.
    let left = (cost.wall * 1_000).saturating_sub(now(ClockId::Monotonic) - began);
    if left > 100_000 {
        std::thread::sleep(Duration::from_nanos(left - 50_000));
    }
}
