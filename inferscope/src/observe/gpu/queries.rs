//! How each query is made: the NVML call of each gauge, and how often any query is worth its cost.
//!
//! Owns the table. The names and units are in `event::query`. A new gauge takes a line there, one here, and its field in the
//! report's model.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

use crate::event::{Gauge, Query};
use crate::units::Nanos;

pub(super) type GaugeCall = fn(&Device<'_>) -> Result<u32, NvmlError>;

/// The call that answers it.
pub(super) const fn call(gauge: Gauge) -> GaugeCall {
    match gauge {
        Gauge::Temperature => |device| device.temperature(TemperatureSensor::Gpu),
        Gauge::SmClock => |device| device.clock_info(Clock::SM),
        Gauge::PcieTx => |device| device.pcie_throughput(PcieUtilCounter::Send),
        Gauge::PcieRx => |device| device.pcie_throughput(PcieUtilCounter::Receive),
    }
}

/// The counter whose rate it is, where the device has that; the call is dear.
pub(super) const fn counter(gauge: Gauge) -> Option<Query> {
    match gauge {
        Gauge::PcieTx => Some(Query::PcieTxBytes),
        Gauge::PcieRx => Some(Query::PcieRxBytes),
        Gauge::Temperature | Gauge::SmClock => None,
    }
}

/// A query is made no more often than this; zero: at each look. The costs are those of an H200 under load (driver 580), in
/// microseconds of CPU.
pub(super) const fn every(query: Query) -> Nanos {
    match query {
        // 5,656 µs; it moves on every 100 ms. The ends of the load's windows are bracketed beside this.
        // 232 µs.
        Query::Energy | Query::PcieCounters => Nanos::from_millis(1_000),
        // 49 to 198 µs.
        Query::ComputeProcesses | Query::GraphicsProcesses => Nanos::from_millis(500),
        // 617 µs, and 21 ms until it answers: only where there are no counters.
        Query::Gauge(Gauge::PcieTx | Gauge::PcieRx) => Nanos::from_millis(5_000),
        // 1,497 µs; an answer is of all the time since the one before.
        Query::ProcessSm => Nanos::from_millis(2_000),
        // 321 and 1,442 µs; then by how long the driver keeps them.
        Query::PowerSamples | Query::SmSamples => Nanos::from_millis(400),
        // Not measured: no NVLink there.
        Query::NvlinkCounters => Nanos::from_millis(100),
        // Power of the moment 11 µs, memory 24 µs, utilisation, temperature, clock and throttling 2 or 3 µs each.
        _ => Nanos::ZERO,
    }
}

/// Answered for a window as a whole, and made seldom: at a window's ends they are due at the next look.
pub(super) const AT_EDGES: [Query; 5] = [
    Query::ProcessSm,
    Query::ComputeProcesses,
    Query::GraphicsProcesses,
    Query::PcieCounters,
    Query::NvlinkCounters,
];
