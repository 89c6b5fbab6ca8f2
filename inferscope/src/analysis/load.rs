//! The load as the report shows it: what was sent, how it went, and a sweep's steps.
//!
//! Owns the filling of `load` and `sweep` from what was measured. Computes no latency (`timing` does). Called by
//! `analysis`.

use std::collections::BTreeMap;

use crate::clock::Origin;
use crate::event::PhaseLog;
use crate::plan::{Arrival, LoadPlan, PromptPlan, Shape, Slo, Sweep, SweepOver};
use crate::report::model;
use crate::units::Nanos;

use super::Inputs;
use super::efficiency;
use super::histogram;
use super::load_aggregate::{Measured, StepDone};
use super::saturation::{self, Height};
use super::window::PhaseWindows;

pub(super) fn load(inputs: &Inputs<'_>, plan: &LoadPlan, measured: &Measured) -> model::Load {
    let sums = &measured.sums;
    let done = measured.done.first().map(|d| d.shape);
    let shape = done.or(plan.steps.first().copied()).unwrap_or(Shape::Closed { concurrency: 1 });
    let only = measured.only();
    let phases = || measured.done.iter().flat_map(|d| &d.phases);
    let (concurrency, rate_per_s) = if plan.sweep.is_some() { (None, None) } else { heights(shape) };
    model::Load {
        shape: match shape {
            Shape::Closed { .. } => "closed",
            Shape::Open { .. } => "open",
            Shape::Trace => "trace",
        }
        .to_owned(),
        concurrency,
        rate_per_s,
        offered_rate_per_s: only.and_then(StepDone::offered),
        seed: plan.load_seed,
        arrival: match shape {
            Shape::Open { arrival: Arrival::Poisson, .. } => Some("poisson".to_owned()),
            Shape::Open { arrival: Arrival::Constant, .. } => Some("constant".to_owned()),
            Shape::Closed { .. } | Shape::Trace => None,
        },
        prompts: match plan.prompts {
            PromptPlan::BuiltIn => "built_in",
            PromptPlan::Text(_) => "text",
            PromptPlan::Lines(_) => "lines",
            PromptPlan::Dataset(_) => "dataset",
            PromptPlan::Synthetic { .. } => "synthetic",
        }
        .to_owned(),
        input_tokens_asked: match plan.prompts {
            PromptPlan::Synthetic { tokens, .. } => Some(tokens),
            _ => None,
        },
        input_tokens_mean: sums.prompt.mean(),
        api: plan.api.name().to_owned(),
        endpoint: plan.endpoint.to_string(),
        model: inputs.model.clone(),
        warmup: sums.warmup,
        requests_sent: sums.sent,
        requests_ok: sums.ok,
        requests_failed: sums.failed(),
        failures: sums.failures.report(inputs.origin),
        requests_resent: measured.resent,
        connections_opened: measured.client.connections_opened,
        connect_ns: measured.connect.report(if sums.ok == 0 {
            "no measured request succeeded"
        } else {
            "each measured request that succeeded found a connection that was open already"
        }),
        in_flight: in_flight(inputs.origin, phases()),
        schedule_lag_ns: match only {
            Some(only) => only.lag.clone(),
            None => histogram::empty(if measured.is_sweep() {
                "see the sweep's steps"
            } else {
                "no measured request was sent"
            }),
        },
        slo_ns: plan.slo.map(slo),
    }
}

fn slo(slo: Slo) -> BTreeMap<String, u64> {
    let Slo { ttft, ttfo, itl, tpot, e2e } = slo;
    let levels = [("ttft", ttft), ("ttfo", ttfo), ("itl", itl), ("tpot", tpot), ("e2e", e2e)];
    levels.into_iter().filter_map(|(name, level)| Some((name.to_owned(), level?.0))).collect()
}

/// What the devices did in one step of a sweep.
pub(super) struct StepDevices {
    pub(super) energy: model::StepEnergy,
    pub(super) devices: Vec<model::StepDevice>,
}

