//! The devices that the target uses, together.
//!
//! Owns which devices are summed. Sums only: a mean over unlike devices says nothing. A part of `devices`.

use crate::figures::energy::Energy;
use crate::reason::{DeviceReason, EnergyReason};

use super::Device;

/// Over the devices that count.
#[derive(Debug)]
pub(crate) struct Total {
    /// Their places.
    pub(crate) devices: Vec<usize>,
    pub(crate) target_memory_bytes: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) power_mw: Option<f64>,
    pub(crate) energy: Result<Energy, EnergyReason>,
    pub(crate) above_idle: Option<Energy>,
}

/// `named`: `--gpu` names the devices, so that they count where it can't be told which the target uses.
///
/// # Errors
/// No device counts, or it can't be told which.
pub(crate) fn total(devices: &[Device<'_>], named: bool) -> Result<Total, DeviceReason> {
    let places = counted(devices, named)?;
    let used: Vec<&Device<'_>> = places.iter().map(|i| &devices[*i]).collect();
    let sum = |get: fn(&Device<'_>) -> Option<u64>| {
        used.iter().try_fold(0_u64, |sum, d| Some(sum.saturating_add(get(d)?)))
    };
    let energy = used.iter().try_fold(Energy::NONE, |sum, device| match &device.energy {
        Ok(spent) => Ok(sum.plus(spent.energy)),
        Err(why) => Err(EnergyReason::OfDevice { index: device.log.index, why: Box::new(why.clone()) }),
    });
    Ok(Total {
        target_memory_bytes: sum(|d| d.usage.memory.target_bytes),
        memory_bytes: sum(|d| d.log.memory_total_bytes),
        power_mw: used.iter().map(|d| d.mean_power_mw).sum(),
        energy,
        above_idle: used.iter().try_fold(Energy::NONE, |sum, d| Some(sum.plus(d.above_idle?))),
        devices: places,
    })
}

/// The devices that the target uses. Where that can't be told, those that `--gpu` names.
fn counted(all: &[Device<'_>], named: bool) -> Result<Vec<usize>, DeviceReason> {
    let mut places = Vec::new();
    for (i, device) in all.iter().enumerate() {
        // A MIG instance is a part of the device before it.
        let log = device.log;
        if log.mig.is_some() && all.iter().any(|d| d.log.mig_parent && d.log.index == log.index) {
            continue;
        }
        match &device.usage.used {
            Ok(true) => places.push(i),
            Ok(false) => {}
            Err(_) if named => places.push(i),
            Err(why) => {
                return Err(DeviceReason::UseUnknown { index: log.index, why: Box::new(why.clone()) });
            }
        }
    }
    if places.is_empty() { Err(DeviceReason::NoneUsed) } else { Ok(places) }
}
