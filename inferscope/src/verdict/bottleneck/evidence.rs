//! What is known of one device over one load.
//!
//! Owns the gathering: which figure is of the counters, which of the driver's time shares, and in which part of the load
//! there was a request to work on. Concludes nothing. A part of `bottleneck`.

use crate::event::{GpmMetric, GpuLog};
use crate::figures::devices::{Activity, Device, activity};
use crate::reason::DeviceReason;

use super::{Load, Shown, ShownEvidence, bandwidth};

/// Counters that tell of a smaller part of the load are no evidence of it.
const LEAST_COVERED: f64 = 0.5;

/// What the units did, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Units {
    pub(super) sm_active: f64,
    pub(super) tensor: f64,
    pub(super) dram: f64,
    /// Integer and floating-point units outside of the tensor units: the busiest of them.
    pub(super) other: (&'static str, f64),
    pub(super) occupancy: Option<f64>,
}

/// Everything that one verdict rests on.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    /// Percent of the time in which the device had work.
    pub(super) busy: Result<f64, DeviceReason>,
    /// By its own counters; else by the driver's share of the time in which a kernel ran.
    pub(super) by_counters: bool,
    pub(super) units: Result<Units, DeviceReason>,
    pub(super) in_flight: Option<f64>,
    pub(super) in_flight_least: Option<f64>,
    pub(super) was_sent: bool,
    pub(super) shared: bool,
    pub(super) client: bool,
    /// The sum over all devices that are judged; filled in by `bottleneck`.
    pub(super) busy_together: Option<f64>,
    /// MiB a second, the busier direction.
    pub(super) pcie: Option<f64>,
    /// The driver's share of the time in which memory was accessed.
    pub(super) memory_time: Option<f64>,
    /// Percent of the peak bandwidth that decoding read at most.
    pub(super) most_read: Option<f64>,
    pub(super) shown: ShownEvidence,
}

impl Evidence {
    pub(super) fn new(log: &GpuLog, device: &Device<'_>, load: Option<&Load<'_>>) -> Self {
        let did = activity(log, device.log, load.map(|l| l.windows).unwrap_or_default());
        let counters = &did.counters;
        let covered = did.covered >= LEAST_COVERED;
        let busy = match (counters.mean(GpmMetric::Busy).filter(|_| covered), &did.sm_percent) {
            (Some(busy), _) => Ok((busy, true)),
            (None, Ok(kernels)) => Ok((kernels.mean, false)),
            (None, Err(why)) => Err(why.clone()),
        };
        let pcie = [GpmMetric::PcieTx, GpmMetric::PcieRx].into_iter().filter_map(|m| counters.mean(m));
        let steps = load.and_then(|l| l.alone_steps_per_s).zip(device.usage.memory.target_bytes);
        let most_read = device.log.name.as_deref().and_then(bandwidth::peak).zip(steps);
        let mut evidence = Self {
            by_counters: busy.as_ref().is_ok_and(|b| b.1),
            busy: busy.map(|b| b.0),
            units: units(&did, covered),
            in_flight: load.and_then(|l| l.in_flight),
            in_flight_least: load.and_then(|l| l.in_flight_least),
            was_sent: load.is_some(),
            shared: !device.usage.shared_with.is_empty(),
            client: false,
            busy_together: None,
            pcie: pcie.reduce(f64::max),
            memory_time: did.memory_percent.as_ref().ok().map(|stat| stat.mean),
            most_read: most_read
                .map(|(peak, (steps, bytes))| bandwidth::most_read_percent(peak, bytes, steps)),
            shown: ShownEvidence::new(),
        };
        evidence.shown = evidence.figures(&did);
        evidence
    }

    pub(super) fn busy_percent(&self) -> Option<f64> {
        self.busy.as_ref().ok().copied()
    }

    fn figures(&self, did: &Activity) -> ShownEvidence {
        let mean = |metric| did.counters.mean(metric);
        let figures = [
            ("busy_percent", self.busy_percent()),
            ("in_flight_percent", self.in_flight),
            ("in_flight_percent_at_least", self.in_flight_least.filter(|_| self.in_flight.is_none())),
            ("counters_cover_percent", Some(did.covered * 100.0).filter(|p| *p > 0.0)),
            ("sm_active_percent", mean(GpmMetric::SmActive)),
            ("sm_occupancy_percent", mean(GpmMetric::SmOccupancy)),
            ("tensor_percent", mean(GpmMetric::Tensor)),
            ("dram_percent", mean(GpmMetric::Dram)),
            ("integer_percent", mean(GpmMetric::Integer)),
            ("fp32_percent", mean(GpmMetric::Fp32)),
            ("fp16_percent", mean(GpmMetric::Fp16)),
            ("fp64_percent", mean(GpmMetric::Fp64)),
            ("pcie_mib_per_s", self.pcie),
            ("memory_accessed_percent_of_time", self.memory_time),
            ("decode_read_percent_at_most", self.most_read),
        ];
        let mut all: ShownEvidence =
            figures.into_iter().filter_map(|(name, v)| Some((name, Shown::Amount(v?)))).collect();
        if self.busy.is_ok() {
            let source = if self.by_counters { "counters" } else { "driver" };
            all.insert("busy_source", Shown::Source(source));
        }
        all
    }
}

fn units(did: &Activity, covered: bool) -> Result<Units, DeviceReason> {
    let c = &did.counters;
    let need = |metric| c.get(metric).as_ref().map(|stat| stat.mean).map_err(Clone::clone);
    let (sm_active, tensor, dram) =
        (need(GpmMetric::SmActive)?, need(GpmMetric::Tensor)?, need(GpmMetric::Dram)?);
    if !covered {
        return Err(DeviceReason::CountersCoverLittle(did.covered * 100.0));
    }
    let integer = need(GpmMetric::Integer)?;
    let others = [("FP32", GpmMetric::Fp32), ("FP16", GpmMetric::Fp16), ("FP64", GpmMetric::Fp64)];
    let others = others.into_iter().filter_map(|(name, metric)| Some((name, c.mean(metric)?)));
    let other = others.fold(("integer", integer), |most, one| if one.1 > most.1 { one } else { most });
    Ok(Units { sm_active, tensor, dram, other, occupancy: c.mean(GpmMetric::SmOccupancy) })
}

#[cfg(test)]
impl Evidence {
    /// As the counters tell it, with a request in flight all along.
    pub(super) fn made_up(busy: f64, units: Result<Units, DeviceReason>) -> Self {
        Self {
            busy: Ok(busy),
            by_counters: units.is_ok(),
            units,
            in_flight: Some(100.0),
            in_flight_least: Some(100.0),
            was_sent: true,
            shared: false,
            client: false,
            busy_together: Some(busy),
            pcie: None,
            memory_time: None,
            most_read: None,
            shown: ShownEvidence::new(),
        }
    }
}
