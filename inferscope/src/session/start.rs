//! The start of a run, and what is measured until its end.
//!
//! Owns the order: the prompts are read, the target is found and its server met, the devices are opened and have their time at
//! rest, the observer starts, a command is let run. Each thread gives up its privileges as soon as it has opened what takes them.
//! Called by `session`, in the load's thread where there is one.

use super::device_sources::DeviceSources;
use super::drive::{Driven, Load, Sources};
use super::lifetime::Lifetime;
use super::main_thread::MainThread;
use super::output::Sink;
use super::runtime::{self, Runtime};
use super::supervisor::Over;
use super::target::{self, Observed};
use super::{RunError, Session, command, drive_load, host};
use crate::launch::Launched;
use crate::observe::Observer;
use crate::observe::target_discovery::Found;
use crate::privilege::{self, ThreadRole};
use crate::verdict::doubt::Doubt;

/// What is there when the load, the wait or the command is over.
pub(super) struct Outcome {
    pub(super) found: Found,
    pub(super) gpu: DeviceSources,
    pub(super) observer: Option<Observer>,
    /// Why there is no observer.
    pub(super) none_reason: Option<String>,
    pub(super) driven: Driven,
    pub(super) interrupted: bool,
    /// How the command went.
    pub(super) over: Option<Over>,
    pub(super) notes: Vec<Doubt>,
}

impl<'env> Session<'env> {
    /// From the reading of the user's files to the end of what is measured. The sources still run then.
    pub(super) fn measure(
        &self,
        command: Option<&'env Launched<'env>>,
        sink: &Sink<'env>,
        main: &MainThread<'env>,
    ) -> Result<Outcome, RunError> {
        let Self { plan, origin, signals, .. } = *self;
        let runtime = Runtime::new()?;
        let driver = plan.load.as_ref().map(|load| runtime::driver(load, origin, signals)).transpose()?;
        if main.is_apart() {
            privilege::shed(ThreadRole::Load);
        }
        let found = match command {
            Some(command) => {
                runtime.block_on(command::endpoint_is_free(plan, signals))?;
                command::found(command)
            }
            None => main.run(move || target::find(plan, signals))??,
        };
        let mut notes = Vec::new();
        let mut lifetime = runtime
            .block_on(async { Lifetime::new(plan, signals, command, main, &self.events.channels.command) })?;
        // Before the observer, so that finding the model is in no figure. A command's server is not there yet.
        let server = match &driver {
            Some(driver) if command.is_none() => {
                let server = runtime.block_on(lifetime.ready(driver))?.ok_or(RunError::Interrupted)?;
                notes.extend(drive_load::doubt_of(&server, sink));
                Some(server)
            }
            _ => None,
        };
        // Before the observer too, so that the wait at rest is in no figure of the processes.
        let roots = found.roots.clone();
        let channels = self.events.channels.devices.clone();
        let mut gpu = main
            .run(move || DeviceSources::start(&plan.observe, &roots, channels, || signals.is_pending()))??;
        // At rest is a server that waits for requests, or a machine on which the command is not yet. Where a signal ends the
        // rest, what the devices said until then is in the report: what follows ends at once.
        if server.is_some() || (command.is_some() && driver.is_none()) {
            runtime.block_on(gpu.rest(plan.observe.gpu_baseline, lifetime.interruption()));
        }
        let set = self.events.channels.set.clone();
        let observed = main.run(move || {
            let observed = match plan.exec {
                Some(_) => command::observe(&plan.observe, found, &set),
                None => target::observe(plan, found, &set),
            };
            privilege::shed(ThreadRole::Main);
            observed
        })??;
        let Observed { found, mut observer, none_reason, note } = observed;
        notes.extend(note);
        let is_wanted = runtime.block_on(lifetime.begin(signals, &mut gpu))?;
        let driven = if is_wanted {
            let load = driver.as_ref().zip(plan.load.as_ref());
            let load = load.map(|(driver, plan)| Load { driver, plan, server });
            let sources = Sources { gpu: &mut gpu, observer: observer.as_mut() };
            runtime.block_on(self.drive(load, sources, &mut lifetime, sink))?
        } else {
            Driven::default()
        };
        host::look_at_threads();
        notes.extend(driver.iter().flat_map(drive_load::said_of));
        let (interrupted, over) = (lifetime.is_interrupted(), lifetime.over());
        Ok(Outcome { found, gpu, observer, none_reason, driven, interrupted, over, notes })
    }
}
