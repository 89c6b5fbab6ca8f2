//! The driver's state: the scenario, the clock that it is read by, and which device a handle means.
//!
//! Owns the one global. Called by the exported functions.

use std::ffi::{c_uint, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::abi::{self, Code};
use crate::cost::{self, Cost};
use crate::scenario::{Curve, Device, Process, Scenario};

/// Where the scenario's file is.
const VARIABLE: &str = "INFERSCOPE_NVML_SCENARIO";

static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();

pub(crate) struct Driver {
    pub(crate) scenario: Scenario,
    base_ns: u64,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC, once, so that a sample keeps its stamp.
    ahead_ns: u64,
    load_ns: Mutex<Option<u64>>,
    session: Mutex<Session>,
}

/// What NVML keeps between its first beginning and its last end.
#[derive(Debug, Clone, Copy, Default)]
struct Session {
    /// Beginnings without their end.
    count: u32,
    /// The first of them was after the reload.
    is_of_the_reloaded: bool,
}

/// The driver, where there is one and it was initialised.
pub(crate) fn driver() -> Result<&'static Driver, Code> {
    match DRIVER.get() {
        Some(Some(driver)) => {
            let session = driver.session();
            let is_void = session.count == 0 || driver.was_reloaded()? && !session.is_of_the_reloaded;
            if is_void { Err(abi::UNINITIALIZED) } else { Ok(driver) }
        }
        Some(None) => Err(abi::DRIVER_NOT_LOADED),
        None => Err(abi::UNINITIALIZED),
    }
}

pub(crate) fn initialise() -> Code {
    let driver = DRIVER.get_or_init(|| {
        let path = std::env::var_os(VARIABLE)?;
        let text = std::fs::read(&path).ok()?;
        match serde_json::from_slice::<Scenario>(&text) {
            Ok(scenario) => {
                // Its buffers are full.
                let on_for = 60_000_000_000;
                let base_ns = scenario.base_ns;
                let base_ns = base_ns.unwrap_or_else(|| now_ns(ClockId::Monotonic).saturating_sub(on_for));
                let ahead_ns = now_ns(ClockId::Realtime) - now_ns(ClockId::Monotonic);
                Some(Driver {
                    scenario,
                    base_ns,
                    ahead_ns,
                    load_ns: Mutex::new(None),
                    session: Mutex::default(),
                })
            }
            Err(e) => {
                eprintln!("nvml-standin: {}: {e}", path.display());
                None
            }
        }
    });
    match driver {
        Some(driver) => driver.begin().err().unwrap_or(abi::SUCCESS),
        None => abi::DRIVER_NOT_LOADED,
    }
}

/// Counted, so that only the last ends it; also while the driver is away.
pub(crate) fn shut_down() -> Code {
    let Some(Some(driver)) = DRIVER.get() else { return abi::UNINITIALIZED };
    driver.shut_down().err().unwrap_or(abi::SUCCESS)
}

pub(crate) fn now_ns(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec.cast_unsigned() * 1_000_000_000 + t.tv_nsec.cast_unsigned()
}

/// Milliseconds since the devices were switched on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now(pub(crate) f64);

impl Driver {
    pub(crate) fn now(&self) -> Now {
        match self.scenario.frozen_ms {
            Some(ms) => Now(ms),
            None => Now((now_ns(ClockId::Monotonic).saturating_sub(self.base_ns)) as f64 / 1e6),
        }
    }

    fn begin(&self) -> Result<(), Code> {
        let is_of_the_reloaded = self.was_reloaded()?;
        self.entered("nvmlInit_v2", None)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.count == 0 {
            session.is_of_the_reloaded = is_of_the_reloaded;
        }
        session.count += 1;
        Ok(())
    }

    fn session(&self) -> Session {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shut_down(&self) -> Result<(), Code> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.count = session.count.checked_sub(1).ok_or(abi::UNINITIALIZED)?;
        Ok(())
    }

    /// Whether it is back; what every call answers while it is away.
    fn was_reloaded(&self) -> Result<bool, Code> {
        let Some(reload) = &self.scenario.reload else { return Ok(false) };
        let t = self.curve_ms(self.now());
        if (reload.from_ms..reload.to_ms).contains(&t) { Err(reload.code) } else { Ok(t >= reload.to_ms) }
    }

