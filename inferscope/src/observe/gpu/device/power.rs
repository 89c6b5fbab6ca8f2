//! The power that a device draws.
//!
//! Owns which query answers it, and what its answer is. A part of `device`.

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::DeviceArchitecture;

use super::super::caller::Caller;
use super::super::nvml_ffi;
use super::throughput::read_fields;
use crate::clock::Mono;
use crate::event::{DeviceAnswer, PowerPoint, PowerSource, Query};
use crate::units::Nanos;

/// Whether there was an answer.
pub(super) fn read(device: &Device<'_>, caller: &mut Caller<'_>) -> bool {
    let mut before = Mono::now();
    let fields = [(Query::PowerInstant, nvml_ffi::POWER_INSTANT, 0)];
    let [field] = read_fields(device, caller, Query::Fields, fields);
    let mut mw = field.map(|field| field.value);
    if caller.policy.refuses(Query::PowerInstant) || caller.policy.refuses(Query::Fields) {
        before = Mono::now();
        mw = caller.ask(Query::Power, || device.power_usage()).map(u64::from);
    }
    if let Some(mw) = mw {
        let t = before.plus(Nanos(Mono::now().since(before).0 / 2));
        caller.send(DeviceAnswer::Power(PowerPoint { t, mw }));
    }
    mw.is_some()
}

/// Up to Turing the one query of power is of the moment; from Ampere on it is an average over a second, but for GA100
/// (nvml.h, nvmlDeviceGetPowerUsage), which is not told apart here.
pub(super) fn source(device: &Device<'_>, caller: &mut Caller<'_>) -> Option<PowerSource> {
    let instant = caller.ask(Query::Fields, || nvml_ffi::fields(device, &[(nvml_ffi::POWER_INSTANT, 0)]));
    if let Some(answer) = instant.and_then(|all| all.into_iter().next())
        && caller.noted(Query::PowerInstant, answer, Mono::now()).is_some()
    {
        return Some(PowerSource::Instant);
    }
    caller.ask(Query::Power, || device.power_usage())?;
    let old = matches!(
        caller.ask(Query::Architecture, || device.architecture()),
        Some(
            DeviceArchitecture::Kepler
                | DeviceArchitecture::Maxwell
                | DeviceArchitecture::Pascal
                | DeviceArchitecture::Volta
                | DeviceArchitecture::Turing
        )
    );
    Some(if old { PowerSource::Instant } else { PowerSource::Average })
}
