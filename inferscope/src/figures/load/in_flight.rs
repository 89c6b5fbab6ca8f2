//! Requests under way over the load's window.
//!
//! Owns their mean and peak. Called by `figures::load`.

use crate::aggregate::load::delivered::PhaseWindows;
use crate::event::{InFlight, PhaseLog};
use crate::units::Nanos;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InFlightFigures {
    /// Over time.
    pub(crate) mean: Option<f64>,
    pub(crate) max: Option<u32>,
    /// They go on to the last byte.
    pub(crate) samples: Vec<InFlight>,
}

impl InFlightFigures {
    pub(crate) fn of<'a>(phases: impl Iterator<Item = &'a PhaseLog>) -> Self {
        let (mut area, mut time, mut max) = (0.0, 0.0, None);
        let mut samples = Vec::new();
        for phase in phases {
            let Some(windows) = PhaseWindows::of(phase) else { continue };
            let window = windows.main();
            let ends = phase.in_flight.iter().skip(1).map(|s| s.t).chain([windows.whole.to]);
            for (stretch, end) in phase.in_flight.iter().zip(ends) {
                // No stretch goes on where the load ended.
                let part = end.min(window.to).since(stretch.t.max(window.from));
                if part > Nanos::ZERO {
                    area += stretch.mean * part.as_secs_f64();
                    time += part.as_secs_f64();
                    max = max.max(Some(stretch.max));
                }
                samples.push(*stretch);
            }
        }
        Self { mean: (time > 0.0).then(|| area / time), max, samples }
    }
}
