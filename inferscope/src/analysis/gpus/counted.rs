//! The devices that count, together, over any part of the load.
//!
//! Owns which devices are summed and when their energy is the target's. Never divides the energy of a device that
//! others used as well. A part of `gpus`; `joules` and `phase_energy` ask it.

use crate::clock::Origin;
use crate::event::GpuDevice;
use crate::plan::GpuChoice;
use crate::report::model;

use super::super::energy::Energy;
use super::super::window::Window;
use super::super::{Inputs, no_gpu};
use super::spent::{OF_THE_WHOLE, counter, energy_of, there_in};
use super::usage::shared_with;
use super::{Counter, Members, Span};

pub(in crate::analysis) struct Counted<'a> {
    origin: Origin,
    members: &'a Members,
    devices: Result<Vec<&'a GpuDevice>, String>,
}

impl<'a> Counted<'a> {
    pub(in crate::analysis) fn of(
        inputs: &Inputs<'a>,
        members: &'a Members,
        summary: Option<&model::GpuSummary>,
    ) -> Self {
        let devices = match summary {
            None => Err(format!("no energy reading: {}", no_gpu(inputs.gpu))),
            Some(summary) if summary.devices.is_empty() => {
                Err(summary.reason.clone().unwrap_or_else(|| "no device counts".to_owned()))
            }
            Some(summary) => Ok(summary.devices.iter().map(|i| &inputs.gpu.devices[*i]).collect()),
        };
        Self { origin: inputs.origin, members, devices }
    }

    /// What they used in these windows.
    ///
    /// # Errors
    /// In words: no device counts, one was shared, or the readings do not cover the windows.
    pub(in crate::analysis) fn energy(&self, windows: &[Window]) -> Result<Energy, String> {
        let span = Span(windows.to_vec());
        self.alone(&span)?.iter().try_fold(Energy::NONE, |sum, device| {
            let spent = energy_of(device, &span).map_err(|why| of_device(device, &why))?;
            Ok(sum.plus(spent.energy))
        })
    }

    /// The sum over the devices of what `of` makes of each one and its counter (or why it has none).
    ///
    /// # Errors
    /// As of `energy`, and of `of`.
    pub(in crate::analysis) fn each<T>(
        &self,
        windows: &[Window],
        of: impl Fn(&GpuDevice, &Result<Counter<'_>, String>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let one = |device: &&GpuDevice| {
            let of_one = if device.mig.is_some() {
                Err(OF_THE_WHOLE.to_owned())
            } else {
                there_in(device, windows).and_then(|()| of(device, &counter(device)))
            };
            of_one.map_err(|why| of_device(device, &why))
        };
        self.alone(&Span(windows.to_vec()))?.iter().map(one).collect()
    }

    /// The devices, unless others used one of them in that time.
    fn alone(&self, span: &Span) -> Result<&[&'a GpuDevice], String> {
        let devices = self.devices.as_ref().map_err(Clone::clone)?;
        for device in devices {
            let others = shared_with(self.origin, device, self.members, span);
            if !others.is_empty() {
                let others: Vec<String> = others.iter().map(u32::to_string).collect();
                return Err(format!(
                    "device {} was also used by others in that time (pid {}): its energy can't be divided",
                    device.index,
                    others.join(", ")
                ));
            }
        }
        Ok(devices)
    }
}

fn of_device(device: &GpuDevice, why: &str) -> String {
    format!("device {}: {why}", device.index)
}

/// Whose figures are summed: the devices that the target uses. Where that can't be told, those that `--gpu` names.
pub(super) fn devices(inputs: &Inputs<'_>, gpus: &[model::Gpu]) -> Result<Vec<usize>, String> {
    let named = matches!(inputs.plan.observe.gpu, GpuChoice::These(_));
    let mut devices = Vec::new();
    for (i, gpu) in gpus.iter().enumerate() {
        // A MIG instance is a part of the device before it.
        if gpu.mig.is_some() && gpus.iter().any(|g| g.mig_parent && g.index == gpu.index) {
            continue;
        }
        match gpu.used_by_target {
            Some(true) => devices.push(i),
            Some(false) => {}
            None if named => devices.push(i),
            None => {
                let why = gpu.used_by_target_reason.as_deref().unwrap_or("not told");
                return Err(format!(
                    "whether the target uses device {} can't be told ({why}): name its devices with --gpu",
                    gpu.index
                ));
            }
        }
    }
    if devices.is_empty() { Err("the target uses none of the devices".to_owned()) } else { Ok(devices) }
}
