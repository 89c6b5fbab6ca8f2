//! The load as the report shows it: what was sent, and how it went.
//!
//! Owns the mapping of the plan and the figures onto the model's `load`. Called by `report::build`.

use std::collections::BTreeMap;

use crate::aggregate::load::failures::FailureGroup;
use crate::clock::Origin;
use crate::figures::load::LoadFigures;
use crate::figures::load::in_flight::InFlightFigures;
use crate::plan::{Api, Arrival, LoadPlan, PromptPlan, Shape, Slo};
use crate::report::model;

use super::distribution::latency;
use super::requests::error_kind;

/// `model`: the one that was asked for.
pub(crate) fn load(
    origin: Origin,
    plan: &LoadPlan,
    model: Option<String>,
    figures: &LoadFigures<'_>,
) -> model::Load {
    let totals = figures.totals;
    let all = &totals.all;
    let sent = totals.steps.first().map(|step| step.shape);
    let shape = sent.or(plan.steps.first().copied()).unwrap_or(Shape::Closed { concurrency: 1 });
    let (concurrency, rate_per_s) = if plan.sweep.is_some() { (None, None) } else { heights(shape) };
    model::Load {
        shape: match shape {
            Shape::Closed { .. } => model::LoadShape::Closed,
            Shape::Open { .. } => model::LoadShape::Open,
            Shape::Trace => model::LoadShape::Trace,
        },
        concurrency,
        rate_per_s,
        offered_rate_per_s: figures.steps.first().filter(|_| !totals.is_sweep).and_then(|step| step.offered),
        seed: plan.load_seed,
        arrival: match shape {
            Shape::Open { arrival: Arrival::Poisson, .. } => Some(model::ArrivalProcess::Poisson),
            Shape::Open { arrival: Arrival::Constant, .. } => Some(model::ArrivalProcess::Constant),
            Shape::Closed { .. } | Shape::Trace => None,
        },
        prompts: match plan.prompts {
            PromptPlan::BuiltIn => model::PromptSource::BuiltIn,
            PromptPlan::Text(_) => model::PromptSource::Text,
            PromptPlan::Lines(_) => model::PromptSource::Lines,
            PromptPlan::Dataset(_) => model::PromptSource::Dataset,
            PromptPlan::Synthetic { .. } => model::PromptSource::Synthetic,
        },
        input_tokens_asked: match plan.prompts {
            PromptPlan::Synthetic { tokens, .. } => Some(tokens),
            _ => None,
        },
        input_tokens_mean: all.prompt.mean(),
        api: match plan.api {
            Api::Chat => model::EndpointApi::Chat,
            Api::Completions => model::EndpointApi::Completions,
        },
        endpoint: plan.endpoint.to_string(),
        model,
        warmup: all.warmup,
        requests_sent: all.sent,
        requests_ok: all.ok,
        requests_failed: all.failed(),
        failures: totals.failures().into_iter().map(|group| failures(origin, group)).collect(),
        requests_resent: totals.resent,
        connections_opened: totals.client.connections_opened,
        connect_ns: latency(&figures.connect),
        in_flight: in_flight(origin, &figures.in_flight),
        schedule_lag_ns: latency(&figures.schedule_lag),
        slo_ns: plan.slo.map(slo),
    }
}

fn failures(origin: Origin, group: FailureGroup) -> model::FailureGroup {
    model::FailureGroup {
        kind: group.kind.map(error_kind),
        http_status: group.http_status,
        count: group.count,
        warmup: group.warmup,
        first_ns: group.first.map(|t| origin.at(t).0),
        example: group.example,
    }
}

fn slo(slo: Slo) -> BTreeMap<String, u64> {
    let Slo { ttft, ttfo, itl, tpot, e2e } = slo;
    let levels = [("ttft", ttft), ("ttfo", ttfo), ("itl", itl), ("tpot", tpot), ("e2e", e2e)];
    levels.into_iter().filter_map(|(name, level)| Some((name.to_owned(), level?.0))).collect()
}

pub(crate) const fn heights(shape: Shape) -> (Option<u32>, Option<f64>) {
    match shape {
        Shape::Closed { concurrency } => (Some(concurrency), None),
        Shape::Open { per_second, .. } => (None, Some(per_second)),
        Shape::Trace => (None, None),
    }
}

pub(super) fn in_flight(origin: Origin, figures: &InFlightFigures) -> model::InFlight {
    let sample = |s: &crate::event::InFlight| model::InFlightSample {
        t_ns: origin.at(s.t).0,
        mean: s.mean,
        max: s.max,
    };
    model::InFlight {
        mean: figures.mean,
        max: figures.max,
        samples: figures.samples.iter().map(sample).collect(),
    }
}
