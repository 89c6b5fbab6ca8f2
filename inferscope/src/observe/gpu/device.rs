//! One device, or one MIG instance: what is asked of it at a tick, and its log.
//!
//! Owns the list of queries and their order; how a refusal or a slow call is treated is `ask`'s. Never concludes
//! anything. Driven by the poll.

use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, Sampling, TemperatureSensor};
use nvml_wrapper::enums::device::{DeviceArchitecture, SampleValue};
use nvml_wrapper::error::NvmlError;

use super::ask::Asker;
use super::buffered::{Buffered, Fetch};
use super::processes::{Pids, decode};
use super::raw;
use crate::clock::{Mono, Origin};
use crate::event::{
    EnergyReading, GpuDevice, GpuProcess, GpuReading, MigInstance, PollCost, PowerPoint, PowerSource,
    ProcessLook, ProcessUse,
};
use crate::observe::series::Series;
use crate::units::Nanos;

/// An hour at 50 ms; beyond, neighbours are merged (see `series`).
const MAX_READINGS: usize = 72_000;
/// Changes of the process list that are kept.
const MAX_LOOKS: usize = 20_000;
/// The driver's buffers hold a second or more.
const FETCH_EVERY: Nanos = Nanos::from_millis(400);

/// A device that is polled.
pub(super) struct Watched<'n> {
    device: Device<'n>,
    asker: Asker,
    log: GpuDevice,
    /// The second version of the memory query is missing.
    memory_v1: bool,
    readings: Series<GpuReading>,
    power: Series<PowerPoint>,
    power_sampled: Series<PowerPoint>,
    sm_samples: Series<(Mono, u32)>,
    energy: Series<EnergyReading>,
    process_use: Series<ProcessUse>,
    power_buffer: Buffered,
    sm_buffer: Buffered,
    use_buffer: Buffered,
    fetched: Option<Mono>,
    looks: Vec<ProcessLook>,
}

impl<'n> Watched<'n> {
    /// Asks what does not change.
    pub(super) fn new(device: Device<'n>, index: u32, is_mig: bool, driver: Option<String>) -> Self {
        let mut asker = Asker::default();
        let mut log = GpuDevice { index, driver, ..GpuDevice::default() };
        if is_mig {
            let (gpu_instance, compute_instance) = raw::instances(&device);
            log.mig = Some(MigInstance { gpu_instance, compute_instance });
        }
        log.name = asker.ask("name", || device.name());
        log.uuid = asker.ask("uuid", || device.uuid());
        log.power_limit_mw = asker.ask("power_limit_mw", || device.enforced_power_limit()).map(u64::from);
        log.sm_clock_max_mhz = asker.ask("sm_clock_max_mhz", || device.max_clock_info(Clock::SM));
        log.power_source = power_source(&device, &mut asker);
        Self {
            device,
            asker,
            log,
            memory_v1: false,
            readings: Series::new(MAX_READINGS, |a, b| {
                (a.memory_used_bytes, a.power_mw) > (b.memory_used_bytes, b.power_mw)
            }),
            power: Series::new(MAX_READINGS, |a, b| a.mw > b.mw),
            power_sampled: Series::new(MAX_READINGS, |a, b| a.mw > b.mw),
            sm_samples: Series::new(MAX_READINGS, |a, b| a.1 > b.1),
            // Any two of them tell the same, so the later is kept.
            energy: Series::new(MAX_READINGS, |a, b| a.before > b.before),
            process_use: Series::new(MAX_READINGS, |a, b| a.sm_percent > b.sm_percent),
            power_buffer: Buffered::default(),
            sm_buffer: Buffered::default(),
            use_buffer: Buffered::default(),
            fetched: None,
            looks: Vec::new(),
        }
    }

    pub(super) fn cut_into_instances(&mut self) {
        self.log.mig_parent = true;
    }

