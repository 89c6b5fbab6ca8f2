//! Reasons for unknown figures of a device.

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeviceReason {
    /// In NVML's words.
    #[error("{0}")]
    Nvml(String),
    #[error("it was not told within the window")]
    NotRead,
    /// Why there is no device, in words.
    #[error("{0}")]
    Unavailable(String),
    #[error("NVML lists no device")]
    NoneListed,
    #[error("no device counts")]
    NoneCounts,
    #[error("the target uses none of the devices")]
    NoneUsed,
    #[error("whether the target uses device {index} can't be told ({why}): name its devices with --gpu")]
    UseUnknown { index: u32, why: Box<Self> },
    #[error("not told")]
    NotTold,
    #[error("the device does not tell which processes use it")]
    NoProcessList,
    #[error("there is no target")]
    NoTarget,
    #[error("not every process of the target is known by its host pid")]
    HostPidsUnknown,
    #[error("the target does not use it")]
    NotUsed,
    #[error("the driver tells no process's share of the device")]
    NoShares,
    #[error("the device does not tell how much memory a process of the target uses")]
    MemoryUntold,
    #[error("the device's counters (GPM) were not read")]
    CountersNotRead,
    #[error("no window of the device's counters (250 ms) lies within the load")]
    NoCounterWindow,
    #[error("the load was too short for the driver's windows (up to 1 s)")]
    DriverWindowTooLong,
    #[error("they told of {0:.0}% of the load only")]
    CountersCoverLittle(f64),
}
