//! What a token and a request cost in energy and money.
//!
//! Owns the division of the devices' energy over the load's window, or a step's, its error, and when it is withheld: what
//! another process used as well, or what is known too roughly, is no figure of the target's. Called by `analysis`,
//! `load` and `phase_energy`.

use crate::report::model;

use super::Inputs;
use super::energy::{Counter, Energy};
use super::gpus::Counted;
use super::load_aggregate::StepDone;
use super::load_totals::Sums;
use super::phase_energy::{self, Requests};
use super::window::Window;

/// A figure that may be off by more than this part of itself is withheld.
const MOST_ERROR: f64 = 0.25;

const NOTHING: &str = "nothing was sent";
const NO_TOKENS: &str = "the number of tokens is unknown";

/// `efficiency` with the joules and the money.
pub(super) fn beside(
    efficiency: model::Efficiency,
    inputs: &Inputs<'_>,
    gpus: &[model::Gpu],
    summary: Option<&model::GpuSummary>,
    counted: &Counted<'_>,
) -> model::Efficiency {
    let spent = windows(inputs).and_then(|sent| known(Joules::of(counted.energy(sent)?), sent));
    let above = spent.as_ref().ok().and(summary).and_then(|s| {
        let (mj, error_mj) = (s.energy_above_idle_mj? as f64, s.energy_above_idle_error_mj? as f64);
        Some(Joules::of(Energy { mj, error_mj })).filter(|j| j.is_known())
    });
    let cpu = packages(inputs);
    let cost = cost(inputs, gpus, summary);
    let sums = inputs.load.map(|measured| &measured.sums);
    let tokens = sums.and_then(Sums::tokens_in_windows).filter(|n| *n > 0);
    let joules = spent.as_ref().ok().copied();
    let a_token = joules.zip(tokens).map(|(j, n)| j.each(n));
    let a_request = a_token.zip(sums.and_then(Sums::tokens_a_request)).map(|(j, n)| j.times(n));
    let above_token = above.zip(tokens).map(|(j, n)| j.each(n));
    let reason = match &spent {
        Err(why) => Some(why.clone()),
        Ok(_) if sums.is_none_or(|s| s.ok == 0) => Some("no measured request succeeded".to_owned()),
        Ok(_) if a_token.is_none() => Some(NO_TOKENS.to_owned()),
        Ok(_) => None,
    };
    // Its sum stands with its error; a token's is withheld as a device's is.
    let of_cpu = cpu
        .clone()
        .and_then(|j| known(j, windows(inputs)?))
        .and_then(|j| tokens.map(|n| j.each(n)).ok_or_else(|| NO_TOKENS.to_owned()));
    model::Efficiency {
        joules_per_token: a_token.map(|j| j.joules),
        joules_per_token_error: a_token.map(|j| j.error),
        joules_per_request: a_request.map(|j| j.joules),
        joules_per_request_error: a_request.map(|j| j.error),
        joules_per_token_above_idle: above_token.map(|j| j.joules),
        joules_per_token_above_idle_error: above_token.map(|j| j.error),
        tokens_per_joule: a_token.map(Joules::inverse),
        tokens_per_joule_error: a_token.map(Joules::inverse_error),
        joules_reason: reason,
        cpu_package_joules: cpu.as_ref().ok().map(|c| c.joules),
        cpu_package_joules_error: cpu.as_ref().ok().map(|c| c.error),
        cpu_joules_per_token: of_cpu.as_ref().ok().map(|j| j.joules),
        cpu_joules_per_token_error: of_cpu.as_ref().ok().map(|j| j.error),
        cpu_joules_reason: of_cpu.err(),
        cost_per_million_tokens: cost.as_ref().ok().copied(),
        cost_reason: cost.err(),
        ..efficiency
    }
}

