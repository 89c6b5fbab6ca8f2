//! Counts of a stretch of load, request by request as they end.
//!
//! Owns the sums, so that memory does not grow with the run: a request is added when it has ended and may be forgotten
//! then. Never formats and never judges. Fed by the load's aggregate.

use std::collections::BTreeSet;

use crate::clock::Window;
use crate::event::{FailureKind, Loaded, PhaseLog};
use crate::plan::Slo;
use crate::units::Nanos;

use super::bursts::Bursts;
use super::delivered::Work;
use super::failures::Failures;
use super::lateness::LeftOut;
use super::request_figures::RequestFigures;
use super::token_sum::TokenSum;
use super::tokens::TokenSource;
use super::usage::Impossible;

/// Names of models kept that answered in another's place.
const MODELS: usize = 8;

/// What answers are held against.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms<'a> {
    pub(crate) slo: Option<&'a Slo>,
    pub(crate) model: Option<&'a str>,
}

/// Counts of a stretch of load.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) warmup: u64,
    /// Measured, whatever became of them.
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    /// Failed by Ctrl-C.
    pub(crate) cut_off: u64,
    /// Within the service level.
    pub(crate) good: u64,
    pub(crate) output: TokenSum,
    pub(crate) prompt: TokenSum,
    /// Output that came after each answer's first token.
    pub(crate) after_first: TokenSum,
    /// Chunks with text of the successful.
    pub(crate) token_chunks: u64,
    /// Answers by what told their tokens.
    by_usage: u64,
    pub(crate) by_chunks: u64,
    pub(crate) differing: Differing,
    pub(crate) bursts: Bursts,
    pub(crate) left_out: LeftOut,
    pub(crate) impossible: Impossible,
    /// Answers with more chunks of text than `max_tokens` allows.
    pub(crate) beyond_limit: u64,
    pub(crate) failures: Failures,
    pub(crate) other_models: BTreeSet<String>,
    /// What was delivered in which time.
    pub(crate) work: Work,
}

/// Answers whose total is not the number of their chunks with text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Differing {
    pub(crate) answers: u64,
    pub(crate) tokens: u64,
    pub(crate) chunks: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, answer: &RequestFigures<'_>, terms: &Terms<'_>, loaded: Loaded) {
        let r = answer.request;
        let good = r.failure.is_none() && terms.slo.is_some_and(|slo| answer.meets(slo));
        self.work.add(answer, loaded, good);
        let other = r.served_model.as_deref().filter(|s| terms.model.is_some_and(|asked| asked != *s));
        if let Some(other) = other.filter(|_| self.other_models.len() < MODELS) {
            self.other_models.insert(other.to_owned());
        }
        if let Some(failure) = &r.failure {
            self.failures.add(r, failure);
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

    /// The phase has ended.
    pub(crate) fn close(&mut self, phase: &PhaseLog) {
        self.work.close(phase);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
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

    pub(crate) const fn failed(&self) -> u64 {
        self.sent - self.ok
    }

    /// The weaker source names the sum.
    pub(crate) const fn source(&self) -> Option<TokenSource> {
        match (self.by_chunks, self.by_usage) {
            (0, 0) => None,
            (0, _) => Some(TokenSource::Usage),
            _ => Some(TokenSource::Chunks),
        }
    }

    /// What rates and costs are of: one a phase.
    pub(crate) fn windows(&self) -> &[Window] {
        &self.work.main.windows
    }

    /// Their time, one phase after another.
    pub(crate) fn window_length(&self) -> Option<Nanos> {
        self.work.main.length()
    }

    /// Tokens that arrived in them, whoever asked; `None` where no measured request succeeded.
    pub(crate) fn tokens_in_windows(&self) -> Option<u64> {
        (self.ok > 0).then(|| self.work.main.delivered.tokens(self.tokens_a_chunk()))
    }

    /// Of the successful answers; what a failed one's chunk holds is not told.
    pub(crate) fn tokens_a_chunk(&self) -> f64 {
        match self.output.total() {
            Some(tokens) if self.differing.answers > 0 && self.token_chunks > 0 => {
                tokens as f64 / self.token_chunks as f64
            }
            _ => 1.0,
        }
    }

    /// Tokens of a successful request, on average.
    pub(crate) fn tokens_a_request(&self) -> Option<f64> {
        self.output.total().filter(|_| self.ok > 0).map(|tokens| tokens as f64 / self.ok as f64)
    }
}

#[cfg(test)]
mod tests;
