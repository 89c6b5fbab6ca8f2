//! What ends a run: a signal, the time, the target's end.
//!
//! Owns the difference between a target that was found, which is left alone, and a command, whose end is the supervisor's. Never
//! measures. Used by `session::start` and `session::drive`.

use super::RunError;
use super::device_sources::DeviceSources;
use super::main_thread::MainThread;
use super::supervisor::{Over, Supervisor};
use crate::aggregate::Aggregates;
use crate::hub::Sender;
use crate::launch::Launched;
use crate::load::{Driver, Served};
use crate::plan::Plan;
use crate::signals::Signals;
use crate::units::Nanos;

pub(super) enum Lifetime<'a, 'env> {
    Found { signals: &'a Signals, interrupted: bool },
    Command(Box<Supervisor<'a, 'env>>),
}

impl<'a, 'env> Lifetime<'a, 'env> {
    /// Must be called within a runtime.
    pub(super) fn new(
        plan: &Plan,
        signals: &'env Signals,
        command: Option<&'env Launched<'env>>,
        main: &'a MainThread<'env>,
        events: &'a Sender<Aggregates>,
    ) -> Result<Self, RunError> {
        Ok(match command.zip(plan.exec.as_ref()) {
            Some((command, exec)) => Self::Command(Box::new(Supervisor::new(command, exec, main, events)?)),
            None => Self::Found { signals, interrupted: false },
        })
    }

    /// Until a signal that ends the run; at once, where one came before.
    pub(super) async fn interruption(&mut self) {
        match self {
            Self::Found { signals, interrupted } => {
                signals.recv().await;
                *interrupted = true;
            }
            Self::Command(supervisor) => supervisor.interruption().await,
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        match self {
            Self::Found { interrupted, .. } => *interrupted,
            Self::Command(supervisor) => supervisor.over().interrupted,
        }
    }

    /// The server, as soon as it answers; of a command it is waited for. `None`: interrupted.
    ///
    /// # Errors
    /// It does not answer, or can't be driven.
    pub(super) async fn ready(&mut self, driver: &Driver) -> Result<Option<Served>, RunError> {
        if let Self::Command(supervisor) = self {
            return supervisor.ready(driver).await;
        }
        let met = tokio::select! {
            biased;
            () = self.interruption() => return Ok(None),
            met = driver.meet() => met,
        };
        Ok(Some(met.or_else(|e| driver.without_list(e))?))
    }

    /// Lets a command run, unless a signal came; whether something is to be measured.
    ///
    /// # Errors
    /// The command can't be run.
    pub(super) async fn begin(
        &mut self,
        signals: &Signals,
        gpu: &mut DeviceSources,
    ) -> Result<bool, RunError> {
        let Self::Command(supervisor) = self else { return Ok(true) };
        if signals.is_pending() {
            supervisor.interruption().await;
        }
        if supervisor.over().interrupted {
            supervisor.discard().await;
            return Ok(false);
        }
        supervisor.let_run()?;
        gpu.begins();
        Ok(true)
    }

    /// Until the target's end or a signal, at the latest after `time`.
    pub(super) async fn wait(
        &mut self,
        time: Option<Nanos>,
        target_ended: Option<tokio::sync::watch::Receiver<bool>>,
    ) {
        if let Self::Command(supervisor) = self {
            return supervisor.wait(time).await;
        }
        let expired = async {
            match time {
                Some(time) => tokio::time::sleep(time.to_duration()).await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match target_ended {
                // A panic of the observer is an end too.
                Some(mut ended) => drop(ended.wait_for(|ended| *ended).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.interruption() => {}
            () = expired => {}
            () = ended => {}
        }
    }

    /// Ends a command, and all that is left of it. A target that was found is left alone.
    pub(super) async fn end(&mut self) {
        if let Self::Command(supervisor) = self {
            supervisor.end().await;
        }
    }

    /// How a command went.
    pub(super) fn over(&self) -> Option<Over> {
        match self {
            Self::Found { .. } => None,
            Self::Command(supervisor) => Some(supervisor.over()),
        }
    }
}
