//! What was told of one device over one load.
//!
//! Owns the gathering: which figure is of the counters, which of the driver's time shares, and in which part of the load
//! there was a request to work on. Concludes nothing. A part of `bottleneck`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::event::{GpuDevice, GpuLog, PhaseLog};
use crate::report::model::{self, Gpu};

use super::super::Inputs;
use super::super::gpus::{Told, told};
use super::super::load;
use super::super::load_aggregate::{Measured, StepDone};
use super::super::window::Window;
use super::bandwidth;

/// Counters that tell of a smaller part of the load are no evidence of it.
const LEAST_COVERED: f64 = 0.5;

/// A load, or one step of it.
pub(super) struct Load<'a> {
    windows: &'a [Window],
    /// Percent of the time in which a request was in flight: exactly, or at least.
    pub(super) in_flight: Option<f64>,
    pub(super) in_flight_least: Option<f64>,
    /// Of one stream after its first token, where no two requests were ever in flight together.
    alone_steps_per_s: Option<f64>,
}

impl<'a> Load<'a> {
    pub(super) fn whole(inputs: &Inputs<'_>, measured: &'a Measured) -> Self {
        let timing = measured.only().map(|done| &done.timing);
        let phases = measured.done.iter().flat_map(|d| &d.phases);
        Self::new(inputs, measured, measured.sums.windows(), phases, timing)
    }

    pub(super) fn step(inputs: &Inputs<'_>, measured: &Measured, done: &'a StepDone) -> Self {
        Self::new(inputs, measured, done.sums.windows(), done.phases.iter(), Some(&done.timing))
    }

    fn new<'p>(
        inputs: &Inputs<'_>,
        measured: &Measured,
        windows: &'a [Window],
        phases: impl Iterator<Item = &'p PhaseLog> + Clone,
        timing: Option<&model::Timing>,
    ) -> Self {
        let spans: Vec<(u64, u64)> =
            windows.iter().map(|w| (inputs.origin.at(w.from).0, inputs.origin.at(w.to).0)).collect();
        // Of those without a place in the list nothing is known but their number.
        let under_way = measured.requests.iter().map(|r| (r.sent_ns, r.done_ns)).collect();
        let in_flight = if measured.unlisted == 0 { share(under_way, &spans) } else { None };
        let counted = load::in_flight(inputs.origin, phases);
        // Of a number that is N at most, the mean over N is the least part of the time in which it is not 0.
        let at_least = |mean: f64, max: u32| (max > 0).then(|| (mean / f64::from(max)).min(1.0) * 100.0);
        let least = counted.mean.zip(counted.max).and_then(|(mean, max)| at_least(mean, max));
        Self {
            windows,
            in_flight,
            in_flight_least: in_flight.or(least),
            alone_steps_per_s: timing.filter(|_| counted.max == Some(1)).and_then(|t| t.decode_tokens_per_s),
        }
    }
}

/// Percent of these spans in which at least one request was in flight.
fn share(mut under_way: Vec<(u64, u64)>, spans: &[(u64, u64)]) -> Option<f64> {
    under_way.sort_unstable();
    let (mut used, mut time) = (0_u64, 0_u64);
    for &(from, to) in spans {
        time += to.saturating_sub(from);
        let mut until = from;
        for &(sent, done) in &under_way {
            let (begin, end) = (sent.max(until), done.min(to));
            if end > begin {
                used += end - begin;
                until = end;
            }
        }
    }
    (time > 0).then(|| used as f64 / time as f64 * 100.0)
}

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
    pub(super) busy: Result<f64, String>,
    /// By its own counters; else by the driver's share of the time in which a kernel ran.
    pub(super) by_counters: bool,
    pub(super) units: Result<Units, String>,
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
    told: BTreeMap<String, Value>,
}