    /// One look. `last`: how slow a query is doesn't matter any more.
    pub(super) fn tick(&mut self, pids: &Pids, last: bool) {
        self.asker.last = last;
        // First what is measured against time, then the rest.
        self.read_energy();
        let mut reading = GpuReading::empty(Mono::now());
        self.read_power(&mut reading);
        let device = &self.device;
        if let Some(used) = self.asker.ask("sm_percent", || device.utilization_rates()) {
            reading.sm_percent = Some(used.gpu);
            reading.memory_percent = Some(used.memory);
        }
        reading.memory_used_bytes = self.read_memory();
        let (device, asker) = (&self.device, &mut self.asker);
        reading.temperature_c = asker.ask("temperature_c", || device.temperature(TemperatureSensor::Gpu));
        reading.sm_clock_mhz = asker.ask("sm_clock_mhz", || device.clock_info(Clock::SM));
        reading.throttle =
            asker.ask("throttle", || device.current_throttle_reasons()).map(|r: ThrottleReasons| r.bits());
        // A real device takes 20 ms for each of these two.
        reading.pcie_tx_kb_per_s =
            asker.ask("pcie_tx_kb_per_s", || device.pcie_throughput(PcieUtilCounter::Send));
        reading.pcie_rx_kb_per_s =
            asker.ask("pcie_rx_kb_per_s", || device.pcie_throughput(PcieUtilCounter::Receive));
        if reading != GpuReading::empty(reading.t) {
            self.readings.push(reading);
        }
        self.read_processes(pids);
        let now = Mono::now();
        if last || self.fetched.is_none_or(|t| now.since(t) >= FETCH_EVERY) {
            self.fetched = Some(now);
            self.fetch();
        }
    }

    /// The counter alone: at the end its next refresh is waited for. What it shows, where it has one.
    pub(super) fn read_energy(&mut self) -> Option<u64> {
        let device = &self.device;
        let before = Mono::now();
        let mj = self.asker.ask("energy_mj", || device.total_energy_consumption())?;
        self.energy.push(EnergyReading { before, after: Mono::now(), mj });
        Some(mj)
    }

    fn read_power(&mut self, reading: &mut GpuReading) {
        const FIELDS: [(&str, u32, u32); 3] = [
            ("power_instant_mw", raw::POWER_INSTANT, 0),
            ("nvlink_tx_kib", raw::NVLINK_DATA_TX, raw::ALL_LINKS),
            ("nvlink_rx_kib", raw::NVLINK_DATA_RX, raw::ALL_LINKS),
        ];
        let (device, asker) = (&self.device, &mut self.asker);
        let asked: Vec<_> = FIELDS.into_iter().filter(|f| !asker.refuses(f.0)).collect();
        let wanted: Vec<_> = asked.iter().map(|f| (f.1, f.2)).collect();
        let before = Mono::now();
        let answers = match wanted.is_empty() {
            true => None,
            false => asker.ask("fields", || raw::fields(device, &wanted)),
        };
        for ((name, ..), answer) in asked.into_iter().zip(answers.into_iter().flatten()) {
            let value = asker.noted(name, answer, before);
            match name {
                "power_instant_mw" => reading.power_mw = value,
                "nvlink_tx_kib" => reading.nvlink_tx_kib = value,
                _ => reading.nvlink_rx_kib = value,
            }
        }
        let mut before = before;
        if asker.refuses("power_instant_mw") || asker.refuses("fields") {
            before = Mono::now();
            reading.power_mw = asker.ask("power_mw", || device.power_usage()).map(u64::from);
        }
        if let Some(mw) = reading.power_mw {
            let t = before.plus(Nanos(Mono::now().since(before).0 / 2));
            self.power.push(PowerPoint { t, mw });
        }
    }

