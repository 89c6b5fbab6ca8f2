//! One device, or one MIG instance: what is asked of it at a look.
//!
//! Owns the order of the queries; how a refusal or a slow call is treated is `query_policy`'s, and `caller` makes the calls and
//! sends the answers. Never concludes anything. Driven by the poll.

mod buffers;
mod memory;
mod power;
mod throughput;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::error::NvmlError;

use super::bracket::Bracket;
use super::caller::{Caller, Outlet};
use super::gpm::Gpm;
use super::nvml_ffi;
use super::processes::Pids;
use super::queries::{self, AT_EDGES};
use super::query_policy::{QueryPolicy, Search};
use crate::clock::Mono;
use crate::event::{
    DeviceAnswer, DeviceIdentity, EnergyReading, Gauge, GpuReading, MigInstance, PollCost, Query,
};

use buffers::Buffers;
use memory::Memory;
use throughput::Throughput;

/// A device that is polled.
pub(super) struct Watched<'n> {
    device: Device<'n>,
    caller: Caller<'n>,
    index: u32,
    is_mig: bool,
    uuid: Option<String>,
    memory: Memory,
    buffers: Buffers,
    throughput: Throughput,
    gpm: Gpm<'n>,
    /// There was a look.
    is_known: bool,
    bracket: Bracket,
}

impl<'n> Watched<'n> {
    /// Asks what does not change. `place`: how many devices were found before it.
    pub(super) fn new(
        device: Device<'n>,
        is_mig: bool,
        mut identity: DeviceIdentity,
        (outlet, place): (&'n Outlet, usize),
    ) -> Self {
        identity.mig = is_mig.then(|| {
            let (gpu_instance, compute_instance) = nvml_ffi::instances(&device);
            MigInstance { gpu_instance, compute_instance }
        });
        let mut caller = Caller::new(outlet, place, &identity);
        identity.name = caller.ask(Query::Name, || device.name());
        identity.uuid = caller.ask(Query::Uuid, || device.uuid());
        identity.power_limit_mw =
            caller.ask(Query::PowerLimit, || device.enforced_power_limit()).map(u64::from);
        identity.sm_clock_max_mhz = caller.ask(Query::SmClockMax, || device.max_clock_info(Clock::SM));
        identity.power_source = power::source(&device, &mut caller);
        caller.send(DeviceAnswer::Identity(Box::new(identity.clone())));
        Self {
            device,
            caller,
            index: identity.index,
            is_mig,
            uuid: identity.uuid,
            memory: Memory::default(),
            buffers: Buffers::new(),
            throughput: Throughput::default(),
            gpm: Gpm::new(identity.mig.and_then(|m| m.gpu_instance)),
            is_known: false,
            bracket: Bracket::default(),
        }
    }

    /// By what NVML knows it. The index of a MIG instance is that of its device, so only its UUID is a name.
    pub(super) fn name(&self) -> (Option<u32>, Option<&str>) {
        ((!self.is_mig).then_some(self.index), self.uuid.as_deref())
    }

    pub(super) const fn is_away(&self) -> bool {
        self.caller.policy.is_away()
    }

    pub(super) const fn cost(&self) -> &PollCost {
        &self.caller.policy.cost
    }

    /// It went with its driver, as another device showed: its handle is void.
    pub(super) fn goes_with(&mut self, since: Mono, words: &str) {
        self.caller.policy(|policy| policy.goes(since, words.to_owned(), true));
    }

    /// Why it was not found again.
    pub(super) fn stays(&mut self, error: &NvmlError) {
        self.caller.policy(|policy| policy.stays(error));
    }

    /// Whether it is away and due to be looked for.
    pub(super) fn search(&mut self) -> Option<Search> {
        self.caller.policy(|policy| policy.search(Mono::now()))
    }

    /// The same device under another handle: only if it answers it is back.
    pub(super) fn try_as(&mut self, device: Device<'n>) {
        let answer = self.caller.call(Query::Uuid, || device.uuid());
        if let Err(error) = &answer {
            self.stays(error);
            return;
        }
        self.device = device;
        self.gpm.begins_anew();
        let now = Mono::now();
        self.buffers.begin_anew(now);
        self.throughput.forget();
        self.caller.policy(|policy| policy.found(now));
    }

    /// One look. `last`: how slow a query is doesn't matter any more.
    pub(super) fn tick(&mut self, pids: &Pids, last: bool) {
        self.caller.policy.last = last;
        // First what is measured against time, then the rest. The first look and the last are followed by an edge.
        if !last
            && self.is_known
            && let Some(mj) = self.read_energy(false)
        {
            self.bracket.read(mj, Mono::now());
        }
        self.is_known = true;
        let mut reading = GpuReading::empty(Mono::now());
        let has_power = power::read(&self.device, &mut self.caller);
        self.read_utilization(&mut reading);
        reading.memory_used_bytes = self.memory.read(&self.device, &mut self.caller);
        self.read_gauges(&mut reading);
        self.throughput.read(&self.device, &mut self.caller, &mut reading);
        if has_power || reading != GpuReading::empty(reading.t) {
            self.caller.send(DeviceAnswer::Reading(Box::new(reading)));
        }
        self.memory.read_processes(&self.device, &mut self.caller, pids);
        self.gpm.tick(&self.device, &mut self.caller, last);
        self.buffers.fetch(&self.device, &mut self.caller);
    }

    /// A window begins or ends now: its energy is bracketed, and what is read seldom is read at the next look.
    pub(super) fn edge(&mut self) {
        match self.read_energy(true) {
            Some(mj) => self.bracket.begin(mj, Mono::now()),
            None => self.bracket.give_up(),
        }
        self.caller.policy(|policy: &mut QueryPolicy| policy.soon(&AT_EDGES));
        // No rate lies across it.
        self.throughput.forget();
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
    fn read_energy(&mut self, now: bool) -> Option<u64> {
        let before = Mono::now();
        let call = || self.device.total_energy_consumption();
        let mj = match now {
            true => self.caller.ask_now(Query::Energy, call),
            false => self.caller.ask(Query::Energy, call),
        }?;
        let after = Mono::now();
        self.caller.send(DeviceAnswer::Energy(EnergyReading { before, after, mj }));
        Some(mj)
    }

    fn read_utilization(&mut self, reading: &mut GpuReading) {
        let device = &self.device;
        let Some(used) = self.caller.ask(Query::Utilization, || device.utilization_rates()) else { return };
        if used.gpu <= 100 && used.memory <= 100 {
            (reading.sm_percent, reading.memory_percent) = (Some(used.gpu), Some(used.memory));
        } else {
            self.caller.implausible("percent_beyond_100", 1);
        }
    }

    /// What is one number and has no counter beside it.
    fn read_gauges(&mut self, reading: &mut GpuReading) {
        let device = &self.device;
        for gauge in Gauge::ALL.into_iter().filter(|gauge| queries::counter(*gauge).is_none()) {
            let call = queries::call(gauge);
            reading.set(gauge, self.caller.ask(Query::Gauge(gauge), || call(device)));
        }
        reading.throttle = self.caller.ask(Query::Throttle, || nvml_ffi::throttle_reasons(device));
    }

    /// The pids on it, at the last look.
    pub(super) fn pids(&self) -> &[u32] {
        self.memory.pids()
    }
}
