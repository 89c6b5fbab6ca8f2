//! The waits of a run, none of which a signal has to wait for.
//!
//! Owns the runtime, and what is done beside it because it blocks: files that may be pipes, the resolver. What was
//! begun there is left alone when the run is over, as nothing can end it. Measures nothing. Called by `session`.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::{RunError, run_id};
use crate::clock::Origin;
use crate::load::Driver;
use crate::plan::LoadPlan;
use crate::signals::Signals;

/// Between two looks whether a signal came.
const LOOK: Duration = Duration::from_millis(10);

/// A runtime that waits for nothing when it is dropped: the resolver of the system can take minutes.
pub(super) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    pub(super) fn new() -> Result<Self, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| RunError::System { what: "the runtime can't be started", source })?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("it is there until it is dropped").block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What `work` gives, done by a thread of its own.
///
/// # Errors
/// [`RunError::Interrupted`], where a signal came first, which is left unread.
pub(super) fn unless_interrupted<T: Send + 'static>(
    what: &'static str,
    signals: &Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RunError> {
    let (tell, done) = channel();
    let begun = std::thread::Builder::new().name("start".to_owned()).spawn(move || {
        // Nobody listens where the run is over.
        let _ = tell.send(work());
    });
    begun.map_err(|source| RunError::System { what: "there is no thread to be had", source })?;
    loop {
        if signals.is_pending() {
            return Err(RunError::Interrupted);
        }
        match done.recv_timeout(LOOK) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(RunError::Panicked(what)),
        }
    }
}

/// The driver: prompts may come through a pipe, certificates from a slow disk.
pub(super) fn driver(load: &LoadPlan, origin: Origin, signals: &Signals) -> Result<Driver, RunError> {
    let (load, id) = (load.clone(), run_id(origin));
    Ok(unless_interrupted("reading the prompts", signals, move || Driver::new(&load, &id))??)
}
