//! One device's queries: which it answers, which it refuses and in what words, which are slow, and when it was away.
//!
//! Owns the capabilities and the counting of failures; how often a query is made is `schedule`'s. Pure: the calls are made
//! by `log`, which gives `None` to whoever asks in vain. Used by `log` and `device`.

use std::collections::BTreeMap;

use nvml_wrapper::error::NvmlError;

use super::schedule::{self, Cost};
use crate::clock::Mono;
use crate::event::{Interruption, PollCost};
use crate::units::Nanos;

/// A device that is away is looked for again after this, then twice as long,
const FIRST_PAUSE: Nanos = Nanos::from_millis(500);
/// up to this.
const LAST_PAUSE: Nanos = Nanos::from_millis(8_000);

/// A device that comes and goes more often is told as away in between.
const MAX_INTERRUPTIONS: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct QueryPolicy {
    queries: BTreeMap<&'static str, Query>,
    away: Option<Away>,
    pub(super) interruptions: Vec<Interruption>,
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
    /// How long the driver keeps what it tells.
    buffered: Option<Nanos>,
}

/// A device of which nothing is to be had.
#[derive(Debug)]
struct Away {
    since: Mono,
    words: String,
    /// The whole driver is.
    driver: bool,
    pause: Nanos,
    look: Mono,
}

/// What has to be done for a device that is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Search {
    Device,
    /// The library has to be initialised again, unless that was done since.
    Driver {
        since: Mono,
        words: String,
    },
}

/// What an error says of the query.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The device, the driver or our permissions can't.
    Never,
    /// Not this time.
    Failed,
    NothingNew,
    DeviceAway,
    DriverAway,
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
            NvmlError::GpuLost | NvmlError::ResetRequired => Self::DeviceAway,
            NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch => {
                Self::DriverAway
            }
            _ => Self::Failed,
        }
    }
}

impl QueryPolicy {
    pub(super) fn is_due(&self, query: &str, now: Mono) -> bool {
        if self.away.is_some() {
            return false;
        }
        let Some(known) = self.queries.get(query) else { return true };
        known.refused.is_none() && (self.last || known.due.is_none_or(|due| now >= due))
    }

    /// Counts a call's time, and says when the query is due again.
    pub(super) fn took(&mut self, query: &'static str, began: Mono, cost: Cost) {
        self.cost.calls += 1;
        self.cost.in_calls += cost.wall;
        if self.cost.slowest.as_ref().is_none_or(|(_, most)| cost.wall > *most) {
            self.cost.slowest = Some((query.to_owned(), cost.wall));
        }
        let known = self.queries.entry(query).or_default();
        known.due = Some(schedule::due(query, began, cost, known.buffered));
    }

    /// The driver keeps what it tells for so long, so it is asked again in time after `began`.
    pub(super) fn keeps(&mut self, query: &'static str, time: Nanos, began: Mono) {
        let known = self.queries.entry(query).or_default();
        known.buffered = Some(time);
        known.due = Some(schedule::due(query, began, Cost::default(), known.buffered));
    }