    fn read_memory(&mut self) -> Option<u64> {
        let device = &self.device;
        let first_version =
            |device: &Device<'_>| raw::memory_v1(device).map(|(total, used)| (total, used, None));
        let memory_v1 = &mut self.memory_v1;
        let (total, used, reserved) = self.asker.ask("memory_used_bytes", || {
            if *memory_v1 {
                return first_version(device);
            }
            match device.memory_info() {
                Ok(memory) => Ok((memory.total, memory.used, Some(memory.reserved))),
                Err(NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => {
                    *memory_v1 = true;
                    first_version(device)
                }
                Err(e) => Err(e),
            }
        })?;
        if used > total {
            *self.log.insane.entry("memory_beyond_device").or_default() += 1;
            return None;
        }
        self.log.memory_total_bytes = Some(total);
        self.log.memory_reserved_bytes = reserved;
        self.log.used_includes_reserved = reserved.is_none();
        Some(used)
    }

    fn read_processes(&mut self, pids: &Pids) {
        let device = &self.device;
        let t = Mono::now();
        let total = self.log.memory_total_bytes;
        let queries = [("compute_processes", false), ("graphics_processes", true)];
        // A list without a part of it would look like an end, so both are asked together.
        if queries.iter().any(|(query, _)| !self.asker.refuses(query) && !self.asker.is_due(query, t)) {
            return;
        }
        let mut all: Vec<GpuProcess> = Vec::new();
        let mut any = false;
        for (query, graphics) in queries {
            let Some(list) = self.asker.ask(query, || raw::processes(device, graphics)) else {
                if self.asker.refuses(query) {
                    continue;
                }
                return;
            };
            any = true;
            let log = &mut self.log;
            all.extend(decode(&list, graphics, total, pids, &mut log.wide_processes, &mut log.insane));
        }
        if !any {
            return;
        }
        self.log.processes_known = true;
        all.sort_unstable();
        if self.looks.last().is_some_and(|look| look.all == all) {
            return;
        }
        if self.looks.len() < MAX_LOOKS {
            self.looks.push(ProcessLook { t, all });
        } else {
            *self.log.insane.entry("process_list_full").or_default() += 1;
        }
    }

    /// What the driver sampled by itself.
    fn fetch(&mut self) {
        let device = &self.device;
        let unsigned = |value: SampleValue| match value {
            SampleValue::U32(v) => Some(u64::from(v)),
            SampleValue::U64(v) => Some(v),
            SampleValue::I64(v) => u64::try_from(v).ok(),
            SampleValue::F64(_) => None,
        };
        let mut samples = |query, kind, buffer: &mut Buffered| {
            let seen = buffer.last_seen_us;
            let before = Mono::now();
            let all = self.asker.ask(query, || device.samples(kind, seen)).unwrap_or_default();
            let fetch = Fetch { before, clocks: Origin::now() };
            buffer.take(all.into_iter().filter_map(|s| Some((s.timestamp, unsigned(s.value)?))), fetch)
        };
        for (t, mw) in samples("power_samples", Sampling::Power, &mut self.power_buffer) {
            self.power_sampled.push(PowerPoint { t, mw });
        }
        for (t, percent) in samples("sm_samples", Sampling::GpuUtilization, &mut self.sm_buffer) {
            if let Some(percent) = u32::try_from(percent).ok().filter(|p| *p <= 100) {
                self.sm_samples.push((t, percent));
            }
        }
        let seen = self.use_buffer.last_seen_us;
        let before = Mono::now();
        let used = self
            .asker
            .ask("process_sm_percent", || device.process_utilization_stats(seen))
            .unwrap_or_default();
        let fetch = Fetch { before, clocks: Origin::now() };
        // Unused entries of the driver's buffer have no stamp.
        let used = used.into_iter().filter(|u| u.timestamp > 0 && u.sm_util <= 100);
        let stamped = used.map(|u| (u.timestamp, (u.pid, u.sm_util)));
        for (t, (pid, sm_percent)) in self.use_buffer.take(stamped, fetch) {
            self.process_use.push(ProcessUse { t, pid, sm_percent });
        }
    }

    /// The pids that it ever listed.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.looks.last().into_iter().flat_map(|look| &look.all).map(|p| p.pid)
    }

    pub(super) fn finish(self) -> (GpuDevice, PollCost) {
        let told = self.asker.capabilities();
        let buffers = [&self.power_buffer, &self.sm_buffer, &self.use_buffer];
        let unmapped: u64 = buffers.iter().map(|b| b.unmapped).sum();
        let mut log = self.log;
        if unmapped > 0 {
            log.insane.insert("stamp_of_no_known_clock", unmapped);
        }
        let stamped = buffers.iter().any(|b| b.last_seen_us > 0);
        let log = GpuDevice {
            answered: told.answered,
            refused: told.refused,
            failed: told.failed,
            lost: self.asker.lost,
            readings: self.readings.finish(None).0,
            power: self.power.finish(None).0,
            power_sampled: self.power_sampled.finish(None).0,
            sm_samples: self.sm_samples.finish(None).0,
            energy: self.energy.finish(None).0,
            process_use: self.process_use.finish(None).0,
            sample_clock_error: stamped.then(|| buffers.iter().map(|b| b.error).max().unwrap_or(Nanos::ZERO)),
            processes: self.looks,
            ..log
        };
        (log, self.asker.cost)
    }
}

/// Up to Turing the one query of power is of the moment; from Ampere on it is an average over a second, but for GA100
/// (nvml.h, nvmlDeviceGetPowerUsage), which is not told apart here.
fn power_source(device: &Device<'_>, asker: &mut Asker) -> Option<PowerSource> {
    let instant = asker.ask("fields", || raw::fields(device, &[(raw::POWER_INSTANT, 0)]));
    if let Some(answer) = instant.and_then(|all| all.into_iter().next())
        && asker.noted("power_instant_mw", answer, Mono::now()).is_some()
    {
        return Some(PowerSource::Instant);
    }
    asker.ask("power_mw", || device.power_usage())?;
    let old = matches!(
        asker.ask("architecture", || device.architecture()),
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
