//! The end of a run: the sources are ended, the report is built and written.
//!
//! Owns the order at the end, what a run has failed in, and the exit code. Derives no figure (`analysis` does). Called by
//! `session`.

use super::command::{self, Ended, Facts};
use super::drive_load::all_failed;
use super::output::Sink;
use super::start::Outcome;
use super::{RunError, Session, exit, host, note, run_id, self_cost};
use crate::aggregate::load::LoadTotals;
use crate::analysis::{self, Inputs, TargetFound};
use crate::clock::Mono;
use crate::event::Observation;
use crate::launch::Launched;
use crate::report::model::{Mode, Tool};

impl Session<'_> {
    /// # Errors
    /// No measured request succeeded, the load could not begin, or nothing takes the report.
    pub(super) fn finish(
        &self,
        outcome: Outcome,
        command: Option<Launched<'_>>,
        sink: &mut Sink<'_>,
    ) -> Result<u8, RunError> {
        let Outcome { found, gpu, observer, none_reason, began, driven, interrupted, over, mut notes } =
            outcome;
        let plan = self.plan;
        let gpu = gpu.finish();
        let was_observed = observer.is_some();
        let observation = observer.and_then(|o| Some(Observation { rest: driven.rest, ..o.finish()? }));
        if was_observed && observation.is_none() {
            if self.mode == Mode::Observe {
                return Err(RunError::ObserverPanicked);
            }
            notes.push(note("observer_panicked", "the observing thread panicked: what it saw is lost"));
        }
        notes.extend(driven.doubt);
        if matches!(driven.failure, Some(RunError::Panicked(_))) {
            notes.push(note("load_panicked", "the load panicked: its requests are lost"));
        }
        let mut status = None;
        if let Some((command, over)) = command.zip(over) {
            let ended = Ended { over, began, ready: driven.ready, is_load_measured: driven.log.is_some() };
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
            ready: driven.ready,
            how_found: found.how,
            descendants: found.descendants,
            none_reason,
        };
        if let Some(warning) = observation.as_ref().and_then(|o| analysis::idle_target(o, &target)) {
            sink.warn(&warning);
        }
        let log = driven.log.as_ref();
        let failure = driven.failure.or_else(|| log.filter(|_| !interrupted).and_then(all_failed));
        let misses_slo = plan.load.as_ref().is_some_and(|load| load.fail_on_slo)
            && log.is_some_and(LoadTotals::misses_slo);
        let report = analysis::report(Inputs {
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
