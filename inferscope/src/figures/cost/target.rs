//! The energy of the target, over any part of the load.
//!
//! Owns when the energy of the devices that count is the target's. Never divides the energy of a device that others used as
//! well. A part of `cost`.

use crate::clock::Window;
use crate::event::GpuLog;
use crate::figures::devices::{Members, Span, Total, shared_with};
use crate::figures::energy::{Energy, EnergyTable, Metered};
use crate::reason::{DeviceReason, EnergyReason};

/// The devices that count.
pub(crate) struct TargetDevices<'a> {
    table: &'a EnergyTable<'a>,
    members: &'a Members,
    places: Result<Vec<usize>, EnergyReason>,
}

impl<'a> TargetDevices<'a> {
    /// `total`: `None` where no device was polled.
    pub(crate) fn new(
        log: &GpuLog,
        table: &'a EnergyTable<'a>,
        members: &'a Members,
        total: Option<&Result<Total, DeviceReason>>,
    ) -> Self {
        let places = match total {
            None => Err(EnergyReason::NoReading(no_device(log))),
            Some(Err(why)) => Err(why.clone().into()),
            Some(Ok(total)) => Ok(total.devices.clone()),
        };
        Self { table, members, places }
    }

    /// What they used in these windows.
    ///
    /// # Errors
    /// No device counts, one was shared, or the readings do not cover the windows.
    pub(crate) fn energy(&self, windows: &[Window]) -> Result<Energy, EnergyReason> {
        self.alone(windows)?.iter().try_fold(Energy::NONE, |sum, place| {
            let spent = self.table.energy(*place, windows).map_err(|why| self.of_device(*place, why))?;
            Ok(sum.plus(spent.energy))
        })
    }

    /// What `of` makes of each device.
    ///
    /// # Errors
    /// As of `energy`, and of `of`.
    pub(super) fn each<T>(
        &self,
        windows: &[Window],
        of: impl Fn(&Metered<'a>) -> Result<T, EnergyReason>,
    ) -> Result<Vec<T>, EnergyReason> {
        let one = |place: &usize| {
            let device = self.table.device(*place);
            let made = device.is_whole().and_then(|()| {
                windows.iter().try_for_each(|window| device.unbroken(*window).map(drop))?;
                of(device)
            });
            made.map_err(|why| self.of_device(*place, why))
        };
        self.alone(windows)?.iter().map(one).collect()
    }

    /// The devices, unless others used one of them in that time.
    fn alone(&self, windows: &[Window]) -> Result<&[usize], EnergyReason> {
        let places = self.places.as_ref().map_err(Clone::clone)?;
        let span = Span(windows.to_vec());
        for place in places {
            let device = self.table.device(*place).device;
            let pids = shared_with(device, self.members, &span);
            if !pids.is_empty() {
                return Err(EnergyReason::Shared { index: device.index, pids });
            }
        }
        Ok(places)
    }

    fn of_device(&self, place: usize, why: EnergyReason) -> EnergyReason {
        EnergyReason::OfDevice { index: self.table.device(place).device.index, why: Box::new(why) }
    }
}

/// Why there is no device at all.
pub(crate) fn no_device(log: &GpuLog) -> DeviceReason {
    log.unavailable.clone().map_or(DeviceReason::NoneListed, DeviceReason::Unavailable)
}
