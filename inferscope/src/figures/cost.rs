//! What a token and a request cost in energy and money.
//!
//! Owns the division of the devices' energy over the load's windows, or a step's, its error, and when it is withheld: what
//! another process used as well, or what is known too roughly, is no figure of the target's. `target` is whose energy it is,
//! `phases` tells prefill and decode apart. Called by `report::build`.

mod joules;
mod phases;
mod requests;
mod target;

use crate::clock::Window;
use crate::event::{CpuPackages, GpuLog};
use crate::plan::Price;
use crate::reason::{DeviceReason, EnergyReason, LoadReason};
use crate::units::Nanos;

use super::devices::{Device, Total};
use super::energy::{Counter, Energy};

pub(crate) use joules::Joules;
pub(crate) use phases::{PhaseEnergy, Way, of_a_sweep, prefill_decode};
pub(crate) use requests::{InFlight, RequestSpan};
pub(crate) use target::{TargetDevices, no_device};

/// What a load, or a step of it, delivered in its windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered<'a> {
    /// What rates and costs divide by.
    pub(crate) windows: &'a [Window],
    /// Up to the last byte.
    pub(crate) whole: &'a [Window],
    /// Output tokens in the windows; `None` where they are unknown, or there were none.
    pub(crate) tokens: Option<u64>,
    pub(crate) tokens_a_request: Option<f64>,
    /// Requests that succeeded.
    pub(crate) ok: u64,
    pub(crate) prompt_tokens: Option<u64>,
    /// Tokens after each answer's first.
    pub(crate) decode_tokens: Option<u64>,
    pub(crate) stalls: ClientStalls,
}

/// When the client did not look, so that times are known no better.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClientStalls {
    pub(crate) longest: Nanos,
    /// Answers whose first token, or whose end, came in one.
    pub(crate) first_tokens: u64,
    pub(crate) ends: u64,
}

impl<'a> Delivered<'a> {
    fn windows(&self) -> Result<&'a [Window], EnergyReason> {
        if self.windows.is_empty() { Err(LoadReason::NothingSent.into()) } else { Ok(self.windows) }
    }
}

/// What is divided, and among whom.
pub(crate) struct CostInputs<'a> {
    pub(crate) log: &'a GpuLog,
    pub(crate) packages: &'a CpuPackages,
    /// Why there is no load.
    pub(crate) load: Result<Delivered<'a>, LoadReason>,
    pub(crate) devices: &'a [Device<'a>],
    /// `None` where no device was polled.
    pub(crate) total: Option<&'a Result<Total, DeviceReason>>,
    pub(crate) target: &'a TargetDevices<'a>,
    pub(crate) prices: &'a [Price],
}

/// Of the whole load.
#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) a_token: Option<Joules>,
    pub(crate) a_request: Option<Joules>,
    /// Why one of them is unknown.
    pub(crate) reason: Option<EnergyReason>,
    pub(crate) a_token_above_idle: Option<Joules>,
    /// All of the machine's.
    pub(crate) packages: Result<Joules, EnergyReason>,
    pub(crate) packages_a_token: Result<Joules, EnergyReason>,
    /// Money for a million output tokens, at the prices given and at the measured pace.
    pub(crate) million_tokens: Result<f64, EnergyReason>,
}

impl Costs {
    pub(crate) fn new(inputs: &CostInputs<'_>) -> Self {
        let load = inputs.load.as_ref().map_err(|why| EnergyReason::from(why.clone()));
        let windows = load.clone().and_then(|load| load.windows());
        let spent = windows.clone().and_then(|sent| known(inputs.target.energy(sent)?, sent));
        let above = spent.as_ref().ok().and(inputs.total).and_then(|total| total.as_ref().ok()?.above_idle);
        let above = above.filter(|energy| energy.is_known()).map(Joules::of);
        let tokens = load.as_ref().ok().and_then(|load| load.tokens);
        let a_token = spent.as_ref().ok().copied().zip(tokens).map(|(j, n)| j.each(n));
        let tokens_a_request = load.as_ref().ok().and_then(|load| load.tokens_a_request);
        let reason = match &spent {
            Err(why) => Some(why.clone()),
            Ok(_) if load.as_ref().is_ok_and(|load| load.ok == 0) => Some(LoadReason::NoneSucceeded.into()),
            Ok(_) if a_token.is_none() => Some(EnergyReason::TokensUnknown),
            Ok(_) => None,
        };
        let packages = packages(inputs.packages, windows.clone());
        // Their sum stands with its error; a token's is withheld as a device's is.
        let packages_a_token = packages
            .clone()
            .and_then(|energy| known(energy, windows?))
            .and_then(|j| Ok(j.each(tokens.ok_or(EnergyReason::TokensUnknown)?)));
        Self {
            a_token,
            a_request: a_token.zip(tokens_a_request).map(|(j, n)| j.times(n)),
            reason,
            a_token_above_idle: above.zip(tokens).map(|(j, n)| j.each(n)),
            packages: packages.map(Joules::of),
            packages_a_token,
            million_tokens: money(inputs),
        }
    }
}

