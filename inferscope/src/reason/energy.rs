//! Reasons for unknown energy figures.

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnergyReason {
    #[error("the number of tokens is unknown")]
    TokensUnknown,
}