pub(super) fn sweep(
    inputs: &Inputs<'_>,
    plan: &LoadPlan,
    measured: &Measured,
    devices: Vec<StepDevices>,
) -> Option<model::Sweep> {
    let Sweep { over, .. } = plan.sweep?;
    let heights: Vec<Height> = measured.done.iter().map(Height::of).collect();
    let knee = saturation::knee(&heights);
    let first_saturated = measured.done.first().is_some_and(|d| d.saturated.is_some());
    Some(model::Sweep {
        over: match over {
            SweepOver::Concurrency => "concurrency",
            SweepOver::Rate => "rate",
        }
        .to_owned(),
        steps: measured.done.iter().zip(devices).map(|(done, devices)| step(inputs, done, devices)).collect(),
        knee: knee.map(|k| model::Knee {
            step: k as u64,
            value: measured.done[k].shape.height(),
            offered_rate_per_s: measured.done[k].offered(),
        }),
        knee_reason: match (knee, first_saturated) {
            (Some(_), _) => None,
            _ if measured.sums.ok == 0 => Some("no measured request succeeded".to_owned()),
            (None, true) => Some("the server is saturated in the first step: begin lower".to_owned()),
            (None, false) => Some("no step saturated the server: go on higher".to_owned()),
        },
        steps_left_out: if measured.ended_early() {
            plan.steps.len().saturating_sub(measured.done.len()) as u64
        } else {
            0
        },
    })
}

fn step(inputs: &Inputs<'_>, done: &StepDone, devices: StepDevices) -> model::Step {
    let (concurrency, rate_per_s) = heights(done.shape);
    let cpu = efficiency::a_token(inputs, &done.sums);
    model::Step {
        concurrency,
        rate_per_s,
        offered_rate_per_s: done.offered(),
        requests_sent: done.sums.sent,
        requests_ok: done.sums.ok,
        requests_failed: done.sums.failed(),
        in_flight: in_flight(inputs.origin, done.phases.iter()),
        schedule_lag_ns: done.lag.clone(),
        timing: done.timing.clone(),
        cpu_ns_per_token: cpu.as_ref().ok().map(|cpu| cpu.ns),
        cpu_ns_per_token_error: cpu.as_ref().ok().map(|cpu| cpu.error),
        cpu_reason: cpu.err(),
        energy: devices.energy,
        devices: devices.devices,
        saturated: done.saturated.clone(),
    }
}

pub(super) fn heights(shape: Shape) -> (Option<u32>, Option<f64>) {
    match shape {
        Shape::Closed { concurrency } => (Some(concurrency), None),
        Shape::Open { per_second, .. } => (None, Some(per_second)),
        Shape::Trace => (None, None),
    }
}

/// Over the load's window; the samples go on to the last byte.
pub(super) fn in_flight<'a>(
    origin: Origin,
    phases: impl Iterator<Item = &'a PhaseLog> + Clone,
) -> model::InFlight {
    let (mut area, mut time, mut max) = (0.0, 0.0, None);
    let mut samples = Vec::new();
    for phase in phases {
        let Some(windows) = PhaseWindows::of(phase) else { continue };
        let window = windows.main();
        let ends = phase.in_flight.iter().skip(1).map(|s| s.t).chain([windows.whole.to]);
        for (stretch, end) in phase.in_flight.iter().zip(ends) {
            // No stretch goes on where the load ended.
            let part = end.min(window.to).since(stretch.t.max(window.from));
            if part > Nanos::ZERO {
                area += stretch.mean * part.as_secs_f64();
                time += part.as_secs_f64();
                max = max.max(Some(stretch.max));
            }
            samples.push(model::InFlightSample {
                t_ns: origin.at(stretch.t).0,
                mean: stretch.mean,
                max: stretch.max,
            });
        }
    }
    model::InFlight { mean: (time > 0.0).then(|| area / time), max, samples }
}
