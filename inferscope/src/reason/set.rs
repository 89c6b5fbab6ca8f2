//! Reasons for unknown figures of the process set.

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SetReason {
    /// In words: why there is no target, or no observer.
    #[error("{0}")]
    Unobserved(String),
}