impl Evidence {
    pub(super) fn of(log: &GpuLog, device: &GpuDevice, gpu: &Gpu, load: Option<&Load<'_>>) -> Self {
        let told = told(log, device, load.map(|l| l.windows).unwrap_or_default());
        let counters = &told.counters;
        let covered = told.covered >= LEAST_COVERED;
        let busy = match (counters.busy_percent.mean.filter(|_| covered), told.sm_percent.mean) {
            (Some(busy), _) => Ok((busy, true)),
            (None, Some(busy)) => Ok((busy, false)),
            (None, None) => Err(told.sm_percent.reason.clone().unwrap_or_else(|| "not told".to_owned())),
        };
        let pcie =
            [&counters.pcie_tx_mib_per_s, &counters.pcie_rx_mib_per_s].into_iter().filter_map(|s| s.mean);
        let steps = load.and_then(|l| l.alone_steps_per_s).zip(gpu.target_memory_bytes);
        let most_read = gpu.name.as_deref().and_then(bandwidth::peak).zip(steps);
        let mut evidence = Self {
            by_counters: busy.as_ref().is_ok_and(|b| b.1),
            busy: busy.map(|b| b.0),
            units: units(&told, covered),
            in_flight: load.and_then(|l| l.in_flight),
            in_flight_least: load.and_then(|l| l.in_flight_least),
            was_sent: load.is_some(),
            shared: !gpu.shared_with.is_empty(),
            client: false,
            busy_together: None,
            pcie: pcie.reduce(f64::max),
            memory_time: told.memory_percent.mean,
            most_read: most_read
                .map(|(peak, (steps, bytes))| bandwidth::most_read_percent(peak, bytes, steps)),
            told: BTreeMap::new(),
        };
        evidence.told = evidence.figures(&told);
        evidence
    }

    pub(super) fn busy_percent(&self) -> Option<f64> {
        self.busy.as_ref().ok().copied()
    }

    /// As the report shows it.
    pub(super) fn shown(&self) -> BTreeMap<String, Value> {
        self.told.clone()
    }

    fn figures(&self, told: &Told) -> BTreeMap<String, Value> {
        let c = &told.counters;
        let source = if self.by_counters { "counters" } else { "driver" };
        let figures = [
            ("busy_percent", self.busy_percent()),
            ("in_flight_percent", self.in_flight),
            ("in_flight_percent_at_least", self.in_flight_least.filter(|_| self.in_flight.is_none())),
            ("counters_cover_percent", Some(told.covered * 100.0).filter(|p| *p > 0.0)),
            ("sm_active_percent", c.sm_active_percent.mean),
            ("sm_occupancy_percent", c.sm_occupancy_percent.mean),
            ("tensor_percent", c.tensor_percent.mean),
            ("dram_percent", c.dram_percent.mean),
            ("integer_percent", c.integer_percent.mean),
            ("fp32_percent", c.fp32_percent.mean),
            ("fp16_percent", c.fp16_percent.mean),
            ("fp64_percent", c.fp64_percent.mean),
            ("pcie_mib_per_s", self.pcie),
            ("memory_accessed_percent_of_time", self.memory_time),
            ("decode_read_percent_at_most", self.most_read),
        ];
        let whole = |v: f64| json!((v * 10.0).round() / 10.0);
        let mut all: BTreeMap<String, Value> =
            figures.into_iter().filter_map(|(name, v)| Some((name.to_owned(), whole(v?)))).collect();
        if self.busy.is_ok() {
            all.insert("busy_source".to_owned(), json!(source));
        }
        all
    }
}

fn units(told: &Told, covered: bool) -> Result<Units, String> {
    let c = &told.counters;
    let need = |stat: &model::Stat| {
        stat.mean.ok_or_else(|| stat.reason.clone().unwrap_or_else(|| "not told".to_owned()))
    };
    let (sm_active, tensor, dram) =
        (need(&c.sm_active_percent)?, need(&c.tensor_percent)?, need(&c.dram_percent)?);
    if !covered {
        return Err(format!("they told of {:.0}% of the load only", told.covered * 100.0));
    }
    let integer = need(&c.integer_percent)?;
    let others =
        [("FP32", c.fp32_percent.mean), ("FP16", c.fp16_percent.mean), ("FP64", c.fp64_percent.mean)];
    let others = others.into_iter().filter_map(|(name, mean)| Some((name, mean?)));
    let other = others.fold(("integer", integer), |most, one| if one.1 > most.1 { one } else { most });
    Ok(Units { sm_active, tensor, dram, other, occupancy: c.sm_occupancy_percent.mean })
}

#[cfg(test)]
impl Evidence {
    /// As the counters tell it, with a request in flight all along.
    pub(super) fn made_up(busy: f64, units: Result<Units, String>) -> Self {
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
            told: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_time_with_a_request_counts_overlaps_once() {
        let all = || vec![(60, 90), (0, 40), (10, 30), (85, 120)];
        assert_eq!(share(all(), &[(0, 100)]), Some(80.0));
        assert_eq!(share(all(), &[(20, 40), (50, 60)]), Some(20.0 / 30.0 * 100.0));
        assert_eq!(share(all(), &[]), None);
    }
}
