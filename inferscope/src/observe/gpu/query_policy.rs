//! One device's queries: which it answers, which it refuses and in what words, which are slow, and when it was away.
//!
//! Owns what is known of each query; how often it is made is `schedule`'s. What is new of it is handed out, to be sent. Pure:
//! the calls are made by `caller`, which gives `None` to whoever asks in vain. Used by `caller`, `device` and `worker`.

use std::collections::BTreeMap;

use nvml_wrapper::error::NvmlError;

use super::schedule::{self, Cost};
use crate::clock::Mono;
use crate::event::{DeviceAnswer, PollCost, Query};
use crate::units::Nanos;

/// A device that is away is looked for again after this, then twice as long,
const FIRST_PAUSE: Nanos = Nanos::from_millis(500);
/// up to this.
const LAST_PAUSE: Nanos = Nanos::from_millis(8_000);

#[derive(Debug, Default)]
pub(super) struct QueryPolicy {
    queries: BTreeMap<Query, QueryState>,
    away: Option<Away>,
    pub(super) cost: PollCost,
    /// The last look: how slow a query is doesn't matter any more.
    pub(super) last: bool,
    /// Not handed out yet.
    news: Vec<DeviceAnswer>,
}

#[derive(Debug, Default)]
struct QueryState {
    answered: bool,
    /// It will never answer.
    refused: bool,
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
    pub(super) fn is_due(&self, query: Query, now: Mono) -> bool {
        if self.away.is_some() {
            return false;
        }
        let Some(known) = self.queries.get(&query) else { return true };
        !known.refused && (self.last || known.due.is_none_or(|due| now >= due))
    }

    /// Counts a call's time, and says when the query is due again.
    pub(super) fn took(&mut self, query: Query, began: Mono, cost: Cost) {
        self.cost.calls += 1;
        self.cost.in_calls += cost.wall;
        if self.cost.slowest.as_ref().is_none_or(|(_, most)| cost.wall > *most) {
            self.cost.slowest = Some((query.name().to_owned(), cost.wall));
        }
        let known = self.queries.entry(query).or_default();
        known.due = Some(schedule::due(query, began, cost, known.buffered));
    }

    /// The driver keeps what it tells for so long, so it is asked again in time after `began`.
    pub(super) fn keeps(&mut self, query: Query, time: Nanos, began: Mono) {
        let known = self.queries.entry(query).or_default();
        known.buffered = Some(time);
        known.due = Some(schedule::due(query, began, Cost::default(), known.buffered));
    }

