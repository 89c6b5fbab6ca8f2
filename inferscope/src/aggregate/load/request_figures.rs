//! One request, and what is read off it.
//!
//! Owns which requests count (measured and successful), and a request's times and tokens. Called by the load's aggregate
//! when a request has ended, and by the files beside it.

use crate::clock::Mono;
use crate::event::{Chunk, ChunkKind, RequestLog};
use crate::plan::Slo;
use crate::units::Nanos;

use super::lateness::{Lateness, LeftOut};
use super::streams::{Pace, Stream, streams};
use super::tokens::{TokenSource, Tokens};
use super::usage::{BEYOND_LIMIT, CheckedUsage};

/// One request with what is known of its tokens.
pub(crate) struct RequestFigures<'a> {
    pub(crate) request: &'a RequestLog,
    pub(crate) tokens: Tokens,
    pub(crate) usage: CheckedUsage,
    pub(crate) late: Lateness,
    /// Of each choice.
    pub(crate) streams: Vec<Stream<'a>>,
}

impl<'a> RequestFigures<'a> {
    pub(crate) fn of(request: &'a RequestLog) -> Self {
        let usage = CheckedUsage::of(request);
        Self {
            request,
            tokens: Tokens::of(request, &usage),
            usage,
            late: Lateness::of(request),
            streams: streams(request),
        }
    }

    /// Neither warm-up nor failed: the only ones in a distribution.
    pub(crate) fn counts(&self) -> bool {
        !self.request.warmup && self.request.failure.is_none()
    }

    /// The chunks that hold generated text, of any choice, in the order of arrival.
    pub(crate) fn text_chunks(&self) -> impl DoubleEndedIterator<Item = &Chunk> {
        self.request.chunks.iter().filter(|c| c.kind.has_tokens())
    }

    pub(crate) fn first_token(&self) -> Option<Mono> {
        self.text_chunks().next().map(|c| c.t)
    }

    pub(crate) fn last_token(&self) -> Option<Mono> {
        self.text_chunks().next_back().map(|c| c.t)
    }

    /// More chunks with visible text than tokens were asked for, by more than a few.
    pub(crate) fn is_beyond_limit(&self) -> bool {
        let asked = &self.request.asked;
        let visible = self.text_chunks().filter(|c| c.kind != ChunkKind::Reasoning).count() as u64;
        let limit = |most: u64| most.saturating_add(BEYOND_LIMIT).saturating_mul(asked.choices.max(1).into());
        asked.max_tokens.is_some_and(|most| visible > limit(most))
    }

    /// Between successive chunks with text of one choice, without those that a stall of the client made or hid.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = Nanos> {
        let all = self.streams.iter().flat_map(Stream::gaps);
        all.filter(|(from, to)| !self.late.is_late(*from) && !self.late.is_late(*to))
            .map(|(from, to)| to.since(from))
    }

    /// What a stall of the client leaves no figure of.
    pub(crate) fn left_out(&self) -> LeftOut {
        let all = self.streams.iter().map(|stream| stream.gaps().count()).sum::<usize>();
        let first = self.first_token().is_some_and(|t| self.late.sent || self.late.is_late(t));
        LeftOut {
            gaps: (all - self.gaps().count()) as u64,
            first_tokens: u64::from(first),
            ends: u64::from(self.late.sent || self.late.is_late(self.request.done)),
            longest: self.late.longest,
        }
    }

    /// Of each choice whose tokens after its first chunk are known.
    pub(crate) fn paces(&self) -> impl Iterator<Item = Pace> {
        let alone = self.streams.len() == 1;
        let timed = |stream: &&Stream<'_>| {
            stream.span().is_some_and(|(from, to)| !self.late.is_late(from) && !self.late.is_late(to))
        };
        self.streams.iter().filter(timed).filter_map(move |stream| stream.pace(&self.tokens, alone))
    }

    /// Tokens that arrived after the first one, up to the last text; `None` where it is not told by the server's count that the
    /// first piece was one token: what else came with it was made before it, but not before the first token. So is the
    /// first token of a further choice.
    pub(crate) fn tokens_after_first(&self) -> Option<u64> {
        let [stream] = &self.streams[..] else { return None };
        if self.tokens.source != Some(TokenSource::Usage) {
            return None;
        }
        let Some(first) = stream.text().next() else { return Some(0) };
        if self.tokens.in_chunk(first) != Some(1) || stream.first_burst() > 1 {
            return None;
        }
        if stream.span().is_none() { Some(0) } else { stream.after_first(&self.tokens, false) }
    }

    /// Whether it kept the service level, in each of its choices. A time that it does not have (a second token's, where
    /// there is one) breaks none, but no answer without visible text meets a ttfo.
    pub(crate) fn meets(&self, slo: &Slo) -> bool {
        let asked = self.request.waited_from();
        let within = |level: Option<Nanos>, time: Option<Nanos>| match (level, time) {
            (Some(level), Some(time)) => time <= level,
            (Some(_), None) => false,
            (None, _) => true,
        };
        // A stall of the client's made a time too late by at most its length: that much breaks no level.
        let time = |t: Option<Mono>| {
            let t = t?;
            let late = self.late.sent || self.late.is_late(t);
            let slack = if late { self.late.longest } else { Nanos::ZERO };
            Some(t.since(asked).saturating_sub(slack))
        };
        let visible = self.text_chunks().find(|c| c.kind != ChunkKind::Reasoning).map(|c| c.t);
        within(slo.ttft, time(self.first_token()))
            && within(slo.ttfo, time(visible))
            && within(slo.e2e, time(Some(self.request.done)))
            && slo.tpot.is_none_or(|level| self.paces().all(|pace| pace.tpot <= level))
            && slo.itl.is_none_or(|level| self.gaps().all(|gap| gap <= level))
    }
}
