//! What a load came to, request by request as they end.
//!
//! Owns the sums and distributions of a stretch of load, so that memory does not grow with the run: a request
//! is folded in when it has ended and may be forgotten then. Never formats and never judges. Fed by `load_aggregate`.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Mono, Origin};
use crate::event::{FailureKind, Loaded, PhaseLog, RequestLog};
use crate::plan::Slo;
use crate::report::model::{self, TokenSource};
use crate::units::Nanos;

use super::bursts::Bursts;
use super::histogram::Distribution;
use super::lateness::LeftOut;
use super::requests::{RequestFigures, error_kind};
use super::timing::Distributions;
use super::usage::Impossible;
use super::window::{Window, Work};

/// Causes of failure told one by one; further ones are counted together.
const CAUSES: usize = 64;
/// Names of models told that answered in another's place.
const MODELS: usize = 8;

/// A stretch of load.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    pub(super) sums: Sums,
    pub(super) distributions: Distributions,
    /// Send time minus scheduled time, of an open loop.
    pub(super) lag: Distribution,
    /// What the connections took that were opened for successful measured requests.
    pub(super) connect: Distribution,
}

impl Fold {
    pub(super) fn new() -> Self {
        Self {
            sums: Sums::default(),
            distributions: Distributions::new(),
            lag: Distribution::new(),
            connect: Distribution::new(),
        }
    }

    pub(super) fn add(&mut self, answer: &RequestFigures<'_>, of: &Terms<'_>, loaded: Loaded) {
        self.sums.add(answer, of, loaded);
        if answer.request.warmup {
            return;
        }
        // Also of one that failed: it was sent late all the same.
        if let Some(wanted) = answer.request.scheduled {
            self.lag.record(answer.request.sent.since(wanted));
        }
        if answer.counts() {
            self.distributions.record(answer);
            if let Some(took) = answer.request.connect {
                self.connect.record(took);
            }
        }
    }

    /// The phase has ended.
    pub(super) fn close(&mut self, phase: &PhaseLog) {
        self.sums.work.close(phase);
    }

    /// The windows of both stay apart: the time between them is no load's.
    pub(super) fn merge(&mut self, other: &Self) {
        self.sums.merge(&other.sums);
        self.distributions.merge(&other.distributions);
        self.lag += &other.lag;
        self.connect += &other.connect;
    }
}

/// What answers are held against.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms<'a> {
    pub(super) slo: Option<&'a Slo>,
    pub(super) model: Option<&'a str>,
}

/// Counts of a stretch of load.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub(super) warmup: u64,
    /// Measured, whatever became of them.
    pub(super) sent: u64,
    pub(super) ok: u64,
    /// Failed by Ctrl-C.
    pub(super) cut_off: u64,
    /// Within the service level.
    pub(super) good: u64,
    pub(super) output: Tokens,
    pub(super) prompt: Tokens,
    /// Output that came after each answer's first token.
    pub(super) after_first: Tokens,
    /// Chunks with text of the successful.
    pub(super) token_chunks: u64,
    /// Answers by what told their tokens.
    by_usage: u64,
    pub(super) by_chunks: u64,
    pub(super) differing: Differing,
    pub(super) bursts: Bursts,
    pub(super) left_out: LeftOut,
    pub(super) impossible: Impossible,
    /// Answers with more chunks of text than `max_tokens` allows.
    pub(super) beyond_limit: u64,
    pub(super) failures: Failures,
    pub(super) other_models: BTreeSet<String>,
    /// What was delivered in which time.
    pub(super) work: Work,
}

/// A sum that is unknown where any part is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Of fewer than 2^64 values it can't overflow.
    sum: u128,
    known: u64,
    unknown: u64,
}

