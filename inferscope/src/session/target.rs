//! The target that is looked for, and the observer of it.
//!
//! Owns the decision which failures a run outlives: a target that was only guessed from the endpoint may be missing or end, and
//! the load is measured all the same. Called by `session::start`, on the main thread.

use super::RunError;
use super::events::set_sink;
use super::runtime::unless_interrupted;
use crate::aggregate::Aggregates;
use crate::hub::Sender;
use crate::observe::target_discovery::{self, Found, TargetError};
use crate::observe::{ObserveError, Observer};
use crate::plan::{Plan, TargetPlan};
use crate::signals::Signals;
use crate::verdict::doubt::{Doubt, DoubtCode};

/// The observer, or why there is none.
pub(super) struct Observed {
    pub(super) found: Found,
    pub(super) observer: Option<Observer>,
    pub(super) none_reason: Option<String>,
    pub(super) note: Option<Doubt>,
}

impl Observed {
    pub(super) const fn by(observer: Observer, found: Found) -> Self {
        Self { found, observer: Some(observer), none_reason: None, note: None }
    }

    const fn by_none(found: Found, why: String, note: Option<Doubt>) -> Self {
        Self { found, observer: None, none_reason: Some(why), note }
    }
}

/// To find it takes the resolver, and a look at every process.
pub(super) fn find(plan: &Plan, signals: &Signals) -> Result<Found, RunError> {
    let target = plan.observe.target.clone();
    let found = unless_interrupted("finding the target", signals, move || target_discovery::find(&target))??;
    if found.is_none() && plan.load.is_none() {
        return Err(TargetError::NotFound(found.how).into());
    }
    Ok(found)
}

pub(super) fn observe(plan: &Plan, found: Found, set: &Sender<Aggregates>) -> Result<Observed, RunError> {
    if found.is_none() {
        let why = found.how.clone();
        return Ok(Observed::by_none(found, why, None));
    }
    let was_guessed = matches!(plan.observe.target, TargetPlan::Listener { .. }) && plan.load.is_some();
    match Observer::start(&plan.observe, &found, set_sink(set)) {
        Ok(observer) => Ok(Observed::by(observer, found)),
        // The client's side is still worth having.
        Err(e @ ObserveError::TargetGone(_)) if was_guessed => {
            let why = e.to_string().lines().next().unwrap_or_default().to_owned();
            let note = Doubt::warn(DoubtCode::TargetGone, &why);
            Ok(Observed::by_none(found, why, Some(note)))
        }
        Err(e) => Err(e.into()),
    }
}
