//! The windows that a device's figures are of.
//!
//! Owns the choice: those of the load, else the time of polling but for a wait at rest and what followed until a command ran.
//! A part of `devices`.

use crate::clock::{Mono, Window};
use crate::event::GpuLog;

#[derive(Debug, Clone)]
pub(crate) struct Span(pub(crate) Vec<Window>);

impl Span {
    /// `None`: devices were never polled, and nothing was sent.
    pub(crate) fn of(log: &GpuLog, load: &[Window]) -> Option<Self> {
        if !load.is_empty() {
            return Some(Self(load.to_vec()));
        }
        let began = log.began.max(log.baseline.map(|rest| rest.to));
        let after = |w: Window| Window { from: w.from.max(began.unwrap_or(w.from)), to: w.to };
        log.polled.map(|polled| Self(vec![after(polled)]))
    }

    pub(crate) fn holds(&self, t: Mono) -> bool {
        self.0.iter().any(|w| w.holds(t))
    }

    /// Whether any of it lies between the two.
    pub(crate) fn meets(&self, from: Mono, to: Mono) -> bool {
        self.0.iter().any(|w| w.meets(from, to))
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.iter().map(|w| w.length().as_secs_f64()).sum()
    }
}
