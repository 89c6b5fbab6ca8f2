//! The devices that are to be polled.
//!
//! Owns the opening of the library, the choice of `--gpu`, and how a device is found again that was away. Used by
//! `worker`.

use std::path::Path;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::caller::Outlet;
use super::device::Watched;
use super::nvml_ffi;
use crate::event::{DeviceEvent, DeviceIdentity};
use crate::plan::{GpuChoice, ObservePlan};

/// NVML with the devices that are to be polled.
pub(super) struct Selection {
    nvml: Nvml,
    /// By UUID or index.
    these: Vec<Which>,
}

#[derive(Debug, Clone)]
enum Which {
    Index(u32),
    Uuid(String),
}

pub(super) fn devices(plan: &ObservePlan) -> Result<Selection, String> {
    if plan.gpu == GpuChoice::Off {
        return Err("--gpu off".to_owned());
    }
    let nvml = open(plan.nvml_lib.as_deref())?;
    let count = nvml.device_count().map_err(|e| format!("NVML can't count the devices: {e}"))?;
    let these: Vec<Which> = match &plan.gpu {
        GpuChoice::These(names) => names
            .iter()
            .map(|name| match name.parse::<u32>() {
                Ok(index) if index < count => Ok(Which::Index(index)),
                Ok(index) => Err(format!("there is no device {index}, NVML lists {count}")),
                Err(_) => nvml
                    .device_by_uuid(name.as_str())
                    .map(|_| Which::Uuid(name.clone()))
                    .map_err(|e| format!("device {name}: {e}")),
            })
            .collect::<Result<_, _>>()?,
        _ => (0..count).map(Which::Index).collect(),
    };
    if these.is_empty() {
        return Err("NVML lists no device".into());
    }
    Ok(Selection { nvml, these })
}

fn open(library: Option<&Path>) -> Result<Nvml, String> {
    let opened = match library {
        Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
        None => Nvml::init(),
    };
    opened.map_err(|e| match e {
        NvmlError::LibloadingError(_) => match library {
            Some(path) => format!("NVML can't be loaded from {}", path.display()),
            None => "no NVIDIA driver: libnvidia-ml.so.1 can't be loaded".to_owned(),
        },
        other => format!("NVML can't be used: {other}"),
    })
}

impl Selection {
    /// Every chosen device, and after a device that is cut into MIG instances those. What can't be had is only noted.
    pub(super) fn watched<'s>(&'s self, outlet: &'s Outlet) -> Vec<Watched<'s>> {
        let driver = self.nvml.sys_driver_version().ok();
        let mut all = Vec::new();
        for which in &self.these {
            let (index, found) = match which {
                Which::Index(index) => (*index, self.nvml.device_by_index(*index)),
                Which::Uuid(uuid) => {
                    let found = self.nvml.device_by_uuid(uuid.as_str());
                    let parent = |d: &Device<'_>| d.mig_parent_device().and_then(|p| p.index());
                    let index = found.as_ref().ok().and_then(|d| d.index().or_else(|_| parent(d)).ok());
                    (index.unwrap_or_default(), found)
                }
            };
            let device = match found {
                Ok(device) => device,
                Err(e) => {
                    outlet.send(DeviceEvent::Missing { index, driver: driver.clone(), words: e.to_string() });
                    continue;
                }
            };
            let is_mig = device.mig_is_mig_device_handle().unwrap_or(false);
            let instances = if is_mig { Vec::new() } else { instances(&device) };
            let identity = |index, mig_parent| DeviceIdentity {
                index,
                driver: driver.clone(),
                mig_parent,
                ..DeviceIdentity::default()
            };
            let place = all.len();
            all.push(Watched::new(device, is_mig, identity(index, !instances.is_empty()), (outlet, place)));
            for instance in instances {
                let place = all.len();
                all.push(Watched::new(instance, true, identity(index, false), (outlet, place)));
            }
        }
        all
    }
}

impl Selection {
    /// The device of that name as it is now, which may be another handle than before.
    pub(super) fn again(&self, name: (Option<u32>, Option<&str>)) -> Result<Device<'_>, NvmlError> {
        match name {
            (_, Some(uuid)) => self.nvml.device_by_uuid(uuid),
            (Some(index), None) => self.nvml.device_by_index(index),
            (None, None) => Err(NvmlError::NotFound),
        }
    }

    /// Once more: a driver that was reloaded knows nothing of the first time. `begun` is whether that has not ended; the
    /// wrapper ends the library too, and an end too many does nothing (nvml.h).
    pub(super) fn begin_anew(&self, begun: &mut bool) -> Result<(), NvmlError> {
        if *begun {
            match nvml_ffi::shut_down(&self.nvml) {
                Ok(()) | Err(NvmlError::Uninitialized) => *begun = false,
                Err(error) => return Err(error),
            }
        }
        nvml_ffi::initialise(&self.nvml)?;
        *begun = true;
        Ok(())
    }
}

fn instances<'n>(device: &Device<'n>) -> Vec<Device<'n>> {
    // NVML_DEVICE_MIG_ENABLE
    if !device.mig_mode().is_ok_and(|mode| mode.current == 1) {
        return Vec::new();
    }
    let most = device.mig_device_count().unwrap_or(0);
    (0..most).filter_map(|i| device.mig_device_by_index(i).ok()).collect()
}
