//! Each device's energy of each window, integrated once.
//!
//! Owns the table that the devices' own figures, their sum, a sweep's steps and the costs read. Over several windows a device's
//! energy is by its counter; where that fails in one of them, by whichever readings of power know the sum best. A part of
//! `energy`.

use std::cell::OnceCell;
use std::collections::HashMap;

use crate::clock::Window;
use crate::event::GpuLog;
use crate::reason::EnergyReason;

use super::{Energy, Metered, Readings, Source};

/// A device's energy over some windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spent {
    pub(crate) energy: Energy,
    pub(crate) source: Source,
}

/// One device in one window.
struct Cell {
    counted: Result<Energy, EnergyReason>,
    /// By each of [`WAYS`]; needed only where the counter fails.
    integrated: OnceCell<[Result<Energy, EnergyReason>; WAYS.len()]>,
}

const WAYS: [Readings; 2] = [Readings::Polled, Readings::Sampled];

pub(crate) struct EnergyTable<'a> {
    devices: Vec<Metered<'a>>,
    /// By window, in the order of the devices.
    cells: HashMap<Window, Vec<Cell>>,
}

impl<'a> EnergyTable<'a> {
    /// `windows`: all that are asked for later.
    pub(crate) fn new(log: &'a GpuLog, windows: &[Window]) -> Self {
        let devices: Vec<Metered<'_>> = log.devices.iter().map(Metered::new).collect();
        let cells = windows.iter().map(|w| (*w, devices.iter().map(|d| Cell::of(d, *w)).collect())).collect();
        Self { devices, cells }
    }

    pub(crate) fn device(&self, place: usize) -> &Metered<'a> {
        &self.devices[place]
    }

    /// Of one device over all of these windows.
    ///
    /// # Errors
    /// It is an instance, was away, or its readings do not cover them.
    pub(crate) fn energy(&self, place: usize, windows: &[Window]) -> Result<Spent, EnergyReason> {
        let device = &self.devices[place];
        device.is_whole()?;
        windows.iter().try_for_each(|window| device.unbroken(*window).map(drop))?;
        let made: Vec<Cell>;
        let cells: Vec<&Cell> = match windows.iter().map(|w| self.cells.get(w)?.get(place)).collect() {
            Some(cells) => cells,
            // A window that nobody announced.
            None => {
                made = windows.iter().map(|w| Cell::of(device, *w)).collect();
                made.iter().collect()
            }
        };
        let why = match sum(cells.iter().map(|cell| cell.counted.clone())) {
            Ok(energy) => return Ok(Spent { energy, source: Source::Counter }),
            Err(why) => why,
        };
        let by = |way: usize| {
            sum(cells.iter().zip(windows).map(|(cell, w)| cell.integrated(device, *w)[way].clone()))
        };
        let tried = [by(0), by(1)];
        let best = tried.iter().flatten().copied().min_by(|a, b| a.error_mj.total_cmp(&b.error_mj));
        match (best, tried) {
            (Some(energy), _) => Ok(Spent { energy, source: Source::Integrated }),
            (None, [Err(polled), _]) => Err(EnergyReason::Both(Box::new(why), Box::new(polled))),
            (None, [Ok(_), _]) => Err(why),
        }
    }
}

impl Cell {
    fn of(device: &Metered<'_>, window: Window) -> Self {
        Self {
            counted: device.counter().and_then(|counter| counter.within(window)),
            integrated: OnceCell::new(),
        }
    }

    fn integrated(
        &self,
        device: &Metered<'_>,
        window: Window,
    ) -> &[Result<Energy, EnergyReason>; WAYS.len()] {
        self.integrated.get_or_init(|| WAYS.map(|which| device.power(which, window)?.energy(window)))
    }
}

fn sum(all: impl Iterator<Item = Result<Energy, EnergyReason>>) -> Result<Energy, EnergyReason> {
    let mut all = all;
    all.try_fold(Energy::NONE, |sum, energy| Ok(sum.plus(energy?)))
}
