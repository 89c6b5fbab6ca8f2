//! Why a figure is unknown.
//!
//! Owns the reasons, which the report shows beside a `null`. Code matches on the variant, never on the words. Used by `figures`
//! and `verdict`; `report::build` writes the words.

mod device;
mod energy;
mod load;
mod set;

pub use device::DeviceReason;
pub use energy::{Computing, EnergyReason};
pub use load::{LoadReason, Saturation};
pub use set::SetReason;

/// A figure, or why there is none.
pub type Known<T> = Result<T, Reason>;

/// One variant a concern.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Reason {
    #[error(transparent)]
    Load(#[from] LoadReason),
    #[error(transparent)]
    Set(#[from] SetReason),
    #[error(transparent)]
    Device(#[from] DeviceReason),
    #[error(transparent)]
    Energy(#[from] EnergyReason),
}

/// A figure and its reason, as two fields of the report hold them.
pub trait Apart<T> {
    fn apart(self) -> (Option<T>, Option<String>);
}

impl<T, E: std::fmt::Display> Apart<T> for Result<T, E> {
    fn apart(self) -> (Option<T>, Option<String>) {
        match self {
            Ok(value) => (Some(value), None),
            Err(reason) => (None, Some(reason.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_no_reason_and_a_reason_no_figure() {
        let known: Known<u64> = Ok(7);
        assert_eq!(known.apart(), (Some(7), None));
        let unknown: Known<u64> = Err(LoadReason::NothingSent.into());
        assert_eq!(unknown.apart(), (None, Some("nothing was sent".to_owned())));
    }
}
