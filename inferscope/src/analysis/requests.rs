//! The requests, as the report lists them.
//!
//! Owns which requests count (measured and successful), what is read off one of them, and its place on the run's
//! timeline. Called by `load_aggregate`, `load_totals` and `timing`.

use crate::clock::{Mono, Origin};
use crate::event::{Choice, Chunk, ChunkKind, FailureKind, RequestLog};
use crate::plan::Slo;
use crate::report::model;
use crate::units::Nanos;

use super::lateness::{Lateness, LeftOut};
use super::streams::{Pace, Stream, streams};
use super::tokens::Tokens;
use super::usage::{BEYOND_LIMIT, CheckedUsage};

/// One request with what is known of its tokens.
pub(super) struct RequestFigures<'a> {
    pub(super) request: &'a RequestLog,
    pub(super) tokens: Tokens,
    pub(super) usage: CheckedUsage,
    pub(super) late: Lateness,
    /// Of each choice.
    pub(super) streams: Vec<Stream<'a>>,
}

impl<'a> RequestFigures<'a> {
    pub(super) fn of(request: &'a RequestLog) -> Self {
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
    pub(super) fn counts(&self) -> bool {
        !self.request.warmup && self.request.failure.is_none()
    }

    /// The chunks that hold generated text, of any choice, in the order of arrival.
    pub(super) fn text_chunks(&self) -> impl DoubleEndedIterator<Item = &Chunk> {
        self.request.chunks.iter().filter(|c| c.kind.has_tokens())
    }

    pub(super) fn first_token(&self) -> Option<Mono> {
        self.text_chunks().next().map(|c| c.t)
    }

    pub(super) fn last_token(&self) -> Option<Mono> {
        self.text_chunks().next_back().map(|c| c.t)
    }

    /// More chunks with visible text than tokens were asked for, by more than a few.
    pub(super) fn is_beyond_limit(&self) -> bool {
        let asked = &self.request.asked;
        let visible = self.text_chunks().filter(|c| c.kind != ChunkKind::Reasoning).count() as u64;
        let limit = |most: u64| most.saturating_add(BEYOND_LIMIT).saturating_mul(asked.choices.max(1).into());
        asked.max_tokens.is_some_and(|most| visible > limit(most))
    }

    /// Between successive chunks with text of one choice, without those that a stall of the client made or hid.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Nanos> {
        let all = self.streams.iter().flat_map(Stream::gaps);
        all.filter(|(from, to)| !self.late.is_late(*from) && !self.late.is_late(*to))
            .map(|(from, to)| to.since(from))
    }

    /// What a stall of the client leaves no figure of.
    pub(super) fn left_out(&self) -> LeftOut {
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
    pub(super) fn paces(&self) -> impl Iterator<Item = Pace> {
        let alone = self.streams.len() == 1;
        let timed = |stream: &&Stream<'_>| {
            stream.span().is_some_and(|(from, to)| !self.late.is_late(from) && !self.late.is_late(to))
        };
        self.streams.iter().filter(timed).filter_map(move |stream| stream.pace(&self.tokens, alone))
    }

    /// Tokens that arrived after the first one, up to the last text; `None` where it is not told by the server's count that the
    /// first piece was one token: what else came with it was made before it, but not before the first token. So is the
    /// first token of a further choice.
    pub(super) fn tokens_after_first(&self) -> Option<u64> {
        let [stream] = &self.streams[..] else { return None };
        if self.tokens.source != Some(model::TokenSource::Usage) {
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
    pub(super) fn meets(&self, slo: &Slo) -> bool {
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

/// The phase that a request is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhaseIndex {
    pub(super) step: usize,
    pub(super) repetition: usize,
}

/// As the report lists it; without its chunks where there is no room for them.
pub(super) fn listed(
    origin: Origin,
    place: PhaseIndex,
    answer: &RequestFigures<'_>,
    chunks: bool,
) -> model::Request {
    let r = answer.request;
    let at = |t: Mono| origin.at(t).0;
    let choices = u32::try_from(answer.streams.len()).unwrap_or(u32::MAX);
    let several = choices.max(r.asked.choices) > 1;
    model::Request {
        id: r.id,
        step: u32::try_from(place.step).unwrap_or(u32::MAX),
        repetition: u32::try_from(place.repetition).unwrap_or(u32::MAX),
        warmup: r.warmup,
        scheduled_ns: r.scheduled.map(at),
        sent_ns: at(r.sent),
        written_ns: r.written.map(at),
        connect_ns: r.connect.map(|n| n.0),
        headers_ns: r.headers.map(at),
        first_token_ns: answer.first_token().map(at),
        last_token_ns: answer.last_token().map(at),
        done_ns: at(r.done),
        ok: r.failure.is_none(),
        error_kind: r.failure.as_ref().map(|f| error_kind(f.kind)),
        error: r.failure.as_ref().map(|f| f.message.clone()),
        http_status: r.http_status,
        prompt_tokens: answer.usage.prompt,
        output_tokens: answer.tokens.total,
        token_source: answer.tokens.source,
        sent_client_late: answer.late.sent,
        client_stall_ns: Some(answer.late.longest.0).filter(|ns| *ns > 0),
        done_client_late: answer.late.is_late(r.done),
        usage_impossible: answer.usage.is_impossible(),
        finish_reason: r.finish_reason.clone(),
        choices: several.then_some(choices),
        chunks_omitted: !chunks && !r.chunks.is_empty(),
        chunks: r
            .chunks
            .iter()
            .filter(|_| chunks)
            .map(|c| model::Chunk {
                t_ns: at(c.t),
                tokens: answer.tokens.in_chunk(c),
                bytes: c.bytes,
                kind: chunk_kind(c.kind),
                client_late: answer.late.is_late(c.t),
                choice: c.choice.filter(|_| several).map(Choice::index),
            })
            .collect(),
    }
}

const fn chunk_kind(kind: ChunkKind) -> model::ChunkKind {
    match kind {
        ChunkKind::Content => model::ChunkKind::Content,
        ChunkKind::Reasoning => model::ChunkKind::Reasoning,
        ChunkKind::Tool => model::ChunkKind::Tool,
        ChunkKind::Other => model::ChunkKind::Other,
    }
}

pub(super) const fn error_kind(kind: FailureKind) -> model::ErrorKind {
    match kind {
        FailureKind::Connect => model::ErrorKind::Connect,
        FailureKind::Certificate => model::ErrorKind::Certificate,
        FailureKind::ClientLimit => model::ErrorKind::ClientLimit,
        FailureKind::Timeout => model::ErrorKind::Timeout,
        FailureKind::Status => model::ErrorKind::Status,
        FailureKind::ServerError => model::ErrorKind::ServerError,
        FailureKind::Malformed => model::ErrorKind::Malformed,
        FailureKind::Disconnect => model::ErrorKind::Disconnect,
        FailureKind::Empty => model::ErrorKind::Empty,
        FailureKind::Overrun => model::ErrorKind::Overrun,
        FailureKind::Memory => model::ErrorKind::Memory,
        FailureKind::Interrupted => model::ErrorKind::Interrupted,
    }
}