    /// At the next look, however long ago the last answer is.
    pub(super) fn soon(&mut self, queries: &[Query]) {
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
    pub(super) fn give_up(&mut self, query: Query, words: &str) {
        let known = self.queries.entry(query).or_default();
        if !std::mem::replace(&mut known.refused, true) {
            self.news.push(DeviceAnswer::Refuses(query, words.to_owned()));
        }
    }

    /// Keeps what an answer says of the query.
    pub(super) fn noted<T>(&mut self, query: Query, answer: Result<T, NvmlError>, now: Mono) -> Option<T> {
        let known = self.queries.entry(query).or_default();
        let error = match answer {
            Ok(value) => {
                self.answers(query);
                return Some(value);
            }
            Err(error) => error,
        };
        match Verdict::of(&error) {
            Verdict::NothingNew => self.answers(query),
            Verdict::Never if !known.answered => self.give_up(query, &error.to_string()),
            verdict => {
                self.news.push(DeviceAnswer::Failed(query, error.to_string()));
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
        if self.away.is_none() {
            self.news.push(DeviceAnswer::Away { since, words: words.clone() });
            self.away = Some(Away { since, words, driver, pause: FIRST_PAUSE, look });
        }
    }

    /// It was looked for in vain: the newest words tell best what is to be done.
    pub(super) fn stays(&mut self, error: &NvmlError) {
        let verdict = Verdict::of(error);
        if let Some(away) = self.away.as_mut()
            && matches!(verdict, Verdict::DeviceAway | Verdict::DriverAway)
        {
            away.words = error.to_string();
            away.driver = verdict == Verdict::DriverAway;
            self.news.push(DeviceAnswer::Away { since: away.since, words: away.words.clone() });
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
    pub(super) fn found(&mut self, at: Mono) {
        if self.away.take().is_some() {
            self.news.push(DeviceAnswer::Back { at });
        }
    }

    pub(super) const fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// What is new since it was asked last.
    pub(super) fn news(&mut self) -> Vec<DeviceAnswer> {
        std::mem::take(&mut self.news)
    }

    fn answers(&mut self, query: Query) {
        let known = self.queries.entry(query).or_default();
        if !std::mem::replace(&mut known.answered, true) {
            self.news.push(DeviceAnswer::Answers(query));
        }
    }

    pub(super) fn refuses(&self, query: Query) -> bool {
        self.queries.get(&query).is_some_and(|q| q.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `caller` does it.
    fn ask<T>(
        policy: &mut QueryPolicy,
        query: Query,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        policy.is_due(query, Mono(1)).then(call).and_then(|answer| policy.noted(query, answer, Mono(1)))
    }

    #[test]
    fn a_refused_query_is_asked_once_and_keeps_nvmls_words() {
        let mut policy = QueryPolicy::default();
        let mut asked = 0;
        for _ in 0..3 {
            let answer: Option<u32> = ask(&mut policy, Query::Power, || {
                asked += 1;
                Err(NvmlError::NotSupported)
            });
            assert_eq!(answer, None);
        }
        assert_eq!(asked, 1);
        let [DeviceAnswer::Refuses(Query::Power, words)] = &policy.news()[..] else { panic!() };
        assert_eq!(words, "the requested operation is not available on the target device");
    }

    #[test]
    fn a_query_that_fails_is_asked_again_and_counted() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, Query::Power, || Err::<u32, _>(NvmlError::Unknown)), None);
        assert_eq!(ask(&mut policy, Query::Power, || Ok(7)), Some(7));
        // What it once answered it can: a refusal later on is only a failure.
        assert_eq!(ask(&mut policy, Query::Power, || Err::<u32, _>(NvmlError::NotSupported)), None);
        assert_eq!(ask(&mut policy, Query::Power, || Ok(8)), Some(8));
        let news = policy.news();
        let [DeviceAnswer::Failed(..), DeviceAnswer::Answers(Query::Power), DeviceAnswer::Failed(..)] =
            &news[..]
        else {
            panic!("{news:?}")
        };
    }

    #[test]
    fn nothing_new_is_no_failure() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, Query::ProcessSm, || Err::<u32, _>(NvmlError::NotFound)), None);
        assert!(matches!(policy.news()[..], [DeviceAnswer::Answers(Query::ProcessSm)]));
    }

    #[test]
    fn a_slow_query_waits_and_no_other_does() {
        let mut policy = QueryPolicy::default();
        let cost = Cost { wall: Nanos::from_millis(80), cpu: Nanos::ZERO };
        policy.took(Query::Power, Mono(0), cost);
        assert!(!policy.is_due(Query::Power, Mono(799_000_000)));
        assert!(policy.is_due(Query::Power, Mono(800_000_000)));
        assert!(policy.is_due(Query::Energy, Mono(1)));
        policy.last = true;
        assert!(policy.is_due(Query::Power, Mono(1)));
    }

    #[test]
    fn a_device_that_is_away_is_asked_nothing_and_looked_for_less_and_less_often() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, Query::Power, || Err::<u32, _>(NvmlError::GpuLost)), None);
        assert_eq!(ask(&mut policy, Query::Energy, || Ok(7)), None);
        assert!(matches!(
            policy.news()[..],
            [DeviceAnswer::Failed(..), DeviceAnswer::Away { since: Mono(1), .. }]
        ));
        let ms = |t: u64| Mono(1 + t * 1_000_000);
        let looks: Vec<u64> =
            (0..40_000).step_by(100).filter(|t| policy.search(ms(*t)) == Some(Search::Device)).collect();
        assert_eq!(looks, [500, 1_500, 3_500, 7_500, 15_500, 23_500, 31_500, 39_500]);
        policy.found(ms(39_500));
        assert_eq!(ask(&mut policy, Query::Energy, || Ok(7)), Some(7));
        let news = policy.news();
        let [DeviceAnswer::Back { at }, DeviceAnswer::Answers(Query::Energy)] = &news[..] else {
            panic!("{news:?}")
        };
        assert_eq!((*at, policy.is_away()), (ms(39_500), false));
    }

    #[test]
    fn a_driver_that_is_away_has_to_be_initialised_again() {
        let mut policy = QueryPolicy::default();
        assert_eq!(ask(&mut policy, Query::Power, || Err::<u32, _>(NvmlError::Uninitialized)), None);
        let words = NvmlError::Uninitialized.to_string();
        assert_eq!(policy.search(Mono(600_000_000)), Some(Search::Driver { since: Mono(1), words }));
    }

    #[test]
    fn of_a_device_that_stays_away_the_first_moment_counts_and_the_last_words() {
        let mut policy = QueryPolicy::default();
        policy.goes(Mono(5), NvmlError::DriverNotLoaded.to_string(), true);
        policy.goes(Mono(6), "later".into(), false);
        policy.stays(&NvmlError::Unknown);
        policy.stays(&NvmlError::LibRmVersionMismatch);
        let told: Vec<_> = policy
            .news()
            .into_iter()
            .map(|news| match news {
                DeviceAnswer::Away { since, words } => (since, words),
                other => panic!("{other:?}"),
            })
            .collect();
        let all = [NvmlError::DriverNotLoaded, NvmlError::LibRmVersionMismatch];
        assert_eq!(told, all.map(|words| (Mono(5), words.to_string())));
    }
}
