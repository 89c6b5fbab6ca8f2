//! The observer, and what its events add up to.
//!
//! Owns the way from the observer's events to the set's aggregate. They are taken in on the observer's thread: an account moves as a
//! pointer, and none is lost to a full channel. Called by `target`, `command` and `finish`.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::aggregate::Aggregate;
use crate::aggregate::set::SetAggregate;
use crate::event::Observation;
use crate::observe::target_discovery::Found;
use crate::observe::{ObserveError, Observer};
use crate::plan::ObservePlan;

pub(super) struct ObservedSet {
    observer: Observer,
    /// Locked for as long as a batch is taken in.
    set: Arc<Mutex<SetAggregate>>,
}

impl ObservedSet {
    pub(super) fn start(plan: &ObservePlan, target: &Found) -> Result<Self, ObserveError> {
        let set = Arc::new(Mutex::new(SetAggregate::new()));
        let theirs = Arc::clone(&set);
        let sink = move |event| theirs.lock().unwrap_or_else(PoisonError::into_inner).take(event);
        Ok(Self { observer: Observer::start(plan, target, sink)?, set })
    }

    /// `None` if the observer's thread panicked, which is a bug.
    pub(super) fn finish(self) -> Option<Observation> {
        let observation = self.observer.finish()?;
        let set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
        Some(set.finish(&()).complete(observation))
    }
}

impl Deref for ObservedSet {
    type Target = Observer;

    fn deref(&self) -> &Observer {
        &self.observer
    }
}

impl DerefMut for ObservedSet {
    fn deref_mut(&mut self) -> &mut Observer {
        &mut self.observer
    }
}
