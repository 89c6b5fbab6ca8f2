//! One device, or one MIG instance: what is asked of it at a tick.
//!
//! Owns the list of queries and their order; how a refusal or a slow call is treated is `query_policy`'s, and the log is `log`'s.
//! Never concludes anything. Driven by the poll.

use std::mem::take;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, Sampling, TemperatureSensor};
use nvml_wrapper::enums::device::{DeviceArchitecture, SampleValue};
use nvml_wrapper::error::NvmlError;

use super::bracket::Bracket;
use super::counters::Counted;
use super::driver_samples::{DriverSamples, Fetch};
use super::gpm::Gpm;
use super::log::{DeviceLog, SharedLog};
use super::nvml_ffi;
use super::processes::{Pids, decode};
use super::query_policy::Search;
use crate::clock::{Mono, Origin};
use crate::event::{
    EnergyReading, GpuDevice, GpuProcess, GpuReading, MigInstance, PowerPoint, PowerSource, ProcessLook,
    ProcessUse,
};
use crate::units::Nanos;

/// However much the driver keeps, what it sampled is asked for as often as this: half as often as this time.
const KEPT: std::ops::RangeInclusive<Nanos> = Nanos::from_millis(800)..=Nanos::from_millis(16_000);
/// What is of a window as a whole, and read seldom.
const AT_EDGES: [&str; 5] =
    ["process_sm_percent", "compute_processes", "graphics_processes", "pcie_counters", "nvlink_counters"];
/// `NVML_VALUE_NOT_AVAILABLE`
const NOT_AVAILABLE: u64 = u64::MAX;

/// A device that is polled.
pub(super) struct Watched<'n> {
    device: Device<'n>,
    index: u32,
    is_mig: bool,
    uuid: Option<String>,
    /// In the log.
    place: usize,
    shared: SharedLog,
    /// The second version of the memory query is missing.
    memory_v1: bool,
    memory_total: Option<u64>,
    wide_processes: bool,
    power_buffer: DriverSamples,
    sm_buffer: DriverSamples,
    use_buffer: DriverSamples,
    gpm: Gpm<'n>,
    /// There was a look.
    is_known: bool,
    bracket: Bracket,
    pcie: [Counted; 2],
    /// Since when it answers, or answers again: what the driver sampled before then is of no time that was polled.
    since: Mono,
}

impl<'n> Watched<'n> {
    /// Asks what does not change.
    pub(super) fn new(
        device: Device<'n>,
        index: u32,
        is_mig: bool,
        driver: Option<String>,
        shared: &SharedLog,
    ) -> Self {
        let mig = is_mig.then(|| {
            let (gpu_instance, compute_instance) = nvml_ffi::instances(&device);
            MigInstance { gpu_instance, compute_instance }
        });
        let gpu_instance = mig.and_then(|m| m.gpu_instance);
        let place = shared.add(GpuDevice { index, driver, mig, ..GpuDevice::default() });
        let mut watched = Self {
            device,
            index,
            is_mig,
            uuid: None,
            place,
            shared: shared.clone(),
            memory_v1: false,
            memory_total: None,
            wide_processes: false,
            power_buffer: DriverSamples::default(),
            sm_buffer: DriverSamples::default(),
            use_buffer: DriverSamples::default(),
            gpm: Gpm::new(gpu_instance),
            is_known: false,
            bracket: Bracket::default(),
            pcie: Default::default(),
            since: Mono::now(),
        };
        let device = &watched.device;
        let name = watched.ask("name", || device.name());
        let uuid = watched.ask("uuid", || device.uuid());
        let power_limit_mw = watched.ask("power_limit_mw", || device.enforced_power_limit()).map(u64::from);
        let sm_clock_max_mhz = watched.ask("sm_clock_max_mhz", || device.max_clock_info(Clock::SM));
        let power_source = watched.power_source();
        watched.uuid.clone_from(&uuid);
        watched.told(|told| {
            told.log = GpuDevice {
                name,
                uuid,
                power_limit_mw,
                sm_clock_max_mhz,
                power_source,
                ..take(&mut told.log)
            };
        });
        watched
    }

