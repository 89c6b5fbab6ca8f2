//! What is driven: a load that is sent to the server, or nothing until an end.
//!
//! Owns the wait for a command's server, the rest before the load, and what counts as a failure of the run. Called by
//! `session::start` when the sources run.

use super::device_sources::DeviceSources;
use super::drive_load::{self, Drive};
use super::lifetime::Lifetime;
use super::output::Sink;
use super::progress::{self, Progress};
use super::{RunError, Session};
use crate::clock::Mono;
use crate::load::{Driver, Served};
use crate::observe::Observer;
use crate::plan::LoadPlan;
use crate::verdict::doubt::Doubt;

/// What came of it.
#[derive(Default)]
pub(super) struct Driven {
    /// The model asked for.
    pub(super) model: Option<String>,
    /// The load came to its end, or was stopped.
    pub(super) is_whole: bool,
    /// Why it did not.
    pub(super) failure: Option<RunError>,
    /// The processes at rest, before the load.
    pub(super) rest: Option<(Mono, Mono)>,
    pub(super) doubt: Option<Doubt>,
}

/// What runs beside a load.
pub(super) struct Sources<'a> {
    pub(super) gpu: &'a mut DeviceSources,
    pub(super) observer: Option<&'a mut Observer>,
}

/// The load, and its server where that is there already.
pub(super) struct Load<'a> {
    pub(super) driver: &'a Driver,
    pub(super) plan: &'a LoadPlan,
    pub(super) server: Option<Served>,
}

impl Session<'_> {
    /// Sends the load and ends the command after it; without a load, waits for an end.
    ///
    /// # Errors
    /// The load could not begin.
    pub(super) async fn drive(
        &self,
        load: Option<Load<'_>>,
        sources: Sources<'_>,
        lifetime: &mut Lifetime<'_, '_>,
        sink: &Sink<'_>,
    ) -> Result<Driven, RunError> {
        let Some(load) = load else {
            lifetime.wait(self.plan.observe_for, sources.observer.map(|o| o.target_ended())).await;
            return Ok(Driven::default());
        };
        let mut driven = Driven::default();
        let sent = self.send(load, sources, lifetime, sink, &mut driven).await;
        lifetime.end().await;
        match sent {
            Ok(()) => {}
            // What was observed of a command is worth having, and is whole after a panic.
            Err(e) if self.plan.exec.is_some() || matches!(e, RunError::LoadPanicked) => {
                driven.failure = Some(e);
            }
            Err(e) => return Err(e),
        }
        Ok(driven)
    }

    async fn send(
        &self,
        Load { driver, plan, server }: Load<'_>,
        Sources { gpu, mut observer }: Sources<'_>,
        lifetime: &mut Lifetime<'_, '_>,
        sink: &Sink<'_>,
        driven: &mut Driven,
    ) -> Result<(), RunError> {
        let server = match server {
            Some(server) => server,
            None => {
                let Some(server) = lifetime.ready(driver).await? else { return Ok(()) };
                driven.doubt = drive_load::doubt_of(&server, sink);
                gpu.rest(self.plan.observe.gpu_baseline, lifetime.interruption()).await;
                server
            }
        };
        if let Some(observer) = &mut observer {
            driven.rest = observer.rest(lifetime.interruption()).await;
        }
        let has_room = self.plan.exec.as_ref().is_none_or(progress::has_room);
        let drive = Drive {
            driver,
            plan,
            server: &server,
            events: &self.events.channels.load,
            progress: if has_room {
                sink.progress(plan, || self.events.collector.snapshots())
            } else {
                Progress::none()
            },
            edges: gpu.edges(),
            marker: observer.map(|observer| observer.marker()),
        };
        let ended = drive_load::drive(drive, lifetime.interruption()).await;
        driven.model = server.model;
        driven.is_whole = ended.is_ok();
        ended
    }
}
