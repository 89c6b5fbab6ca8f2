//! The devices, their energy and what limits them: figures, verdicts, and the parts of the model that come of them.
//!
//! Owns the order of the calls, and the way from the load's sums and listed requests to the inputs of `figures` and `verdict`.
//! Computes nothing itself. Called by `report::build`.

use crate::aggregate::load::LoadTotals;
use crate::aggregate::load::request_list::ListedRequest;
use crate::aggregate::load::totals::Totals;
use crate::clock::Window;
use crate::event::FailureKind;
use crate::figures::cost::{
    self, ClientStalls, CostInputs, Costs, Delivered, InFlight, PhaseEnergy, RequestSpan, StepCosts,
    TargetDevices,
};
use crate::figures::devices::{self, Members, Span};
use crate::figures::energy::EnergyTable;
use crate::figures::load::in_flight::InFlightFigures;
use crate::figures::load::timing::Timing;
use crate::figures::load::{LoadFigures, StepFigures};
use crate::plan::GpuChoice;
use crate::reason::EnergyReason;
use crate::report::build;
use crate::report::model;
use crate::verdict;
use crate::verdict::bottleneck::{self, Load, Scene, Sent, Step};
use crate::verdict::doubt::Doubt;

use super::Inputs;

/// The parts of the report that come of the devices.
pub(super) struct DeviceReport {
    pub(super) gpus: Vec<model::Gpu>,
    pub(super) summary: Option<model::GpuSummary>,
    /// Of a sweep, one a step.
    pub(super) steps: Vec<StepDevices>,
    pub(super) costs: Costs,
    pub(super) phases: Result<PhaseEnergy, EnergyReason>,
    pub(super) doubts: Vec<Doubt>,
    pub(super) insights: Vec<model::Insight>,
}

/// What the devices did in one step of a sweep.
pub(super) struct StepDevices {
    pub(super) energy: model::StepEnergy,
    pub(super) devices: Vec<model::StepDevice>,
}

/// `complete`: no process of the set is missing. `client_limits`: the client was in the way.
pub(super) fn device_report(
    inputs: &Inputs<'_>,
    load: Option<&LoadFigures<'_>>,
    complete: bool,
    client_limits: bool,
) -> DeviceReport {
    let (log, origin) = (inputs.gpu, inputs.origin);
    let totals = load.map(|load| load.totals);
    let windows = totals.map(|t| t.all.windows()).unwrap_or_default();
    let members = inputs.observation.map_or_else(Members::none, |observation| {
        Members::new(observation, origin, log.pids_are_ours, complete)
    });
    let span = Span::of(log, windows).map(|span| span.0).unwrap_or_default();
    let table = EnergyTable::new(log, &span);
    let devices = devices::devices(log, windows, &members, &table);
    let named = matches!(inputs.plan.observe.gpu, GpuChoice::These(_));
    let total = (!devices.is_empty()).then(|| devices::total(&devices, named));
    let target = TargetDevices::new(log, &table, &members, total.as_ref());
    let requests = in_flight(totals);
    let steps = totals.filter(|totals| totals.is_sweep).map(|totals| {
        let of_step = |step| StepCosts::new(&target, &requests, &delivered(step));
        totals.steps.iter().map(|step| of_step(&step.totals)).collect::<Vec<_>>()
    });
    let phases = match (totals, &steps) {
        (_, Some(steps)) => Err(cost::of_a_sweep(steps.iter().map(|step| &step.phases))),
        (Some(totals), None) => cost::prefill_decode(&requests, &delivered(&totals.all), &target),
        (None, None) => Err(inputs.unsent_reason().into()),
    };
    let costs = Costs::new(&CostInputs {
        log,
        packages: inputs.packages,
        load: totals.map(|t| delivered(&t.all)).ok_or_else(|| inputs.unsent_reason()),
        devices: &devices,
        total: total.as_ref(),
        target: &target,
        prices: &inputs.plan.observe.prices,
    });
    let counted = total.as_ref().and_then(|total| total.as_ref().ok()).map(|total| total.devices.as_slice());
    let scene = Scene {
        log,
        devices: &devices,
        counted: counted.unwrap_or_default(),
        client: client_limits,
        sent: sent(load, &requests),
    };
    let judgement = bottleneck::judge(&scene);
    let findings = bottleneck::findings(&devices, &scene.sent, &judgement);
    let roots = &inputs.target.roots;
    let theirs = |pid: &u32| roots.contains(pid) || members.ever_had(*pid);
    let visible = log.visible_devices.iter().filter(|(pid, _)| theirs(pid));
    DeviceReport {
        gpus: devices
            .iter()
            .zip(&judgement.devices)
            .map(|(device, verdict)| build::gpus::gpu(origin, device, verdict))
            .collect(),
        summary: total.as_ref().map(|total| {
            let visible = visible.map(|(pid, value)| (*pid, value.clone())).collect();
            build::gpus::summary(origin, log, total, visible)
        }),
        steps: steps
            .unwrap_or_default()
            .into_iter()
            .zip(judgement.steps)
            .map(|(costs, verdicts)| StepDevices {
                energy: build::energy::step(costs),
                devices: verdicts.into_iter().map(build::bottleneck::step_device).collect(),
            })
            .collect(),
        costs,
        phases,
        doubts: verdict::devices::doubts(log, &devices, origin),
        insights: findings.into_iter().map(build::bottleneck::insight).collect(),
    }
}