    fn ask<T>(&self, query: &'static str, call: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        self.shared.ask(self.place, query, call)
    }

    fn told(&self, keep: impl FnOnce(&mut DeviceLog)) {
        // Once the log was taken there is nobody to tell.
        let _ = self.shared.with(self.place, keep);
    }

    fn refuses(&self, query: &str) -> bool {
        self.shared.with(self.place, |told| told.policy.refuses(query)).unwrap_or(true)
    }

    /// What an answer that came with others says of its own query.
    fn noted<T>(&self, query: &'static str, answer: Result<T, NvmlError>, t: Mono) -> Option<T> {
        self.shared.with(self.place, |told| told.policy.noted(query, answer, t))?
    }

    pub(super) fn cut_into_instances(&self) {
        self.told(|told| told.log.mig_parent = true);
    }

    /// By what NVML knows it. The index of a MIG instance is that of its device, so only its UUID is a name.
    pub(super) fn name(&self) -> (Option<u32>, Option<&str>) {
        ((!self.is_mig).then_some(self.index), self.uuid.as_deref())
    }

    pub(super) fn is_away(&self) -> bool {
        self.shared.with(self.place, |told| told.policy.lost().is_some()).unwrap_or(true)
    }

    /// It went with its driver, which another device told: its handle is void.
    pub(super) fn goes_with(&self, since: Mono, words: &str) {
        self.told(|told| told.policy.goes(since, words.to_owned(), true));
    }

    /// Why it was not found again.
    pub(super) fn stays(&self, error: &NvmlError) {
        self.told(|told| told.policy.stays(error));
    }

    /// Whether it is away and due to be looked for.
    pub(super) fn search(&self) -> Option<Search> {
        self.shared.with(self.place, |told| told.policy.search(Mono::now()))?
    }

    /// The same device under another handle: only if it answers it is back.
    pub(super) fn try_as(&mut self, device: Device<'n>) {
        let answer = self.shared.waiting("uuid", || device.uuid());
        if let Err(error) = &answer {
            self.stays(error);
        } else {
            self.device = device;
            self.gpm.begins_anew();
            let now = Mono::now();
            self.since = now;
            self.pcie.iter_mut().for_each(Counted::forget);
            self.told(|told| told.policy.found(now));
        }
    }

    /// One look. `last`: how slow a query is doesn't matter any more.
    pub(super) fn tick(&mut self, pids: &Pids, last: bool) {
        self.told(|told| told.policy.last = last);
        // First what is measured against time, then the rest. The first look and the last are followed by an edge.
        if !last
            && self.is_known
            && let Some(mj) = self.read_energy(false)
        {
            self.bracket.read(mj, Mono::now());
        }
        self.is_known = true;
        let mut reading = GpuReading::empty(Mono::now());
        self.read_power(&mut reading);
        let device = &self.device;
        if let Some(used) = self.ask("sm_percent", || device.utilization_rates()) {
            if used.gpu <= 100 && used.memory <= 100 {
                (reading.sm_percent, reading.memory_percent) = (Some(used.gpu), Some(used.memory));
            } else {
                self.told(|told| told.insane("percent_beyond_100", 1));
            }
        }
        reading.memory_used_bytes = self.read_memory();
        let device = &self.device;
        reading.temperature_c = self.ask("temperature_c", || device.temperature(TemperatureSensor::Gpu));
        reading.sm_clock_mhz = self.ask("sm_clock_mhz", || device.clock_info(Clock::SM));
        reading.throttle = self.ask("throttle", || nvml_ffi::throttle_reasons(device));
        self.read_counters(&mut reading);
        if reading != GpuReading::empty(reading.t) {
            self.told(|told| told.readings.push(reading));
        }
        self.read_processes(pids);
        self.gpm.tick(&self.device, &self.shared, self.place, last);
        self.fetch();
    }