    /// At the next look, however long ago the last answer is.
    pub(super) fn soon(&mut self, queries: &[&'static str]) {
        for query in queries {
            if let Some(known) = self.queries.get_mut(query) {
                known.due = None;
            }
        }
    }

    /// Whether anything at all may be asked.
    pub(super) fn is_there(&self) -> bool {
        self.away.is_none()
    }

    /// It answers, but with what is of no use.
    pub(super) fn give_up(&mut self, query: &'static str, words: &str) {
        self.queries.entry(query).or_default().refused.get_or_insert_with(|| words.to_owned());
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
                if matches!(verdict, Verdict::DeviceAway | Verdict::DriverAway) {
                    self.goes(now, error.to_string(), verdict == Verdict::DriverAway);
                }
            }
        }
        None
    }

    /// Nothing more is to be had of it.
    pub(super) fn goes(&mut self, since: Mono, words: String, driver: bool) {
        let look = since.plus(FIRST_PAUSE);
        self.away.get_or_insert(Away { since, words, driver, pause: FIRST_PAUSE, look });
    }

    /// It was looked for in vain: the newest words tell best what is to be done.
    pub(super) fn stays(&mut self, error: &NvmlError) {
        let verdict = Verdict::of(error);
        if let Some(away) = self.away.as_mut()
            && matches!(verdict, Verdict::DeviceAway | Verdict::DriverAway)
        {
            away.words = error.to_string();
            away.driver = verdict == Verdict::DriverAway;
        }
    }

    /// Whether the device is to be looked for.
    pub(super) fn search(&mut self, now: Mono) -> Option<Search> {
        let away = self.away.as_mut().filter(|away| now >= away.look)?;
        away.pause = Nanos(away.pause.0.saturating_mul(2)).min(LAST_PAUSE);
        away.look = now.plus(away.pause);
        let (since, words) = (away.since, away.words.clone());
        Some(if away.driver { Search::Driver { since, words } } else { Search::Device })
    }

    /// It answers again.
    pub(super) fn found(&mut self, now: Mono) {
        let Some(away) = self.away.take() else { return };
        let is_full = self.interruptions.len() >= MAX_INTERRUPTIONS;
        match self.interruptions.last_mut().filter(|_| is_full) {
            Some(last) => last.to = Some(now),
            None => {
                self.interruptions.push(Interruption { from: away.since, to: Some(now), words: away.words });
            }
        }
    }

    /// Since when it is away for good.
    pub(super) fn lost(&self) -> Option<Interruption> {
        let away = self.away.as_ref()?;
        Some(Interruption { from: away.since, to: None, words: away.words.clone() })
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

    /// As `log` does it.
    fn ask<T>(
        policy: &mut QueryPolicy,
        query: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        policy.is_due(query, Mono(1)).then(call).and_then(|answer| policy.noted(query, answer, Mono(1)))
    }

    #[test]
    fn a_refused_query_is_asked_once_and_keeps_nvmls_words() {
        let mut policy = QueryPolicy::default();
        let mut asked = 0;
        for _ in 0..3 {
            let answer: Option<u32> = ask(&mut policy, "power_mw", || {
                asked += 1;
                Err(NvmlError::NotSupported)
            });
            assert_eq!(answer, None);
        }
        assert_eq!(asked, 1);
        assert_eq!(
            policy.capabilities().refused["power_mw"],
            "the requested operation is not available on the target device"
        );
    }

    #[test]
    fn a_query_that_fails_is_asked_again_and_counted() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, "power_mw", || Err::<u32, _>(NvmlError::Unknown)), None);
        assert_eq!(ask(&mut policy, "power_mw", || Ok(7)), Some(7));
        // What it once answered it can: a refusal later on is only a failure.
        assert_eq!(ask(&mut policy, "power_mw", || Err::<u32, _>(NvmlError::NotSupported)), None);
        assert_eq!(ask(&mut policy, "power_mw", || Ok(8)), Some(8));
        let told = policy.capabilities();
        assert_eq!((told.answered, told.failed["power_mw"].0), (vec!["power_mw"], 2));
    }

    #[test]
    fn nothing_new_is_no_failure() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, "process_sm_percent", || Err::<u32, _>(NvmlError::NotFound)), None);
        assert_eq!(policy.capabilities().answered, ["process_sm_percent"]);
    }

    #[test]
    fn a_slow_query_waits_and_no_other_does() {
        let mut policy = QueryPolicy::default();
        let cost = Cost { wall: Nanos::from_millis(80), cpu: Nanos::ZERO };
        policy.took("power_mw", Mono(0), cost);
        assert!(!policy.is_due("power_mw", Mono(799_000_000)));
        assert!(policy.is_due("power_mw", Mono(800_000_000)));
        assert!(policy.is_due("energy_mj", Mono(1)));
        policy.last = true;
        assert!(policy.is_due("power_mw", Mono(1)));
    }

    #[test]
    fn a_device_that_is_away_is_asked_nothing_and_looked_for_less_and_less_often() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, "power_mw", || Err::<u32, _>(NvmlError::GpuLost)), None);
        assert_eq!(ask(&mut policy, "energy_mj", || Ok(7)), None);
        assert_eq!(policy.lost().map(|lost| (lost.from, lost.to)), Some((Mono(1), None)));
        let ms = |t: u64| Mono(1 + t * 1_000_000);
        let looks: Vec<u64> =
            (0..40_000).step_by(100).filter(|t| policy.search(ms(*t)) == Some(Search::Device)).collect();
        assert_eq!(looks, [500, 1_500, 3_500, 7_500, 15_500, 23_500, 31_500, 39_500]);
        policy.found(ms(39_500));
        assert_eq!(ask(&mut policy, "energy_mj", || Ok(7)), Some(7));
        assert_eq!((policy.lost(), policy.interruptions[0].to), (None, Some(ms(39_500))));
    }

    #[test]
    fn a_driver_that_is_away_has_to_be_initialised_again() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, "power_mw", || Err::<u32, _>(NvmlError::Uninitialized)), None);
        let words = NvmlError::Uninitialized.to_string();
        assert_eq!(policy.search(Mono(600_000_000)), Some(Search::Driver { since: Mono(1), words }));
    }

    #[test]
    fn of_a_device_that_stays_away_the_first_moment_counts_and_the_last_words() {
        let mut policy = QueryPolicy::default();
        policy.goes(Mono(5), NvmlError::DriverNotLoaded.to_string(), true);
        policy.goes(Mono(6), "later".into(), false);
        policy.stays(&NvmlError::Unknown);
        assert_eq!(policy.lost().map(|l| l.words), Some(NvmlError::DriverNotLoaded.to_string()));
        policy.stays(&NvmlError::LibRmVersionMismatch);
        let lost = policy.lost().expect("it is away");
        assert_eq!((lost.from, lost.words), (Mono(5), NvmlError::LibRmVersionMismatch.to_string()));
    }
}
