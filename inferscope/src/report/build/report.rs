//! The report of one run, put together.
//!
//! Owns the order: figures of what the sources gave, findings on the figures, then each part of the model. Never reads a clock, a
//! file or a socket. Called once by `session`, when the sources have ended.

use crate::aggregate::load::LoadTotals;
use crate::clock::{Mono, Origin};
use crate::event::{CpuPackages, ExitStatus, GpuLog, Observation};
use crate::figures::cost::no_device;
use crate::figures::cpu_cost::SetCpu;
use crate::figures::load::LoadFigures;
use crate::figures::set::{MemberExit, Scope, SetFigures};
use crate::plan::Plan;
use crate::reason::{Apart as _, LoadReason, SetReason};
use crate::report::build::sweep::StepCost;
use crate::report::{build, catalogue, model};
use crate::verdict::doubt::{Doubt, DoubtLevel};
use crate::verdict::{self, RunFacts};

/// What became of the plan's target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TargetFound {
    /// Of a tree. Without these and a cgroup nothing was observed, and `none_reason` says why.
    pub roots: Vec<u32>,
    /// The target is this whole cgroup of the v2 hierarchy.
    pub cgroup: Option<String>,
    /// `exec`: how the command ended.
    pub exit: Option<ExitStatus>,
    /// `exec` with a load: when the endpoint first answered.
    pub ready: Option<Mono>,
    /// In words: the flag, or the socket that led to it.
    pub how_found: String,
    /// False with `--no-descendants`.
    pub descendants: bool,
    pub none_reason: Option<String>,
}

/// Everything one run saw.
#[derive(Debug, Clone)]
pub(crate) struct Inputs<'a> {
    pub tool: model::Tool,
    pub host: model::Host,
    pub run_id: String,
    pub mode: model::Mode,
    pub plan: &'a Plan,
    pub origin: Origin,
    pub ended: Mono,
    /// Ctrl-C.
    pub interrupted: bool,
    pub target: TargetFound,
    /// `None` when nothing was to be sent.
    pub load: Option<&'a LoadTotals>,
    /// The model asked for: the plan's, or the one that the server lists.
    pub model: Option<String>,
    pub observation: Option<&'a Observation>,
    pub gpu: &'a GpuLog,
    pub packages: &'a CpuPackages,
    /// What `session` itself has to say.
    pub notes: Vec<Doubt>,
    pub own: model::SelfCost,
}

impl Inputs<'_> {
    /// What the figures of the set depend on.
    fn scope(&self) -> Scope<'_> {
        Scope {
            origin: self.origin,
            roots: &self.target.roots,
            whole_cgroup: self.target.cgroup.is_some(),
            cgroup_of_run: self.mode == model::Mode::Exec,
            descendants: self.target.descendants,
            sample_interval: self.plan.observe.sample_interval,
        }
    }

    /// Why there is nothing to say of any process.
    fn unobserved(&self) -> &str {
        self.target.none_reason.as_deref().unwrap_or("the target was not observed")
    }

    /// Why there is no load: one that was planned may have been sent in part, and lost.
    pub(super) const fn unsent_reason(&self) -> LoadReason {
        if self.plan.load.is_some() { LoadReason::NotMeasured } else { LoadReason::NothingSent }
    }
}

