//! A sweep and its steps as the report shows them.
//!
//! Owns the mapping. The costs of a step are handed in, one a step. Called by `report::build`.

use crate::clock::Origin;
use crate::figures::cpu_cost::Used;
use crate::figures::load::{LoadFigures, StepFigures};
use crate::plan::{LoadPlan, SweepOver};
use crate::reason::{Apart as _, Known};
use crate::report::model;

use super::distribution::latency;
use super::load::{heights, in_flight};
use super::timing::timing;

/// What a token of a step cost, and what limited the devices in it.
pub(crate) struct StepCost {
    /// CPU time of the process set.
    pub(crate) cpu: Known<Used>,
    pub(crate) energy: model::StepEnergy,
    pub(crate) devices: Vec<model::StepDevice>,
}

pub(crate) fn sweep(
    origin: Origin,
    plan: &LoadPlan,
    figures: &LoadFigures<'_>,
    costs: Vec<StepCost>,
) -> Option<model::Sweep> {
    let over = plan.sweep?.over;
    let (knee, knee_reason) = figures.knee.clone().apart();
    let step = |(step, cost): (&StepFigures<'_>, StepCost)| {
        let (concurrency, rate_per_s) = heights(step.totals.shape);
        let StepCost { cpu, energy, devices } = cost;
        let (cpu, cpu_reason) = cpu.apart();
        model::Step {
            concurrency,
            rate_per_s,
            offered_rate_per_s: step.offered,
            requests_sent: step.totals.totals.sent,
            requests_ok: step.totals.totals.ok,
            requests_failed: step.totals.totals.failed(),
            in_flight: in_flight(origin, &step.in_flight),
            schedule_lag_ns: latency(&step.schedule_lag),
            timing: timing(origin, &step.timing),
            cpu_ns_per_token: cpu.map(|cpu| cpu.ns),
            cpu_ns_per_token_error: cpu.map(|cpu| cpu.error),
            cpu_reason,
            energy,
            devices,
            saturated: step.saturated.map(|why| why.to_string()),
        }
    };
    Some(model::Sweep {
        over: match over {
            SweepOver::Concurrency => model::SweepVariable::Concurrency,
            SweepOver::Rate => model::SweepVariable::Rate,
        },
        steps: figures.steps.iter().zip(costs).map(step).collect(),
        knee: knee.map(|knee| model::Knee {
            step: knee as u64,
            value: figures.steps[knee].totals.shape.height(),
            offered_rate_per_s: figures.steps[knee].offered,
        }),
        knee_reason,
        steps_left_out: figures.steps_left_out as u64,
    })
}
