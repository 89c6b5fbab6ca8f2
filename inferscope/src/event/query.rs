//! What is asked of a device: one declaration a query.
//!
//! Owns the names, which are those of the report and end in the unit, and the numbers by which NVML knows the device's own
//! counters. The calls are in `observe::gpu::queries`.

/// Declares the queries that need a call of their own.
macro_rules! queries {
    ($($(#[$doc:meta])* $query:ident = $name:literal,)*) => {
        /// One question to NVML about a device.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Query {
            $($(#[$doc])* $query,)*
            Gauge(Gauge),
            /// A part of what [`Query::GpmMetrics`] answers.
            Gpm(GpmMetric),
        }

        impl Query {
            const PLAIN: &'static [Self] = &[$(Self::$query,)*];

            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$query => $name,)*
                    Self::Gauge(gauge) => gauge.name(),
                    Self::Gpm(metric) => metric.name(),
                }
            }
        }
    };
}

queries! {
    /// The library's beginning.
    Init = "nvmlInit_v2",
    /// The handle.
    Device = "device",
    Name = "name",
    Uuid = "uuid",
    PowerLimit = "power_limit_mw",
    SmClockMax = "sm_clock_max_mhz",
    Architecture = "architecture",
    /// `nvmlDeviceGetFieldValues` for the power of the moment.
    Fields = "fields",
    PowerInstant = "power_instant_mw",
    Power = "power_mw",
    /// All millijoules since the driver was loaded.
    Energy = "energy_mj",
    /// Shares of the time in which kernels ran, and in which memory was accessed.
    Utilization = "sm_percent",
    MemoryUsed = "memory_used_bytes",
    /// What holds the clocks back.
    Throttle = "throttle",
    /// `nvmlDeviceGetFieldValues` for NVLink's counters.
    NvlinkCounters = "nvlink_counters",
    NvlinkTx = "nvlink_tx_kib",
    NvlinkRx = "nvlink_rx_kib",
    /// `nvmlDeviceGetFieldValues` for PCIe's counters.
    PcieCounters = "pcie_counters",
    PcieTxBytes = "pcie_tx_bytes",
    PcieRxBytes = "pcie_rx_bytes",
    ComputeProcesses = "compute_processes",
    GraphicsProcesses = "graphics_processes",
    /// What the driver sampled by itself.
    PowerSamples = "power_samples",
    SmSamples = "sm_samples",
    ProcessSm = "process_sm_percent",
    /// A sample of the device's own counters.
    GpmSample = "gpm",
    /// The comparison of two such samples.
    GpmMetrics = "gpm_metrics",
}

impl Query {
    /// Every query for which a call is made.
    pub fn calls() -> impl Iterator<Item = Self> {
        Self::PLAIN.iter().copied().chain(Gauge::ALL.into_iter().map(Self::Gauge))
    }
}

/// Declares quantities that are read at a look and are one number each.
macro_rules! gauges {
    ($($(#[$doc:meta])* $gauge:ident = $name:literal,)*) => {
        /// What one call at a look tells as one whole number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Gauge {
            $($(#[$doc])* $gauge,)*
        }

        impl Gauge {
            pub const ALL: [Self; [$(Self::$gauge,)*].len()] = [$(Self::$gauge,)*];

            /// Of its query and of its figure in the report.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$gauge => $name,)*
                }
            }
        }
    };
}

gauges! {
    Temperature = "temperature_c",
    SmClock = "sm_clock_mhz",
    PcieTx = "pcie_tx_kb_per_s",
    PcieRx = "pcie_rx_kb_per_s",
}

/// Declares the metrics of GPM with their `NVML_GPM_METRIC_…`.
macro_rules! gpm_metrics {
    ($($(#[$doc:meta])* $metric:ident = $name:literal, $id:literal;)*) => {
        /// What NVML's GPU performance monitoring (GPM) measures on a device, from Hopper on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GpmMetric {
            $($(#[$doc])* $metric,)*
        }

        impl GpmMetric {
            pub const ALL: [Self; [$(Self::$metric,)*].len()] = [$(Self::$metric,)*];

            /// Of its query and of its figure in the report.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$metric => $name,)*
                }
            }

            /// `NVML_GPM_METRIC_…`
            #[must_use]
            pub const fn id(self) -> u32 {
                match self {
                    $(Self::$metric => $id,)*
                }
            }
        }
    };
}

gpm_metrics! {
    /// Of the time: any work was on the device.
    Busy = "busy_percent", 1;
    /// Of the SMs and the time: at least one warp was on them.
    SmActive = "sm_active_percent", 2;
    /// Of the warps that would fit.
    SmOccupancy = "sm_occupancy_percent", 3;
    /// Of the time, over all SMs: integer operations.
    Integer = "integer_percent", 4;
    /// Of the time, over all SMs: tensor operations of any type.
    Tensor = "tensor_percent", 5;
    /// Of the DRAM's theoretical bandwidth.
    Dram = "dram_percent", 10;
    /// Of the time, over all SMs: operations outside of the tensor units.
    Fp64 = "fp64_percent", 11;
    Fp32 = "fp32_percent", 12;
    Fp16 = "fp16_percent", 13;
    /// MiB a second.
    PcieTx = "pcie_tx_mib_per_s", 20;
    PcieRx = "pcie_rx_mib_per_s", 21;
    NvlinkTx = "nvlink_tx_mib_per_s", 61;
    NvlinkRx = "nvlink_rx_mib_per_s", 60;
}

impl GpmMetric {
    /// The others are rates.
    #[must_use]
    pub const fn is_percent(self) -> bool {
        !matches!(self, Self::PcieTx | Self::PcieRx | Self::NvlinkTx | Self::NvlinkRx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_query_has_a_name_of_its_own() {
        let all: Vec<Query> = Query::calls().chain(GpmMetric::ALL.into_iter().map(Query::Gpm)).collect();
        for query in &all {
            assert_eq!(all.iter().filter(|q| q.name() == query.name()).count(), 1, "{query:?}");
        }
    }

    #[test]
    fn each_metric_has_its_own_number_and_place() {
        for (place, metric) in GpmMetric::ALL.into_iter().enumerate() {
            assert_eq!(metric as usize, place);
            assert_eq!(GpmMetric::ALL.iter().filter(|m| m.id() == metric.id()).count(), 1, "{metric:?}");
        }
    }
}