    /// A window begins or ends now: its energy is bracketed, and what is read seldom is read at the next look.
    pub(super) fn edge(&mut self) {
        match self.read_energy(true) {
            Some(mj) => self.bracket.begin(mj, Mono::now()),
            None => self.bracket.give_up(),
        }
        self.told(|told| told.policy.soon(&AT_EDGES));
        // No rate lies across it.
        self.pcie.iter_mut().for_each(Counted::forget);
    }

    /// When the counter has to be read next, because a window began or ended.
    pub(super) fn look(&self) -> Option<Mono> {
        self.bracket.look()
    }

    /// Reads the counter where that is due.
    pub(super) fn follow(&mut self, now: Mono) {
        if self.bracket.look().is_none_or(|look| look > now) {
            return;
        }
        match self.read_energy(true) {
            Some(mj) => self.bracket.read(mj, Mono::now()),
            None => self.bracket.give_up(),
        }
    }

    /// What the counter shows, where the device has one. `now`: however long ago it was read.
    fn read_energy(&self, now: bool) -> Option<u64> {
        let device = &self.device;
        let before = Mono::now();
        let call = || device.total_energy_consumption();
        let mj = match now {
            true => self.shared.ask_now(self.place, "energy_mj", call),
            false => self.ask("energy_mj", call),
        }?;
        let after = Mono::now();
        self.told(|told| told.energy.push(EnergyReading { before, after, mj }));
        Some(mj)
    }

    fn read_power(&self, reading: &mut GpuReading) {
        let device = &self.device;
        let mut before = Mono::now();
        if let [Some(power)] = self.read_fields("fields", [("power_instant_mw", nvml_ffi::POWER_INSTANT, 0)])
        {
            reading.power_mw = Some(power.value);
        }
        if self.refuses("power_instant_mw") || self.refuses("fields") {
            before = Mono::now();
            reading.power_mw = self.ask("power_mw", || device.power_usage()).map(u64::from);
        }
        if let Some(mw) = reading.power_mw {
            let t = before.plus(Nanos(Mono::now().since(before).0 / 2));
            self.told(|told| told.power.push(PowerPoint { t, mw }));
        }
    }

    /// What a device counts of the bytes that it moved.
    fn read_counters(&mut self, reading: &mut GpuReading) {
        let all = nvml_ffi::ALL_LINKS;
        let [tx, rx] = self.read_fields(
            "nvlink_counters",
            [
                ("nvlink_tx_kib", nvml_ffi::NVLINK_DATA_TX, all),
                ("nvlink_rx_kib", nvml_ffi::NVLINK_DATA_RX, all),
            ],
        );
        (reading.nvlink_tx_kib, reading.nvlink_rx_kib) = (tx.map(|f| f.value), rx.map(|f| f.value));
        let t = Mono::now();
        let [tx, rx] = self.read_fields(
            "pcie_counters",
            [("pcie_tx_bytes", nvml_ffi::PCIE_TX_BYTES, 0), ("pcie_rx_bytes", nvml_ffi::PCIE_RX_BYTES, 0)],
        );
        for (name, field) in [("pcie_tx_bytes", tx), ("pcie_rx_bytes", rx)] {
            if field.is_some_and(|field| !field.is_wide) {
                self.told(|told| {
                    told.policy.give_up(name, "of 32 bits: it may go round between two readings")
                });
            }
        }
        let mut rate = |place: usize, field: Option<nvml_ffi::Field>| {
            self.pcie[place].rate(t, field.filter(|field| field.is_wide)?)
        };
        (reading.pcie_tx_kb_per_s, reading.pcie_rx_kb_per_s) = (rate(0, tx), rate(1, rx));
        let device = &self.device;
        let has = |name| !self.refuses(name) && !self.refuses("pcie_counters");
        if !has("pcie_tx_bytes") {
            let call = || device.pcie_throughput(PcieUtilCounter::Send);
            reading.pcie_tx_kb_per_s = self.ask("pcie_tx_kb_per_s", call);
        }
        if !has("pcie_rx_bytes") {
            let call = || device.pcie_throughput(PcieUtilCounter::Receive);
            reading.pcie_rx_kb_per_s = self.ask("pcie_rx_kb_per_s", call);
        }
    }