/// The report of one run.
#[must_use]
pub(crate) fn report(inputs: Inputs<'_>) -> model::Report {
    let totals = inputs.load;
    let plan = inputs.plan.load.as_ref();
    let figures = totals.zip(plan).map(|(totals, plan)| LoadFigures::of(plan, totals));
    let figures = figures.as_ref();
    let set = inputs.observation.map(|o| SetFigures::of(&inputs.scope(), o));
    let set = set.as_ref().ok_or_else(|| SetReason::Unobserved(inputs.unobserved().to_owned()));
    let set = set.as_ref().copied();
    let facts = RunFacts {
        plan: inputs.plan,
        is_demo: inputs.mode == model::Mode::Demo,
        is_exec: inputs.mode == model::Mode::Exec,
        interrupted: inputs.interrupted,
        asked_model: inputs.model.as_deref(),
        roots: &inputs.target.roots,
        descendants: inputs.target.descendants,
        unobserved: inputs.unobserved(),
        gpu: inputs.gpu,
    };
    let mut doubts = verdict::validity::doubts(&facts, figures, set.ok());
    doubts.extend(inputs.notes.iter().cloned());
    let client_limits = doubts.iter().any(|d| d.level == DoubtLevel::Invalid && d.code.is_of_client());
    let is_complete = set.is_ok_and(|set| set.complete.is_ok());
    let device_report = super::device_report::device_report(&inputs, figures, is_complete, client_limits);
    let set_cpu = SetCpu {
        observation: inputs.observation.ok_or_else(|| SetReason::Unobserved(inputs.unobserved().to_owned())),
        cpus: inputs.host.cpus,
    };
    let counts = totals.map(|t| &t.all).ok_or_else(|| inputs.unsent_reason());
    let planned = || plan.zip(figures);
    let load =
        planned().map(|(plan, load)| build::load::load(inputs.origin, plan, inputs.model.clone(), load));
    let sweep = planned().and_then(|(plan, load)| {
        let costs = load.steps.iter().zip(device_report.steps).map(|(step, devices)| StepCost {
            cpu: set_cpu.a_token(&step.totals.totals),
            energy: devices.energy,
            devices: devices.devices,
        });
        build::sweep::sweep(inputs.origin, plan, load, costs.collect())
    });
    let efficiency = build::energy::efficiency(
        build::cpu_cost::efficiency(inputs.origin, set_cpu.cost(counts)),
        device_report.costs,
        device_report.phases,
    );
    let efficiency = model::Efficiency { definitions: catalogue::cost_definitions(), ..efficiency };
    doubts.extend(device_report.doubts);
    let found = set.ok().map(|set| verdict::insights::findings(&inputs.target.roots, set));
    let mut insights: Vec<_> = found.into_iter().flatten().map(build::insights::insight).collect();
    insights.extend(device_report.insights);
    let request = |listed| build::requests::request(inputs.origin, listed);
    let timing = figures.map_or_else(|| Err(inputs.unsent_reason().into()), |figures| figures.timing.clone());
    let (timing, timing_reason) = timing.map(|timing| build::timing::timing(inputs.origin, &timing)).apart();
    model::Report {
        schema_version: model::SCHEMA_VERSION,
        validity: build::validity::validity(doubts),
        target: target(&inputs),
        load,
        requests: totals.into_iter().flat_map(|t| &t.requests.requests).map(request).collect(),
        requests_omitted: totals.map_or(0, |t| t.requests.unlisted),
        timing,
        timing_reason,
        sweep,
        gpus_reason: device_report.gpus.is_empty().then(|| no_device(inputs.gpu).to_string()),
        processes: build::processes::processes(inputs.origin, &inputs.plan.output, set),
        resources: build::resources::resources(inputs.origin, set),
        gpus: device_report.gpus,
        gpu_summary: device_report.summary,
        efficiency,
        stalls: None,
        stalls_reason: Some("this version does not explain slow tokens".to_owned()),
        insights,
        run: model::Run {
            id: inputs.run_id,
            command: inputs.plan.command.to_owned(),
            argv: inputs.plan.argv.clone(),
            redact: Some(inputs.plan.output.redact.name().to_owned()),
            mode: inputs.mode,
            origin_monotonic_ns: inputs.origin.mono.0,
            origin_unix_ns: inputs.origin.unix_ns,
            duration_ns: inputs.origin.at(inputs.ended).0,
            interrupted: inputs.interrupted,
        },
        tool: inputs.tool,
        host: inputs.host,
        own: model::SelfCost {
            sample_interval_ns: inputs.observation.map(|o| o.sample_interval.0),
            sample_interval_asked_ns: inputs.observation.map(|_| inputs.plan.observe.sample_interval.0),
            ..build::self_cost::own(totals, inputs.own)
        },
    }
}

fn target(inputs: &Inputs<'_>) -> model::Target {
    let found = &inputs.target;
    let kind = match (&found.cgroup, found.roots.is_empty()) {
        (None, true) => model::TargetKind::None,
        _ if inputs.mode == model::Mode::Exec => model::TargetKind::Exec,
        (Some(_), _) => model::TargetKind::Cgroup,
        (None, false) => model::TargetKind::Tree,
    };
    let none = kind == model::TargetKind::None;
    model::Target {
        kind,
        pid: found.roots.first().copied(),
        pids: found.roots.clone(),
        cgroup: found.cgroup.clone(),
        how_found: match &found.none_reason {
            Some(reason) if none => reason.clone(),
            _ => found.how_found.clone(),
        },
        descendants: found.descendants,
        exit: found.exit.map(|status| build::processes::exit(MemberExit { status: Some(status), oom: None })),
        exit_reason: (kind == model::TargetKind::Exec && found.exit.is_none())
            .then(|| "neither the command's parent nor the tracker could tell".to_owned()),
        ready_ns: found.ready.map(|t| inputs.origin.at(t).0),
    }
}

#[cfg(test)]
mod tests;