impl Tokens {
    pub(super) fn add(&mut self, n: Option<u64>) {
        match n {
            Some(n) => {
                self.sum += u128::from(n);
                self.known += 1;
            }
            None => self.unknown += 1,
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.known += other.known;
        self.unknown += other.unknown;
    }

    pub(super) fn total(self) -> Option<u64> {
        u64::try_from(self.sum).ok().filter(|_| self.unknown == 0 && self.known > 0)
    }

    /// Of those that told.
    pub(super) fn mean(self) -> Option<f64> {
        (self.known > 0).then(|| self.sum as f64 / self.known as f64)
    }
}

/// Answers whose total is not the number of their chunks with text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Differing {
    pub(super) answers: u64,
    pub(super) tokens: u64,
    pub(super) chunks: u64,
}

impl Sums {
    fn add(&mut self, answer: &RequestFigures<'_>, of: &Terms<'_>, loaded: Loaded) {
        let r = answer.request;
        let good = r.failure.is_none() && of.slo.is_some_and(|slo| answer.meets(slo));
        self.work.add(answer, loaded, good);
        let other = r.served_model.as_deref().filter(|s| of.model.is_some_and(|asked| asked != *s));
        if let Some(other) = other.filter(|_| self.other_models.len() < MODELS) {
            self.other_models.insert(other.to_owned());
        }
        if let Some(failure) = &r.failure {
            // The status tells failures apart only where it is the failure.
            let status = r.http_status.filter(|_| failure.kind == FailureKind::Status);
            self.failures.add((error_kind(failure.kind), status), r, &failure.message);
        }
        if r.warmup {
            self.warmup += 1;
            return;
        }
        self.sent += 1;
        if r.failure.as_ref().is_some_and(|f| f.kind == FailureKind::Interrupted) {
            self.cut_off += 1;
            return;
        }
        if r.failure.is_some() {
            return;
        }
        self.ok += 1;
        self.good += u64::from(good);
        self.output.add(answer.tokens.total);
        self.prompt.add(answer.usage.prompt);
        self.bursts.add(answer);
        self.left_out.merge(&answer.left_out());
        self.impossible.add(&answer.usage);
        self.beyond_limit += u64::from(answer.is_beyond_limit());
        self.after_first.add(answer.tokens_after_first());
        self.token_chunks = self.token_chunks.saturating_add(answer.tokens.chunks);
        match answer.tokens.source {
            Some(TokenSource::Usage) => self.by_usage += 1,
            Some(TokenSource::Chunks) => self.by_chunks += 1,
            None => {}
        }
        if answer.tokens.differs_from_chunks() {
            self.differing.answers += 1;
            self.differing.tokens = self.differing.tokens.saturating_add(answer.tokens.total.unwrap_or(0));
            self.differing.chunks = self.differing.chunks.saturating_add(answer.tokens.chunks);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.warmup += other.warmup;
        self.sent += other.sent;
        self.ok += other.ok;
        self.cut_off += other.cut_off;
        self.good += other.good;
        self.output.merge(other.output);
        self.prompt.merge(other.prompt);
        self.after_first.merge(other.after_first);
        self.token_chunks = self.token_chunks.saturating_add(other.token_chunks);
        self.by_usage += other.by_usage;
        self.by_chunks += other.by_chunks;
        self.differing.answers += other.differing.answers;
        self.differing.tokens = self.differing.tokens.saturating_add(other.differing.tokens);
        self.differing.chunks = self.differing.chunks.saturating_add(other.differing.chunks);
        self.bursts.merge(&other.bursts);
        self.left_out.merge(&other.left_out);
        self.impossible.merge(&other.impossible);
        self.beyond_limit += other.beyond_limit;
        self.failures.merge(&other.failures);
        for model in &other.other_models {
            if self.other_models.len() < MODELS {
                self.other_models.insert(model.clone());
            }
        }
        self.work.merge(&other.work);
    }

    pub(super) const fn failed(&self) -> u64 {
        self.sent - self.ok
    }

    /// The weaker source names the sum.
    pub(super) const fn source(&self) -> Option<TokenSource> {
        match (self.by_chunks, self.by_usage) {
            (0, 0) => None,
            (0, _) => Some(TokenSource::Usage),
            _ => Some(TokenSource::Chunks),
        }
    }

    /// What rates and costs are of: one a phase.
    pub(super) fn windows(&self) -> &[Window] {
        &self.work.main.windows
    }

    /// Their time, one phase after another.
    pub(super) fn window_length(&self) -> Option<Nanos> {
        self.work.main.length()
    }

    /// Tokens that arrived in them, whoever asked; `None` where no measured request succeeded.
    pub(super) fn tokens_in_windows(&self) -> Option<u64> {
        (self.ok > 0).then(|| self.work.main.delivered.tokens(self.tokens_a_chunk()))
    }

    /// Of the successful answers; what a failed one's chunk holds is not told.
    pub(super) fn tokens_a_chunk(&self) -> f64 {
        match self.output.total() {
            Some(tokens) if self.differing.answers > 0 && self.token_chunks > 0 => {
                tokens as f64 / self.token_chunks as f64
            }
            _ => 1.0,
        }
    }

    /// Tokens of a successful request, on average.
    pub(super) fn tokens_a_request(&self) -> Option<f64> {
        self.output.total().filter(|_| self.ok > 0).map(|tokens| tokens as f64 / self.ok as f64)
    }
}

type Cause = (model::ErrorKind, Option<u16>);

/// Failures by cause, each with its first message.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    groups: BTreeMap<Cause, Group>,
    /// Of causes that found no room.
    further: u64,
}

