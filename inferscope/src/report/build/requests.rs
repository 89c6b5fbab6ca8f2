//! The listed requests as the report shows them.
//!
//! Owns the mapping of each field onto the run's timeline. Called by `report::build`.

use crate::aggregate::load::request_list::{ListedChunk, ListedRequest};
use crate::aggregate::load::tokens::TokenSource;
use crate::clock::{Mono, Origin};
use crate::event::{Choice, ChunkKind, FailureKind};
use crate::report::model;

pub(crate) fn request(origin: Origin, r: &ListedRequest) -> model::Request {
    let at = |t: Mono| origin.at(t).0;
    model::Request {
        id: r.id,
        step: u32::try_from(r.place.step).unwrap_or(u32::MAX),
        repetition: u32::try_from(r.place.repetition).unwrap_or(u32::MAX),
        warmup: r.warmup,
        scheduled_ns: r.scheduled.map(at),
        sent_ns: at(r.sent),
        written_ns: r.written.map(at),
        connect_ns: r.connect.map(|n| n.0),
        headers_ns: r.headers.map(at),
        first_token_ns: r.first_token.map(at),
        last_token_ns: r.last_token.map(at),
        done_ns: at(r.done),
        ok: r.failure.is_none(),
        error_kind: r.failure.as_ref().map(|f| error_kind(f.kind)),
        error: r.failure.as_ref().map(|f| f.message.clone()),
        http_status: r.http_status,
        prompt_tokens: r.prompt_tokens,
        output_tokens: r.output_tokens,
        token_source: r.token_source.map(token_source),
        sent_client_late: r.sent_client_late,
        client_stall_ns: r.client_stall.map(|stall| stall.0),
        done_client_late: r.done_client_late,
        usage_impossible: r.usage_impossible,
        finish_reason: r.finish_reason.clone(),
        choices: r.choices,
        chunks: r.chunks.iter().map(|c| chunk(origin, c)).collect(),
        chunks_omitted: r.chunks_omitted,
    }
}

fn chunk(origin: Origin, c: &ListedChunk) -> model::Chunk {
    model::Chunk {
        t_ns: origin.at(c.t).0,
        tokens: c.tokens,
        bytes: c.bytes,
        kind: chunk_kind(c.kind),
        client_late: c.client_late,
        choice: c.choice.map(Choice::index),
    }
}

pub(crate) const fn token_source(source: TokenSource) -> model::TokenSource {
    match source {
        TokenSource::Usage => model::TokenSource::Usage,
        TokenSource::Chunks => model::TokenSource::Chunks,
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

pub(crate) const fn error_kind(kind: FailureKind) -> model::ErrorKind {
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