/// Of one step of a sweep, over its own windows.
pub(super) fn of_step(counted: &Counted<'_>, requests: &Requests<'_>, done: &StepDone) -> model::StepEnergy {
    let windows = done.sums.windows();
    let energy = if windows.is_empty() { Err(NOTHING.to_owned()) } else { counted.energy(windows) };
    let spent = energy.clone().and_then(|energy| known(Joules::of(energy), windows));
    let tokens = done.sums.tokens_in_windows().filter(|n| *n > 0);
    let a_token = spent.and_then(|j| match tokens {
        Some(n) => Ok(j.each(n)),
        None if done.sums.ok == 0 => Err("no measured request succeeded".to_owned()),
        None => Err(NO_TOKENS.to_owned()),
    });
    let apart = energy.clone().and_then(|_| phase_energy::prefill_decode(requests, &done.sums, counted));
    model::StepEnergy {
        energy_mj: energy.as_ref().ok().map(|e| e.whole_mj()),
        energy_error_mj: energy.as_ref().ok().map(|e| e.whole_error_mj()),
        joules_per_token: a_token.as_ref().ok().map(|j| j.joules),
        joules_per_token_error: a_token.as_ref().ok().map(|j| j.error),
        tokens_per_joule: a_token.as_ref().ok().map(|j| j.inverse()),
        tokens_per_joule_error: a_token.as_ref().ok().map(|j| j.inverse_error()),
        joules_reason: a_token.err(),
        prefill_decode_reason: apart.as_ref().err().cloned(),
        prefill_decode: apart.ok(),
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Joules {
    pub(super) joules: f64,
    pub(super) error: f64,
}

impl Joules {
    pub(super) const fn of(energy: Energy) -> Self {
        Self { joules: energy.mj / 1e3, error: energy.error_mj / 1e3 }
    }

    /// Nothing at all is no figure either: what is not there costs no token anything.
    pub(super) fn is_known(self) -> bool {
        self.joules > 0.0 && self.error <= self.joules * MOST_ERROR
    }

    pub(super) const fn each(self, n: u64) -> Self {
        Self { joules: self.joules / n as f64, error: self.error / n as f64 }
    }

    fn times(self, n: f64) -> Self {
        Self { joules: self.joules * n, error: self.error * n }
    }

    fn inverse(self) -> f64 {
        1.0 / self.joules
    }

    /// The wider side: what the error makes of the joules is not the same up and down.
    fn inverse_error(self) -> f64 {
        1.0 / (self.joules - self.error) - 1.0 / self.joules
    }
}

/// What is known well enough to be divided.
fn known(joules: Joules, sent: &[Window]) -> Result<Joules, String> {
    if joules.is_known() {
        return Ok(joules);
    }
    Err(format!(
        "the load's window of {:.2} s is too short: its {:.1} J may be off by {:.1} J",
        sent.iter().map(|w| w.length().as_secs_f64()).sum::<f64>(),
        joules.joules,
        joules.error
    ))
}

fn windows<'a>(inputs: &Inputs<'a>) -> Result<&'a [Window], String> {
    let all = inputs.load.map(|measured| measured.sums.windows()).filter(|all| !all.is_empty());
    all.ok_or_else(|| if inputs.load.is_none() { inputs.unsent() } else { NOTHING }.to_owned())
}

/// The CPU packages' energy, all of the machine's.
fn packages(inputs: &Inputs<'_>) -> Result<Joules, String> {
    let packages = &inputs.gpu.packages;
    if let Some(why) = &packages.unavailable {
        return Err(why.clone());
    }
    let counter = Counter::of(&packages.readings);
    let of = |w: &Window| counter.between(w.from, w.to);
    let all = windows(inputs)?.iter().map(of).try_fold(Energy::NONE, |sum, e| Ok::<_, String>(sum.plus(e?)));
    all.map(Joules::of)
}

/// Of a million tokens put out, at the prices given and at the measured pace.
fn cost(
    inputs: &Inputs<'_>,
    gpus: &[model::Gpu],
    summary: Option<&model::GpuSummary>,
) -> Result<f64, String> {
    let prices = &inputs.plan.observe.prices;
    if prices.is_empty() {
        return Err("no --price-per-hour was given".to_owned());
    }
    let summary = summary.filter(|s| !s.devices.is_empty()).ok_or_else(|| {
        let why = summary.and_then(|s| s.reason.clone()).unwrap_or_else(|| super::no_gpu(inputs.gpu));
        format!("no device to price: {why}")
    })?;
    let sums = inputs.load.map(|measured| &measured.sums);
    let seconds: f64 = windows(inputs)?.iter().map(|w| w.length().as_secs_f64()).sum();
    let tokens =
        sums.and_then(Sums::tokens_in_windows).filter(|n| *n > 0).ok_or("the number of tokens is unknown")?;
    let pace = tokens as f64 / seconds;
    let mut per_hour = 0.0;
    for gpu in summary.devices.iter().map(|i| &gpus[*i]) {
        let name = gpu.name.as_deref().unwrap_or_default().to_lowercase();
        let named =
            prices.iter().find(|p| p.device.as_ref().is_some_and(|d| name.contains(&d.to_lowercase())));
        let price = named.or_else(|| prices.iter().find(|p| p.device.is_none()));
        let price = price.ok_or_else(|| {
            format!(
                "no --price-per-hour for device {} ({})",
                gpu.index,
                gpu.name.as_deref().unwrap_or("no name")
            )
        })?;
        per_hour += price.per_hour;
    }
    Ok(per_hour / (pace * 3_600.0) * 1e6)
}