#[derive(Debug, Clone)]
struct Group {
    count: u64,
    warmup: u64,
    /// When the first of them failed, and what it said.
    first: Mono,
    example: String,
}

impl Failures {
    fn add(&mut self, cause: Cause, request: &RequestLog, message: &str) {
        let (warmup, first) = (u64::from(request.warmup), request.done);
        self.put(cause, &Group { count: 1, warmup, first, example: message.to_owned() });
    }

    fn put(&mut self, cause: Cause, more: &Group) {
        let room = self.groups.len() < CAUSES;
        match self.groups.get_mut(&cause) {
            Some(group) => {
                group.count += more.count;
                group.warmup += more.warmup;
                if more.first < group.first {
                    (group.first, group.example) = (more.first, more.example.clone());
                }
            }
            None if room => {
                self.groups.insert(cause, more.clone());
            }
            None => self.further += more.count,
        }
    }

    fn merge(&mut self, other: &Self) {
        for (cause, group) in &other.groups {
            self.put(*cause, group);
        }
        self.further += other.further;
    }

    /// How many requests failed so, how many of them are warm-up, and what the first said.
    pub(super) fn of(&self, kind: model::ErrorKind) -> Option<(u64, u64, &str)> {
        let groups = || self.groups.iter().filter(|((k, _), _)| *k == kind).map(|(_, group)| group);
        let example = groups().next()?.example.as_str();
        Some((groups().map(|g| g.count).sum(), groups().map(|g| g.warmup).sum(), example))
    }

    /// The earliest first: what comes after it is often its consequence.
    pub(super) fn report(&self, origin: Origin) -> Vec<model::FailureGroup> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(cause, group)| (group.first, **cause));
        let told = groups.into_iter().map(|((kind, status), group)| model::FailureGroup {
            kind: Some(*kind),
            http_status: *status,
            count: group.count,
            warmup: group.warmup,
            first_ns: Some(origin.at(group.first).0),
            example: group.example.clone(),
        });
        let further = (self.further > 0).then(|| model::FailureGroup {
            kind: None,
            http_status: None,
            count: self.further,
            warmup: 0,
            first_ns: None,
            example: format!("of more than {CAUSES} causes"),
        });
        told.chain(further).collect()
    }
}

#[cfg(test)]
mod tests;
