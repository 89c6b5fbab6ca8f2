//! The devices, their energy and what limits them: figures, verdicts, and the parts of the model that come of them.
//!
//! Owns the order of the calls, and the way from the load's sums and listed requests to the inputs of `figures` and `verdict`.
//! Computes nothing itself. Called by `analysis`.

use crate::clock::{Origin, Window};
use crate::event::PhaseLog;
use crate::figures::cost::{
    self, ClientStalls, CostInputs, Costs, Delivered, InFlight, PhaseEnergy, RequestSpan, StepCosts,
    TargetDevices,
};
use crate::figures::devices::{self, Members, Span};
use crate::figures::energy::EnergyTable;
use crate::plan::GpuChoice;
use crate::reason::EnergyReason;
use crate::report::build;
use crate::report::model::{self, ErrorKind, Request, Timing};
use crate::units::Nanos;
use crate::verdict;
use crate::verdict::bottleneck::{self, Load, Scene, Sent, Step};

use super::Inputs;
use super::load::{self, StepDevices};
use super::load_aggregate::{Measured, StepDone};
use super::load_totals::Sums;
use super::saturation::Height;

/// The parts of the report that come of the devices.
pub(super) struct DeviceReport {
    pub(super) gpus: Vec<model::Gpu>,
    pub(super) summary: Option<model::GpuSummary>,
    /// Of a sweep, one a step.
    pub(super) steps: Vec<StepDevices>,
    pub(super) costs: Costs,
    pub(super) phases: Result<PhaseEnergy, EnergyReason>,
    pub(super) doubts: Vec<model::Validity>,
    pub(super) insights: Vec<model::Insight>,
}

/// `complete`: no process of the set is missing. `client_limits`: the client was in the way.
pub(super) fn device_report(inputs: &Inputs<'_>, complete: bool, client_limits: bool) -> DeviceReport {
    let (log, origin, measured) = (inputs.gpu, inputs.origin, inputs.load);
    let windows = measured.map(|m| m.sums.windows()).unwrap_or_default();
    let members = inputs.observation.map_or_else(Members::none, |observation| {
        Members::new(observation, origin, log.pids_are_ours, complete)
    });
    let span = Span::of(log, windows).map(|span| span.0).unwrap_or_default();
    let table = EnergyTable::new(log, &span);
    let devices = devices::devices(log, windows, &members, &table);
    let named = matches!(inputs.plan.observe.gpu, GpuChoice::These(_));
    let total = (!devices.is_empty()).then(|| devices::total(&devices, named));
    let target = TargetDevices::new(log, &table, &members, total.as_ref());
    let requests = in_flight(measured, origin);
    let steps = measured.filter(|m| m.is_sweep()).map(|measured| {
        let of_step = |done: &StepDone| StepCosts::new(&target, &requests, &delivered(&done.sums));
        measured.done.iter().map(of_step).collect::<Vec<_>>()
    });
    let phases = match (measured, &steps) {
        (_, Some(steps)) => Err(cost::of_a_sweep(steps.iter().map(|step| &step.phases))),
        (Some(measured), None) => cost::prefill_decode(&requests, &delivered(&measured.sums), &target),
        (None, None) => Err(inputs.unsent_reason().into()),
    };
    let costs = Costs::new(&CostInputs {
        log,
        load: measured.map(|m| delivered(&m.sums)).ok_or_else(|| inputs.unsent_reason()),
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
        sent: sent(measured, &requests, origin),
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
        doubts: verdict::devices::doubts(log, &devices, origin).into_iter().map(build::gpus::doubt).collect(),
        insights: findings.into_iter().map(build::bottleneck::insight).collect(),
    }
}

fn delivered(sums: &Sums) -> Delivered<'_> {
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

fn in_flight(measured: Option<&Measured>, origin: Origin) -> InFlight {
    let listed = measured.iter().flat_map(|m| &m.requests).map(|r| span(r, origin));
    InFlight::new(listed, measured.map_or(0, |m| m.unlisted))
}

fn span(r: &Request, origin: Origin) -> RequestSpan {
    let at = |ns: u64| origin.mono.plus(Nanos(ns));
    let given_up = |kind| matches!(kind, ErrorKind::Timeout | ErrorKind::Malformed | ErrorKind::Disconnect);
    RequestSpan {
        id: r.id,
        flight: Window { from: at(r.sent_ns), to: at(r.done_ns) },
        first_token: r.first_token_ns.map(at),
        last_token: r.last_token_ns.map(at),
        ok: r.ok,
        warmup: r.warmup,
        given_up: r.error_kind.is_some_and(given_up),
    }
}

/// For the verdict on what limits the devices.
fn sent<'a>(measured: Option<&'a Measured>, requests: &InFlight, origin: Origin) -> Sent<'a> {
    let Some(measured) = measured else { return Sent::Nothing };
    if measured.is_sweep() {
        return Sent::Sweep(measured.done.iter().map(|done| step(done, requests, origin)).collect());
    }
    let timing = measured.only().map(|done| &done.timing);
    let phases = measured.done.iter().flat_map(|d| &d.phases);
    Sent::Load(of_load(measured.sums.windows(), phases, timing, requests, origin))
}

fn step<'a>(done: &'a StepDone, requests: &InFlight, origin: Origin) -> Step<'a> {
    let height = Height::of(done);
    let (concurrency, rate_per_s) = load::heights(done.shape);
    let timing = Some(&done.timing);
    Step {
        load: of_load(done.sums.windows(), done.phases.iter(), timing, requests, origin),
        offered: height.offered,
        gave: height.gave,
        concurrency,
        rate_per_s,
    }
}

fn of_load<'a, 'p>(
    windows: &'a [Window],
    phases: impl Iterator<Item = &'p PhaseLog> + Clone,
    timing: Option<&Timing>,
    requests: &InFlight,
    origin: Origin,
) -> Load<'a> {
    let in_flight = requests.share(windows).map(|share| share * 100.0);
    let counted = load::in_flight(origin, phases);
    // Of a number that is N at most, the mean over N is the least part of the time in which it is not 0.
    let at_least = |mean: f64, max: u32| (max > 0).then(|| (mean / f64::from(max)).min(1.0) * 100.0);
    let least = counted.mean.zip(counted.max).and_then(|(mean, max)| at_least(mean, max));
    Load {
        windows,
        in_flight,
        in_flight_least: in_flight.or(least),
        alone_steps_per_s: timing.filter(|_| counted.max == Some(1)).and_then(|t| t.decode_tokens_per_s),
    }
}
