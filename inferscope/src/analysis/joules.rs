//! What a token and a request cost in energy and money.
//!
//! Owns the division of the devices' energy over the load's window, its error, and when it is withheld: what another
//! process used as well, or what is known too roughly, is no figure of the target's. Called by `analysis`.

use crate::report::model;

use super::Inputs;
use super::energy;
use super::requests::Window;

/// A figure that may be off by more than this part of itself is withheld.
const MOST_ERROR: f64 = 0.25;

/// `efficiency` with the joules and the money.
pub(super) fn beside(
    efficiency: model::Efficiency,
    inputs: &Inputs<'_>,
    gpus: &[model::Gpu],
    summary: Option<&model::GpuSummary>,
) -> model::Efficiency {
    let spent = spent(inputs, gpus, summary);
    let cpu = packages(inputs);
    let cost = cost(inputs, gpus, summary);
    let sums = inputs.load.map(|measured| &measured.sums);
    let tokens = sums.and_then(|s| s.output.total());
    let requests = sums.map(|s| s.ok);
    let joules = |spent: Option<Joules>, n: Option<u64>| {
        let n = n.filter(|n| *n > 0)? as f64;
        spent.map(|s| (s.joules / n, s.error / n))
    };
    let (all, above) = spent.as_ref().map_or((None, None), |s| (Some(s.all), s.above_idle));
    let a_token = joules(all, tokens);
    let a_request = joules(all, requests);
    let above_token = joules(above, tokens);
    let reason = match &spent {
        Err(why) => Some(why.clone()),
        Ok(_) if a_request.is_none() => Some("no measured request succeeded".to_owned()),
        Ok(_) if a_token.is_none() => Some("the number of tokens is unknown".to_owned()),
        Ok(_) => None,
    };
    let of_cpu = joules(cpu.as_ref().ok().copied(), tokens);
    model::Efficiency {
        joules_per_token: a_token.map(|j| j.0),
        joules_per_token_error: a_token.map(|j| j.1),
        joules_per_request: a_request.map(|j| j.0),
        joules_per_request_error: a_request.map(|j| j.1),
        joules_per_token_above_idle: above_token.map(|j| j.0),
        joules_per_token_above_idle_error: above_token.map(|j| j.1),
        tokens_per_joule: a_token.map(|j| 1.0 / j.0),
        // The wider side: what the error makes of the joules is not the same up and down.
        tokens_per_joule_error: a_token.map(|(j, e)| 1.0 / (j - e) - 1.0 / j),
        joules_reason: reason,
        cpu_package_joules: cpu.as_ref().ok().map(|c| c.joules),
        cpu_package_joules_error: cpu.as_ref().ok().map(|c| c.error),
        cpu_joules_per_token: of_cpu.map(|j| j.0),
        cpu_joules_reason: cpu.err(),
        cost_per_million_tokens: cost.as_ref().ok().copied(),
        cost_reason: cost.err(),
        ..efficiency
    }
}

#[derive(Debug, Clone, Copy)]
struct Joules {
    joules: f64,
    error: f64,
}

impl Joules {
    fn of(mj: Option<u64>, error_mj: Option<u64>) -> Option<Self> {
        Some(Self { joules: mj? as f64 / 1e3, error: error_mj? as f64 / 1e3 })
    }

    fn is_known(self) -> bool {
        self.error <= self.joules * MOST_ERROR
    }
}

struct Spent {
    all: Joules,
    /// Without what the devices use at rest.
    above_idle: Option<Joules>,
}

fn spent(
    inputs: &Inputs<'_>,
    gpus: &[model::Gpu],
    summary: Option<&model::GpuSummary>,
) -> Result<Spent, String> {
    let Some(summary) = summary else {
        return Err(format!("no energy reading: {}", super::no_gpu(inputs.gpu)));
    };
    let sent = windows(inputs)?;
    let used: Vec<&model::Gpu> = summary.devices.iter().map(|i| &gpus[*i]).collect();
    if let Some(gpu) = used.iter().find(|g| !g.shared_with.is_empty()) {
        let others: Vec<String> = gpu.shared_with.iter().map(u32::to_string).collect();
        return Err(format!(
            "device {} was also used by others in that time (pid {}): its energy can't be divided",
            gpu.index,
            others.join(", ")
        ));
    }
    let all = Joules::of(summary.energy_mj, summary.energy_error_mj);
    let all =
        all.ok_or_else(|| summary.reason.clone().unwrap_or_else(|| "the energy is unknown".to_owned()))?;
    if !all.is_known() {
        return Err(format!(
            "the load's window of {:.2} s is too short: its {:.1} J may be off by {:.1} J",
            sent.iter().map(|w| w.length().as_secs_f64()).sum::<f64>(),
            all.joules,
            all.error
        ));
    }
    let above_idle = Joules::of(summary.energy_above_idle_mj, summary.energy_above_idle_error_mj);
    Ok(Spent { all, above_idle: above_idle.filter(|j| j.is_known()) })
}

fn windows<'a>(inputs: &Inputs<'a>) -> Result<&'a [Window], String> {
    let all = inputs.load.map(|measured| measured.sums.windows.as_slice()).filter(|all| !all.is_empty());
    all.ok_or_else(|| "nothing was sent".to_owned())
}

/// The CPU packages' energy, all of the machine's.
fn packages(inputs: &Inputs<'_>) -> Result<Joules, String> {
    let packages = &inputs.gpu.packages;
    if let Some(why) = &packages.unavailable {
        return Err(why.clone());
    }
    let mut all = Joules { joules: 0.0, error: 0.0 };
    for window in windows(inputs)? {
        let energy = energy::counted(&packages.readings, window.from, window.to)?;
        all.joules += energy.mj / 1e3;
        all.error += energy.error_mj / 1e3;
    }
    Ok(all)
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
        sums.and_then(|s| s.output.total()).filter(|n| *n > 0).ok_or("the number of tokens is unknown")?;
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
