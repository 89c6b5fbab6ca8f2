//! Joules that are divided among tokens.
//!
//! Owns the arithmetic of a figure and its error. A part of `cost`.

use crate::figures::energy::Energy;

/// The truth lies within `joules` ± `error`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Joules {
    pub(crate) joules: f64,
    pub(crate) error: f64,
}

impl Joules {
    pub(crate) const fn of(energy: Energy) -> Self {
        Self { joules: energy.mj / 1e3, error: energy.error_mj / 1e3 }
    }

    pub(crate) const fn each(self, n: u64) -> Self {
        Self { joules: self.joules / n as f64, error: self.error / n as f64 }
    }

    pub(crate) fn times(self, n: f64) -> Self {
        Self { joules: self.joules * n, error: self.error * n }
    }

    /// Of what one of them is the joules, so many for a joule.
    pub(crate) fn inverse(self) -> f64 {
        1.0 / self.joules
    }

    /// The wider side: what the error makes of the joules is not the same up and down.
    pub(crate) fn inverse_error(self) -> f64 {
        1.0 / (self.joules - self.error) - 1.0 / self.joules
    }
}
