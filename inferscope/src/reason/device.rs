//! Reasons for unknown figures of a device.

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeviceReason {
    /// In NVML's words.
    #[error("{0}")]
    Nvml(String),
}
