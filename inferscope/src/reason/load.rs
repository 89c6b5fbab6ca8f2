//! Reasons for unknown figures of the load.

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoadReason {
    #[error("nothing was sent")]
    NothingSent,
    /// One that was planned may have been sent in part, and lost.
    #[error("no load was measured")]
    NotMeasured,
    #[error("no measured request succeeded")]
    NoneSucceeded,
}
