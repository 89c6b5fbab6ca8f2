//! The end of a run: the sources are ended, the report is built and written.
//!
//! Owns the order at the end, what a run has failed in, and the exit code. Derives no figure (`figures` does). Called by
//! `session`.

use super::command::{self, Ended, Facts};
use super::drive_load::all_failed;
use super::output::Sink;
use super::start::Outcome;
use super::{RunError, Session, exit, host, run_id, self_cost};
use crate::aggregate::Finals;
use crate::aggregate::load::LoadTotals;
use crate::clock::Mono;
use crate::event::{GpuLog, Observation};
use crate::launch::Launched;
use crate::report::build::{self, Inputs, TargetFound};
use crate::report::model::{Mode, Tool};
use crate::verdict::doubt::{Doubt, DoubtCode};
use crate::verdict::{self};

impl Session<'_> {
    /// # Errors
    /// No measured request succeeded, the load could not begin, or nothing takes the report.
    pub(super) fn finish(
        self,
        outcome: Outcome,
        command: Option<Launched<'_>>,
        sink: &mut Sink<'_>,
    ) -> Result<u8, RunError> {
        let Outcome { found, gpu, observer, none_reason, driven, interrupted, over, mut notes } = outcome;
        let plan = self.plan;
        let finals = Finals { devices: gpu.finish() };
        let was_observed = observer.is_some();
        let mut observation = observer.and_then(|o| Some(Observation { rest: driven.rest, ..o.finish()? }));
        if was_observed && observation.is_none() {
            if self.mode == Mode::Observe {
                return Err(RunError::ObserverPanicked);
            }
            notes.push(Doubt::warn(
                DoubtCode::ObserverPanicked,
                "the observing thread panicked: what it saw is lost",
            ));
        }
        notes.extend(driven.doubt);
        let mut failure = driven.failure;
        let events = self.events.finish(&finals);
        if events.is_none() {
            notes.push(Doubt::warn(
                DoubtCode::CollectorPanicked,
                "the collecting thread panicked: what it had collected is lost",
            ));
            failure = Some(RunError::Panicked("the collector"));
        }
        let (mut snapshot, lost) = events.unzip();
        let lost = lost.unwrap_or_default();
        let set = snapshot.as_mut().map(|all| std::mem::take(&mut all.set));
        observation = observation.zip(set).map(|(observation, set)| {
            let is_complete = observation.tracker_is_complete && !lost.of_set;
            Observation { tracker_is_complete: is_complete, ..set.complete(observation) }
        });
        notes.extend(lost.doubts);
        let part = snapshot.as_ref().map(|all| all.command).unwrap_or_default();
        let gpu = snapshot.as_mut().and_then(|all| all.devices.log.take()).unwrap_or_else(without_collector);
        let packages = snapshot.as_mut().and_then(|all| all.packages.log.take()).unwrap_or_default();
        let totals = snapshot.and_then(|all| all.load?.totals);
        // A load that panicked leaves the phases that had ended.
        let panicked = matches!(failure, Some(RunError::LoadPanicked));
        let log = totals.filter(|totals| driven.is_whole || (panicked && !totals.steps.is_empty()));
        let log = log.as_deref();
        if panicked {
            let lost = if log.is_some() { "the requests of its last phase" } else { "its requests" };
            notes.push(Doubt::warn(DoubtCode::LoadPanicked, format!("the load panicked: {lost} are lost")));
        }
        let mut status = None;
        if let Some((command, over)) = command.zip(over) {
            let ended = Ended { over, part, is_load_measured: log.is_some() };
            let facts = command::release(command, &ended, observation.as_ref());
            let Facts { exit, notes: more, message } = facts;
            status = exit;
            notes.extend(more);
            message.iter().for_each(|message| sink.tell(message));
        }
        let none = none_reason.is_some();
        let target = TargetFound {
            roots: if none { Vec::new() } else { found.roots },
            cgroup: found.cgroup.filter(|_| !none).map(|c| c.name),
            exit: status,
            ready: part.ready,
            how_found: found.how,
            descendants: found.descendants,
            none_reason,
        };
        if let Some(warning) =
            observation.as_ref().and_then(|o| verdict::idle_target(o, &target.roots, target.descendants))
        {
            sink.warn(&warning);
        }
        let failure = failure.or_else(|| log.filter(|_| !interrupted).and_then(all_failed));
        let misses_slo = plan.load.as_ref().is_some_and(|load| load.fail_on_slo)
            && log.is_some_and(LoadTotals::misses_slo);
        let report = build::report(Inputs {
            tool: Tool {
                name: "inferscope".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: env!("INFERSCOPE_COMMIT").to_owned(),
            },
            host: host::describe(),
            run_id: run_id(self.origin),
            mode: self.mode,
            plan,
            origin: self.origin,
            ended: Mono::now(),
            interrupted,
            target,
            load: log,
            model: driven.model,
            observation: observation.as_ref(),
            gpu: &gpu,
            packages: &packages,
            notes,
            own: self_cost::own(observation.as_ref()),
        });
        match failure {
            // What was measured of the server is in the document, for whom it was asked; a text report
            // without an answer would only hide the error.
            Some(error) if log.is_some_and(LoadTotals::any_text) => {
                sink.write(&report).map_err(RunError::from).and(Err(error))
            }
            Some(error) => sink.write_document(&report).map_err(RunError::from).and(Err(error)),
            None => {
                sink.write(&report)?;
                Ok(match (interrupted, misses_slo) {
                    (true, _) => exit::INTERRUPTED,
                    (false, true) => exit::SLO_MISSED,
                    (false, false) => exit::OK,
                })
            }
        }
    }
}

fn without_collector() -> Box<GpuLog> {
    Box::new(GpuLog { unavailable: Some("the collecting thread panicked".to_owned()), ..GpuLog::default() })
}