fn delivered(sums: &Totals) -> Delivered<'_> {
    Delivered {
        windows: sums.windows(),
        whole: &sums.work.whole,
        tokens: sums.tokens_in_windows().filter(|n| *n > 0),
        tokens_a_request: sums.tokens_a_request(),
        ok: sums.ok,
        prompt_tokens: sums.prompt.total().filter(|n| *n > 0),
        decode_tokens: sums.after_first.total(),
        stalls: ClientStalls {
            longest: sums.left_out.longest,
            first_tokens: sums.left_out.first_tokens,
            ends: sums.left_out.ends,
        },
    }
}

fn in_flight(totals: Option<&LoadTotals>) -> InFlight {
    let listed = totals.iter().flat_map(|t| &t.requests.requests).map(span);
    InFlight::new(listed, totals.map_or(0, |t| t.requests.unlisted))
}

fn span(r: &ListedRequest) -> RequestSpan {
    let given_up =
        |kind| matches!(kind, FailureKind::Timeout | FailureKind::Malformed | FailureKind::Disconnect);
    RequestSpan {
        id: r.id,
        flight: Window { from: r.sent, to: r.done },
        first_token: r.first_token,
        last_token: r.last_token,
        ok: r.failure.is_none(),
        warmup: r.warmup,
        given_up: r.failure.as_ref().is_some_and(|failure| given_up(failure.kind)),
    }
}

/// For the verdict on what limits the devices.
fn sent<'a>(load: Option<&LoadFigures<'a>>, requests: &InFlight) -> Sent<'a> {
    let Some(load) = load else { return Sent::Nothing };
    if load.totals.is_sweep {
        return Sent::Sweep(load.steps.iter().map(|of| step(of, requests)).collect());
    }
    Sent::Load(of_load(load.totals.all.windows(), &load.in_flight, load.timing.as_ref().ok(), requests))
}

fn step<'a>(of: &StepFigures<'a>, requests: &InFlight) -> Step<'a> {
    let (concurrency, rate_per_s) = build::load::heights(of.totals.shape);
    Step {
        load: of_load(of.totals.totals.windows(), &of.in_flight, Some(&of.timing), requests),
        offered: of.load,
        gave: of.gave,
        concurrency,
        rate_per_s,
    }
}

fn of_load<'a>(
    windows: &'a [Window],
    counted: &InFlightFigures,
    timing: Option<&Timing>,
    requests: &InFlight,
) -> Load<'a> {
    let in_flight = requests.share(windows).map(|share| share * 100.0);
    // Of a number that is N at most, the mean over N is the least part of the time in which it is not 0.
    let at_least = |mean: f64, max: u32| (max > 0).then(|| (mean / f64::from(max)).min(1.0) * 100.0);
    let least = counted.mean.zip(counted.max).and_then(|(mean, max)| at_least(mean, max));
    let alone = timing.filter(|_| counted.max == Some(1));
    Load {
        windows,
        in_flight,
        in_flight_least: in_flight.or(least),
        alone_steps_per_s: alone.and_then(|t| t.decode_tokens_per_s.as_ref().ok().copied()),
    }
}