    /// Several fields by one call, without those that were refused.
    fn read_fields<const N: usize>(
        &self,
        query: &'static str,
        fields: [(&'static str, u32, u32); N],
    ) -> [Option<nvml_ffi::Field>; N] {
        let device = &self.device;
        let mut values = [None; N];
        let asked: Vec<usize> = (0..N).filter(|i| !self.refuses(fields[*i].0)).collect();
        if asked.is_empty() {
            return values;
        }
        let wanted: Vec<_> = asked.iter().map(|i| (fields[*i].1, fields[*i].2)).collect();
        let t = Mono::now();
        let answers = self.ask(query, || nvml_ffi::fields(device, &wanted)).unwrap_or_default();
        for (i, answer) in asked.into_iter().zip(answers) {
            values[i] = self.noted(fields[i].0, answer, t);
        }
        values
    }

    fn read_memory(&mut self) -> Option<u64> {
        let device = &self.device;
        let first_version =
            |device: &Device<'_>| nvml_ffi::memory_v1(device).map(|(total, used)| (total, used, None));
        let mut memory_v1 = self.memory_v1;
        let answer = self.ask("memory_used_bytes", || {
            if memory_v1 {
                return first_version(device);
            }
            match device.memory_info() {
                Ok(memory) => Ok((memory.total, memory.used, Some(memory.reserved))),
                Err(NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => {
                    memory_v1 = true;
                    first_version(device)
                }
                Err(e) => Err(e),
            }
        });
        self.memory_v1 = memory_v1;
        let (total, used, reserved) = answer?;
        // A device without memory of its own may answer, and say nothing.
        if used > total || total == 0 || total == NOT_AVAILABLE {
            self.told(|told| told.insane("memory_beyond_device", 1));
            return None;
        }
        self.memory_total = Some(total);
        self.told(|told| {
            told.log.memory_total_bytes = Some(total);
            told.log.memory_reserved_bytes = reserved.filter(|bytes| *bytes <= total);
            told.log.used_includes_reserved = reserved.is_none();
        });
        Some(used)
    }

    fn read_processes(&mut self, pids: &Pids) {
        let device = &self.device;
        let t = Mono::now();
        let queries = [("compute_processes", false), ("graphics_processes", true)];
        // A list without a part of it would look like an end, so both are asked together.
        let put_off = |told: &mut DeviceLog| {
            queries.iter().any(|(query, _)| !told.policy.refuses(query) && !told.policy.is_due(query, t))
        };
        if self.shared.with(self.place, put_off).unwrap_or(true) {
            return;
        }
        let mut all: Vec<GpuProcess> = Vec::new();
        let mut insane = std::collections::BTreeMap::new();
        let mut any = false;
        for (query, graphics) in queries {
            let Some(list) = self.ask(query, || nvml_ffi::processes(device, graphics)) else {
                if self.refuses(query) {
                    continue;
                }
                return;
            };
            any = true;
            all.extend(decode(
                &list,
                graphics,
                self.memory_total,
                pids,
                &mut self.wide_processes,
                &mut insane,
            ));
        }
        all.sort_unstable();
        let wide = self.wide_processes;
        self.told(|told| {
            told.log.wide_processes = wide;
            for (what, n) in insane {
                told.insane(what, n);
            }
            if any {
                told.look(ProcessLook { t, all });
            }
        });
    }

    /// What the driver sampled by itself.
    fn fetch(&mut self) {
        let unsigned = |value: SampleValue| match value {
            SampleValue::U32(v) => Some(u64::from(v)),
            SampleValue::U64(v) => Some(v),
            SampleValue::I64(v) => u64::try_from(v).ok(),
            SampleValue::F64(_) => None,
        };
        let (device, shared, place) = (&self.device, &self.shared, self.place);
        let samples = |query, kind, buffer: &mut DriverSamples| {
            let seen = buffer.last_seen_us;
            let before = Mono::now();
            let all = shared.ask(place, query, || device.samples(kind, seen)).unwrap_or_default();
            // The first time it tells all that it keeps.
            let stamps = || all.iter().map(|s| s.timestamp);
            if let (0, Some(from), Some(to)) = (seen, stamps().min(), stamps().max()) {
                let kept = Nanos((to - from).saturating_mul(1_000));
                let kept = kept.clamp(*KEPT.start(), *KEPT.end());
                let _ = shared.with(place, |told| told.policy.keeps(query, kept, before));
            }
            let fetch = Fetch { before, clocks: Origin::now() };
            buffer.take(all.into_iter().filter_map(|s| Some((s.timestamp, unsigned(s.value)?))), fetch)
        };
        let power = samples("power_samples", Sampling::Power, &mut self.power_buffer);
        let sm = samples("sm_samples", Sampling::GpuUtilization, &mut self.sm_buffer);
        let seen = self.use_buffer.last_seen_us;
        let before = Mono::now();
        let used = self.ask("process_sm_percent", || device.process_utilization_stats(seen));
        let fetch = Fetch { before, clocks: Origin::now() };
        // Unused entries of the driver's buffer have no stamp.
        let used = used.unwrap_or_default().into_iter().filter(|u| u.timestamp > 0 && u.sm_util <= 100);
        let used = self.use_buffer.take(used.map(|u| (u.timestamp, (u.pid, u.sm_util))), fetch);
        let buffers = [&self.power_buffer, &self.sm_buffer, &self.use_buffer];
        let unmapped: u64 = buffers.iter().map(|b| b.unmapped).sum();
        let stamped = buffers.iter().any(|b| b.last_seen_us > 0);
        let error = buffers.iter().map(|b| b.error).max().unwrap_or(Nanos::ZERO);
        let since = self.since;
        self.told(|told| {
            for (t, mw) in power.into_iter().filter(|(t, _)| *t >= since) {
                told.power_sampled.push(PowerPoint { t, mw });
            }
            for (t, percent) in sm.into_iter().filter(|(t, _)| *t >= since) {
                if let Some(percent) = u32::try_from(percent).ok().filter(|p| *p <= 100) {
                    told.sm_samples.push((t, percent));
                }
            }
            for (t, (pid, sm_percent)) in used.into_iter().filter(|(t, _)| *t >= since) {
                told.process_use.push(ProcessUse { t, pid, sm_percent });
            }
            if unmapped > 0 {
                told.log.insane.insert("stamp_of_no_known_clock", unmapped);
            }
            told.log.sample_clock_error = stamped.then_some(error);
        });
    }

    /// The pids on it, as it said last.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.shared.with(self.place, |told| told.pids()).unwrap_or_default()
    }

    /// Up to Turing the one query of power is of the moment; from Ampere on it is an average over a second, but for GA100
    /// (nvml.h, nvmlDeviceGetPowerUsage), which is not told apart here.
    fn power_source(&self) -> Option<PowerSource> {
        let device = &self.device;
        let instant = self.ask("fields", || nvml_ffi::fields(device, &[(nvml_ffi::POWER_INSTANT, 0)]));
        if let Some(answer) = instant.and_then(|all| all.into_iter().next())
            && self.noted("power_instant_mw", answer, Mono::now()).is_some()
        {
            return Some(PowerSource::Instant);
        }
        self.ask("power_mw", || device.power_usage())?;
        let old = matches!(
            self.ask("architecture", || device.architecture()),
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
}