    /// When the curves begin, on the same scale; infinite where they have not.
    fn begun_ms(&self) -> f64 {
        let Some(file) = &self.scenario.load_file else { return 0.0 };
        let mut known = self.load_ns.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        }
        known.map_or(f64::INFINITY, |ns| (ns as f64 - self.base_ns as f64) / 1e6)
    }

    /// The time of the curves.
    pub(crate) fn curve_ms(&self, now: Now) -> f64 {
        let begun = self.begun_ms();
        if begun.is_infinite() { f64::NEG_INFINITY } else { now.0 - begun }
    }

    pub(crate) fn at(&self, curve: &Curve, now: Now) -> f64 {
        curve.at(self.curve_ms(now))
    }

    /// The area under a curve since the devices were switched on, in its unit times seconds.
    pub(crate) fn since_base(&self, curve: &Curve, now: Now) -> f64 {
        let begun = self.begun_ms();
        let before = curve.at(f64::NEG_INFINITY) * now.0.min(begun);
        let after = if now.0 > begun { curve.integral(0.0, now.0 - begun) } else { 0.0 };
        (before + after) / 1e3
    }

    /// The area under a curve between two moments, in its unit times seconds.
    pub(crate) fn between(&self, curve: &Curve, from: Now, to: Now) -> f64 {
        self.since_base(curve, to) - self.since_base(curve, from)
    }

    /// CLOCK_REALTIME of a moment, in microseconds: what drivers stamp samples with.
    pub(crate) fn stamp_us(&self, at: Now, monotonic: bool) -> u64 {
        let ns = self.base_ns + (at.0 * 1e6) as u64;
        if monotonic { ns / 1_000 } else { (ns + self.ahead_ns) / 1_000 }
    }

    /// What every call begins with: its delay, and the failure that the scenario wants.
    pub(crate) fn entered(&self, call: &str, device: Option<u32>) -> Result<(), Code> {
        if device.is_some() {
            self.spend(call, cost::of_call(call));
        }
        if self.scenario.absent.iter().any(|name| name == call) {
            return Err(abi::FUNCTION_NOT_FOUND);
        }
        let t = self.curve_ms(self.now());
        if let Some(hang) = self.scenario.hang.iter().find(|h| h.call == call && t >= h.from_ms) {
            std::thread::sleep(Duration::from_millis(hang.for_ms));
        }
        let failure = self.scenario.fail.iter().find(|f| f.hits(call, device, t));
        failure.map_or(Ok(()), |f| Err(f.code))
    }

    /// As long as the scenario wants, else as a real driver.
    pub(crate) fn spend(&self, call: &str, real: Cost) {
        let latency = &self.scenario.latency_us;
        match latency.get(call).or_else(|| latency.get("*")) {
            Some(0) => {}
            Some(us) => std::thread::sleep(Duration::from_micros(*us)),
            None => cost::spend(real),
        }
    }

    fn generation(&self) -> usize {
        usize::from(self.session().is_of_the_reloaded)
    }

    pub(crate) fn pid_of(&self, process: &Process) -> Option<u32> {
        if let Some(pid) = process.pid {
            return Some(pid);
        }
        let text = std::fs::read(self.scenario.pids_file.as_ref()?).ok()?;
        let pids: Value = serde_json::from_slice(&text).ok()?;
        u32::try_from(pids[process.name.as_ref()?].as_u64()?).ok()
    }
}

/// A handle is the index of a device plus one; of a MIG instance, its own index times 256 more; after a reload 65,536 more.
pub(crate) fn handle(driver: &Driver, device: u32, instance: Option<u32>) -> *mut c_void {
    let number = device as usize + 1 + instance.map_or(0, |i| (i as usize + 1) << 8);
    std::ptr::without_provenance_mut(number + (driver.generation() << 16))
}

/// Whom a call is about.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) driver: &'static Driver,
    pub(crate) index: u32,
    pub(crate) instance: Option<u32>,
    pub(crate) device: &'static Device,
}

impl Asked {
    /// The beginning of every call with a device.
    pub(crate) fn by(call: &str, handle: *mut c_void) -> Result<Self, Code> {
        let driver = driver()?;
        let number = handle.addr();
        if number >> 16 != driver.generation() {
            return Err(abi::INVALID_ARGUMENT);
        }
        let number = number & 0xffff;
        let index = (number & 0xff).checked_sub(1).ok_or(abi::INVALID_ARGUMENT)?;
        let parent = driver.scenario.devices.get(index).ok_or(abi::INVALID_ARGUMENT)?;
        let index = index as u32;
        let instance = (number >> 8).checked_sub(1);
        let device = match instance {
            None => parent,
            Some(i) => parent.mig.as_ref().and_then(|all| all.get(i)).ok_or(abi::INVALID_ARGUMENT)?,
        };
        driver.entered(call, Some(index))?;
        Ok(Self { driver, index, instance: instance.map(|i| i as u32), device })
    }

    /// A curve of the device's, now, as an unsigned number.
    pub(crate) fn value(&self, curve: Option<&Curve>) -> Result<c_uint, Code> {
        let curve = curve.ok_or(abi::NOT_SUPPORTED)?;
        Ok(self.driver.at(curve, self.driver.now()).round() as c_uint)
    }
}
