//! One device's queries: which it answers, which it refuses and in what words, which are slow.
//!
//! Owns the capabilities and the counting of failures. Never turns a refusal into a value: who asks gets `None`. Used by
//! `device`.

use std::collections::BTreeMap;

use nvml_wrapper::error::NvmlError;

use crate::clock::Mono;
use crate::event::PollCost;
use crate::units::Nanos;

/// A call that takes longer than this is asked less often,
const SLOW: Nanos = Nanos::from_millis(2);
/// so that it takes no more than this part of the time, as a divisor.
const SHARE: u64 = 10;

#[derive(Debug, Default)]
pub(super) struct Asker {
    queries: BTreeMap<&'static str, Query>,
    pub(super) lost: Option<Mono>,
    pub(super) cost: PollCost,
    /// The last look: how slow a query is doesn't matter any more.
    pub(super) last: bool,
}

#[derive(Debug, Default)]
struct Query {
    answered: bool,
    /// It will never answer.
    refused: Option<String>,
    failed: u64,
    last_failure: String,
    due: Option<Mono>,
}

/// What an error says of the query.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The device, the driver or our permissions can't.
    Never,
    /// Not this time.
    Failed,
    NothingNew,
    Lost,
}

impl Verdict {
    fn of(error: &NvmlError) -> Self {
        match error {
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::VgpuEccNotSupported => Self::Never,
            NvmlError::NotFound | NvmlError::NoData => Self::NothingNew,
            NvmlError::GpuLost => Self::Lost,
            _ => Self::Failed,
        }
    }
}

impl Asker {
    /// The answer, where the query is not refused, the device is not lost and the last slow answer is long enough ago.
    pub(super) fn ask<T>(
        &mut self,
        query: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        if !self.is_due(query, Mono::now()) {
            return None;
        }
        let began = Mono::now();
        let answer = call();
        let took = Mono::now().since(began);
        self.took(query, began, took);
        self.noted(query, answer, began)
    }

    pub(super) fn is_due(&self, query: &str, now: Mono) -> bool {
        if self.lost.is_some() {
            return false;
        }
        let Some(known) = self.queries.get(query) else { return true };
        known.refused.is_none() && (self.last || known.due.is_none_or(|due| now >= due))
    }

    /// Counts a call's time, and puts a slow one off.
    pub(super) fn took(&mut self, query: &'static str, began: Mono, took: Nanos) {
        self.cost.calls += 1;
        self.cost.in_calls += took;
        if self.cost.slowest.as_ref().is_none_or(|(_, most)| took > *most) {
            self.cost.slowest = Some((query.to_owned(), took));
        }
        let due = (took > SLOW).then(|| began.plus(Nanos(took.0.saturating_mul(SHARE))));
        self.queries.entry(query).or_default().due = due;
    }

    /// Keeps what an answer says of the query.
    pub(super) fn noted<T>(
        &mut self,
        query: &'static str,
        answer: Result<T, NvmlError>,
        now: Mono,
    ) -> Option<T> {
        let known = self.queries.entry(query).or_default();
        let error = match answer {
            Ok(value) => {
                known.answered = true;
                return Some(value);
            }
            Err(error) => error,
        };
        match Verdict::of(&error) {
            Verdict::NothingNew => known.answered = true,
            Verdict::Never if !known.answered => known.refused = Some(error.to_string()),
            verdict => {
                known.failed += 1;
                known.last_failure = error.to_string();
                if verdict == Verdict::Lost {
                    self.lost = Some(now);
                }
            }
        }
        None
    }

    /// For the log: what is answered, refused, and what failed now and then.
    pub(super) fn capabilities(&self) -> Capabilities {
        let mut told = Capabilities::default();
        for (name, query) in &self.queries {
            if let Some(reason) = &query.refused {
                told.refused.insert((*name).to_owned(), reason.clone());
            } else if query.answered {
                told.answered.push(name);
            }
            if query.failed > 0 {
                told.failed.insert((*name).to_owned(), (query.failed, query.last_failure.clone()));
            }
        }
        told
    }

    pub(super) fn refuses(&self, query: &str) -> bool {
        self.queries.get(query).is_some_and(|q| q.refused.is_some())
    }
}

#[derive(Debug, Default)]
pub(super) struct Capabilities {
    pub(super) answered: Vec<&'static str>,
    pub(super) refused: BTreeMap<String, String>,
    pub(super) failed: BTreeMap<String, (u64, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_query_is_asked_once_and_keeps_nvmls_words() {
        let mut asker = Asker::default();
        let mut asked = 0;
        for _ in 0..3 {
            let answer: Option<u32> = asker.ask("power_mw", || {
                asked += 1;
                Err(NvmlError::NotSupported)
            });
            assert_eq!(answer, None);
        }
        assert_eq!(asked, 1);
        assert_eq!(
            asker.capabilities().refused["power_mw"],
            "the requested operation is not available on the target device"
        );
    }

    #[test]
    fn a_query_that_fails_is_asked_again_and_counted() {
        let mut asker = Asker::default();
        assert_eq!(asker.ask("power_mw", || Err::<u32, _>(NvmlError::Unknown)), None);
        assert_eq!(asker.ask("power_mw", || Ok(7)), Some(7));
        // What it once answered it can: a refusal later on is only a failure.
        assert_eq!(asker.ask("power_mw", || Err::<u32, _>(NvmlError::NotSupported)), None);
        assert_eq!(asker.ask("power_mw", || Ok(8)), Some(8));
        let told = asker.capabilities();
        assert_eq!((told.answered, told.failed["power_mw"].0), (vec!["power_mw"], 2));
    }

    #[test]
    fn nothing_new_is_no_failure() {
        let mut asker = Asker::default();
        assert_eq!(asker.ask("process_sm_percent", || Err::<u32, _>(NvmlError::NotFound)), None);
        assert_eq!(asker.capabilities().answered, ["process_sm_percent"]);
    }

    #[test]
    fn a_slow_query_waits_for_ten_times_its_length_and_no_other_does() {
        let mut asker = Asker::default();
        asker.took("power_mw", Mono(0), Nanos::from_millis(80));
        assert!(!asker.is_due("power_mw", Mono(799_000_000)));
        assert!(asker.is_due("power_mw", Mono(800_000_000)));
        assert!(asker.is_due("energy_mj", Mono(1)));
        asker.last = true;
        assert!(asker.is_due("power_mw", Mono(1)));
    }

    #[test]
    fn a_lost_device_is_asked_nothing_more() {
        let mut asker = Asker::default();
        assert_eq!(asker.ask("power_mw", || Err::<u32, _>(NvmlError::GpuLost)), None);
        assert!(asker.lost.is_some());
        assert_eq!(asker.ask("energy_mj", || Ok(7)), None);
    }
}
