//! The requests that the report lists, with their chunks.
//!
//! Owns the bounds on both: every request is in the sums and distributions, the list holds as many as there is room for.
//! Never computes a figure over requests. Fed by the load's aggregate.

use crate::clock::Mono;
use crate::event::{Choice, ChunkKind, Failure, RequestLog};
use crate::units::Nanos;

use super::request_figures::RequestFigures;
use super::tokens::TokenSource;

/// Chunks listed over all requests; some 8 MB here, twice that as JSON.
const MOST_CHUNKS: usize = 200_000;
/// Requests listed.
const MOST_REQUESTS: usize = 100_000;

/// A request as the report lists it.
#[derive(Debug, Clone)]
pub(crate) struct ListedRequest {
    pub(crate) id: u64,
    pub(crate) place: PhaseIndex,
    pub(crate) warmup: bool,
    pub(crate) scheduled: Option<Mono>,
    pub(crate) sent: Mono,
    pub(crate) written: Option<Mono>,
    pub(crate) connect: Option<Nanos>,
    pub(crate) headers: Option<Mono>,
    pub(crate) first_token: Option<Mono>,
    pub(crate) last_token: Option<Mono>,
    pub(crate) done: Mono,
    pub(crate) failure: Option<Failure>,
    pub(crate) http_status: Option<u16>,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) token_source: Option<TokenSource>,
    /// Times from its sending are in no figure.
    pub(crate) sent_client_late: bool,
    /// The longest stall of the client that made one of its times too late.
    pub(crate) client_stall: Option<Nanos>,
    pub(crate) done_client_late: bool,
    pub(crate) usage_impossible: bool,
    pub(crate) finish_reason: Option<String>,
    /// Choices that came, where more than one came or was asked for.
    pub(crate) choices: Option<u32>,
    pub(crate) chunks: Vec<ListedChunk>,
    /// There was no room for them.
    pub(crate) chunks_omitted: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ListedChunk {
    pub(crate) t: Mono,
    /// `None`: the server's total doesn't tell.
    pub(crate) tokens: Option<u32>,
    pub(crate) bytes: u32,
    pub(crate) kind: ChunkKind,
    pub(crate) client_late: bool,
    /// Where its request has several.
    pub(crate) choice: Option<Choice>,
}

/// The phase that a request is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PhaseIndex {
    pub(crate) step: usize,
    pub(crate) repetition: usize,
}

/// Those for which there is room.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestList {
    pub(crate) requests: Vec<ListedRequest>,
    chunks: usize,
    /// Requests for which there was none.
    pub(crate) unlisted: u64,
    /// Requests that are listed without their chunks.
    pub(crate) without_chunks: u64,
}

impl RequestList {
    pub(crate) fn add(&mut self, place: PhaseIndex, answer: &RequestFigures<'_>) {
        if self.requests.len() >= MOST_REQUESTS {
            self.unlisted += 1;
            return;
        }
        let chunks = answer.request.chunks.len();
        let room = self.chunks + chunks <= MOST_CHUNKS;
        if room {
            self.chunks += chunks;
        } else {
            self.without_chunks += 1;
        }
        self.requests.push(listed(place, answer, room));
    }

    /// Nothing more comes: they are listed by their numbers.
    pub(crate) fn sort(&mut self) {
        self.requests.sort_by_key(|request| request.id);
    }
}

/// Without its chunks where there is no room for them.
fn listed(place: PhaseIndex, answer: &RequestFigures<'_>, chunks: bool) -> ListedRequest {
    let r: &RequestLog = answer.request;
    let choices = u32::try_from(answer.streams.len()).unwrap_or(u32::MAX);
    let several = choices.max(r.asked.choices) > 1;
    ListedRequest {
        id: r.id,
        place,
        warmup: r.warmup,
        scheduled: r.scheduled,
        sent: r.sent,
        written: r.written,
        connect: r.connect,
        headers: r.headers,
        first_token: answer.first_token(),
        last_token: answer.last_token(),
        done: r.done,
        failure: r.failure.clone(),
        http_status: r.http_status,
        prompt_tokens: answer.usage.prompt,
        output_tokens: answer.tokens.total,
        token_source: answer.tokens.source,
        sent_client_late: answer.late.sent,
        client_stall: Some(answer.late.longest).filter(|stall| *stall > Nanos::ZERO),
        done_client_late: answer.late.is_late(r.done),
        usage_impossible: answer.usage.is_impossible(),
        finish_reason: r.finish_reason.clone(),
        choices: several.then_some(choices),
        chunks_omitted: !chunks && !r.chunks.is_empty(),
        chunks: r
            .chunks
            .iter()
            .filter(|_| chunks)
            .map(|c| ListedChunk {
                t: c.t,
                tokens: answer.tokens.in_chunk(c),
                bytes: c.bytes,
                kind: c.kind,
                client_late: answer.late.is_late(c.t),
                choice: c.choice.filter(|_| several),
            })
            .collect(),
    }
}