/// Of one step of a sweep, over its own windows.
#[derive(Debug)]
pub(crate) struct StepCosts {
    pub(crate) energy: Result<Energy, EnergyReason>,
    pub(crate) a_token: Result<Joules, EnergyReason>,
    pub(crate) phases: Result<PhaseEnergy, EnergyReason>,
}

impl StepCosts {
    pub(crate) fn new(target: &TargetDevices<'_>, requests: &InFlight, step: &Delivered<'_>) -> Self {
        let energy = step.windows().and_then(|windows| target.energy(windows));
        let a_token = energy.clone().and_then(|energy| {
            let spent = known(energy, step.windows)?;
            match step.tokens {
                Some(n) => Ok(spent.each(n)),
                None if step.ok == 0 => Err(LoadReason::NoneSucceeded.into()),
                None => Err(EnergyReason::TokensUnknown),
            }
        });
        let phases = energy.clone().and_then(|_| prefill_decode(requests, step, target));
        Self { energy, a_token, phases }
    }
}

/// What is known well enough to be divided.
fn known(energy: Energy, sent: &[Window]) -> Result<Joules, EnergyReason> {
    let joules = Joules::of(energy);
    if energy.is_known() {
        return Ok(joules);
    }
    Err(EnergyReason::WindowTooShort {
        seconds: sent.iter().map(|w| w.length().as_secs_f64()).sum(),
        joules: joules.joules,
        error: joules.error,
    })
}

fn packages(
    packages: &CpuPackages,
    windows: Result<&[Window], EnergyReason>,
) -> Result<Energy, EnergyReason> {
    if let Some(why) = &packages.unavailable {
        return Err(EnergyReason::NoPackages(why.clone()));
    }
    let counter = Counter::of(&packages.readings);
    windows?.iter().try_fold(Energy::NONE, |sum, window| Ok(sum.plus(counter.within(*window)?)))
}

fn money(inputs: &CostInputs<'_>) -> Result<f64, EnergyReason> {
    let prices = inputs.prices;
    if prices.is_empty() {
        return Err(EnergyReason::NoPrice);
    }
    let total = match inputs.total {
        None => return Err(EnergyReason::NoDeviceToPrice(no_device(inputs.log))),
        Some(total) => total.as_ref().map_err(|why| EnergyReason::NoDeviceToPrice(why.clone()))?,
    };
    let load = inputs.load.as_ref().map_err(|why| EnergyReason::from(why.clone()))?;
    let seconds: f64 = load.windows()?.iter().map(|w| w.length().as_secs_f64()).sum();
    let pace = load.tokens.ok_or(EnergyReason::TokensUnknown)? as f64 / seconds;
    let mut per_hour = 0.0;
    for device in total.devices.iter().map(|i| inputs.devices[*i].log) {
        let name = device.name.as_deref().unwrap_or_default().to_lowercase();
        let named =
            prices.iter().find(|p| p.device.as_ref().is_some_and(|d| name.contains(&d.to_lowercase())));
        let price = named.or_else(|| prices.iter().find(|p| p.device.is_none())).ok_or_else(|| {
            let name = device.name.as_deref().unwrap_or("no name").to_owned();
            EnergyReason::NoPriceFor { index: device.index, name }
        })?;
        per_hour += price.per_hour;
    }
    Ok(per_hour / (pace * 3_600.0) * 1e6)
}
