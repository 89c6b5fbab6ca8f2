//! Energy and what it costs, as the report has it.
//!
//! Owns the rounding of energies to millijoules. A part of `build`.

use super::super::model;
use crate::figures::cost::{Costs, Joules, PhaseEnergy, StepCosts, Way};
use crate::figures::energy::Energy;
use crate::reason::{Apart as _, EnergyReason};

/// Whole millijoules.
pub(super) fn whole_mj(energy: Energy) -> u64 {
    energy.mj.max(0.0).round() as u64
}

/// The error of `whole_mj`: what rounding moved, and what none can be below, is in it.
pub(super) fn whole_error_mj(energy: Energy) -> u64 {
    let (low, high) = (energy.mj - energy.error_mj, energy.mj + energy.error_mj);
    let whole = whole_mj(energy) as f64;
    (whole - low.min(whole)).max(high - whole).max(0.0).ceil() as u64
}

/// A figure and its error, as two fields.
fn apart(joules: Option<Joules>) -> (Option<f64>, Option<f64>) {
    joules.map(|j| (j.joules, j.error)).unzip()
}

fn whole(energy: Option<Energy>) -> (Option<u64>, Option<u64>) {
    energy.map(|energy| (whole_mj(energy), whole_error_mj(energy))).unzip()
}

/// `efficiency` with the joules and the money. `phases`: of the load as a whole.
pub(crate) fn efficiency(
    efficiency: model::Efficiency,
    costs: Costs,
    phases: Result<PhaseEnergy, EnergyReason>,
) -> model::Efficiency {
    let (joules_per_token, joules_per_token_error) = apart(costs.a_token);
    let (joules_per_request, joules_per_request_error) = apart(costs.a_request);
    let (above, above_error) = apart(costs.a_token_above_idle);
    let (cpu_package_joules, cpu_package_joules_error) = apart(costs.packages.ok());
    let (of_cpu, cpu_joules_reason) = costs.packages_a_token.apart();
    let (cpu_joules_per_token, cpu_joules_per_token_error) = apart(of_cpu);
    let (cost_per_million_tokens, cost_reason) = costs.million_tokens.apart();
    let (phases, prefill_decode_reason) = phases.apart();
    model::Efficiency {
        joules_per_token,
        joules_per_token_error,
        joules_per_request,
        joules_per_request_error,
        joules_per_token_above_idle: above,
        joules_per_token_above_idle_error: above_error,
        tokens_per_joule: costs.a_token.map(Joules::inverse),
        tokens_per_joule_error: costs.a_token.map(Joules::inverse_error),
        joules_reason: costs.reason.map(|why| why.to_string()),
        cpu_package_joules,
        cpu_package_joules_error,
        cpu_joules_per_token,
        cpu_joules_per_token_error,
        cpu_joules_reason,
        cost_per_million_tokens,
        cost_reason,
        prefill_decode: phases.map(prefill_decode),
        prefill_decode_reason,
        ..efficiency
    }
}

/// One step of a sweep.
pub(crate) fn step(costs: StepCosts) -> model::StepEnergy {
    let (energy_mj, energy_error_mj) = whole(costs.energy.ok());
    let (a_token, joules_reason) = costs.a_token.apart();
    let (joules_per_token, joules_per_token_error) = apart(a_token);
    let (phases, prefill_decode_reason) = costs.phases.apart();
    model::StepEnergy {
        energy_mj,
        energy_error_mj,
        joules_per_token,
        joules_per_token_error,
        tokens_per_joule: a_token.map(Joules::inverse),
        tokens_per_joule_error: a_token.map(Joules::inverse_error),
        joules_reason,
        prefill_decode: phases.map(prefill_decode),
        prefill_decode_reason,
    }
}

fn prefill_decode(phases: PhaseEnergy) -> model::PrefillDecode {
    let ways: Vec<&str> = phases.ways.iter().map(|way| in_words(*way)).collect();
    let no_prompt_tokens = phases.prefill.is_ok() && phases.a_prompt_token.is_none();
    let (prefill, prefill_reason) = phases.prefill.apart();
    let (decode, decode_reason) = phases.decode.apart();
    let (prefill_mj, prefill_error_mj) = whole(prefill);
    let (decode_mj, decode_error_mj) = whole(decode);
    let (joules_per_prompt_token, joules_per_prompt_token_error) = apart(phases.a_prompt_token);
    let (joules_per_decode_token, joules_per_decode_token_error) = apart(phases.a_decode_token);
    model::PrefillDecode {
        method: format!(
            "one request was in flight at a time: prefill from the send to the first token, decode from there to the \
             last, by {}",
            ways.join(" and ")
        ),
        requests: phases.requests,
        prompt_tokens: phases.prompt_tokens,
        decode_tokens: phases.decode_tokens,
        prefill_mj,
        prefill_error_mj,
        prefill_reason,
        joules_per_prompt_token,
        joules_per_prompt_token_error,
        joules_per_prompt_token_reason: no_prompt_tokens
            .then(|| EnergyReason::PromptTokensUnknown.to_string()),
        decode_mj,
        decode_error_mj,
        decode_reason,
        joules_per_decode_token,
        joules_per_decode_token_error,
    }
}

const fn in_words(way: Way) -> &'static str {
    match way {
        Way::Counter => "the energy counter",
        Way::PowerOfTheMoment => "the power of the moment",
    }
}
