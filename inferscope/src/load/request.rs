//! One request: its body, and the state of its answer.
//!
//! Owns the state that turns stamped reads into a [`RequestLog`]: `body` makes what is sent, `delivered` holds what has
//! arrived. Sans-IO: the time is an argument, and the caller hands in the bytes. Called by `http` and, in tests, by
//! hand.

mod body;
mod delivered;

use super::server_message;
use super::sse::{LIMIT_BYTES, SseParser};
use crate::clock::Mono;
use crate::event::{Asked, Chunk, Failure, FailureKind, MemoryHold, RequestLog, Usage};
use crate::units::Nanos;

pub(super) use body::{BodySpec, asked, body};
use delivered::{Delivered, TextLimit, UsageOf};

/// Chunks beyond the tokens: a role, a finish reason, usage.
const CHUNKS_BESIDE_TOKENS: usize = 4;
/// Most chunks for which room is reserved ahead. A longer answer grows its list.
const PREALLOCATED_CHUNKS: usize = 16_384;
/// Longest lead: a byte order mark has three bytes, and a body with more before its first brace is no JSON.
const LEAD_BYTES: usize = 64;
/// The request that a log belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) warmup: bool,
    /// The time at which the schedule wants it sent; `None` in a closed loop.
    pub(super) scheduled: Option<Mono>,
}

/// Whether the answer needs more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    More,
    /// The answer is complete. Whatever follows on the connection does not matter.
    NoMore,
    /// The answer failed. The connection is of no further use.
    Failed,
}

/// How the reading ended.
#[derive(Debug)]
pub(super) enum End {
    /// The body was read to its end, or until nothing more was wanted.
    Eof,
    /// Something else ended it.
    Failed(Failure),
}

/// The sending of a request, filled in by the transport.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct SendTimes {
    /// When the first byte of the first sending went to the kernel.
    pub(super) written: Option<Mono>,
    /// Duration of that write; unknown where reqwest made it.
    pub(super) write_took: Option<Nanos>,
    /// Time to open the connection, if one was opened.
    pub(super) connect: Option<Nanos>,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct RequestState {
    slot: Slot,
    asked: Asked,
    sent: Mono,
    send_times: SendTimes,
    headers: Option<Mono>,
    http_status: Option<u16>,
    parser: SseParser,
    body: Body,
    last_read: Option<Mono>,
    kernel_stamps: bool,
    delivered: Delivered,
}

/// The kind of body, by its first byte that is not blank.
#[derive(Debug, PartialEq)]
enum Body {
    /// Blanks and parts of a byte order mark, from the first byte that is not blank.
    Unknown { lead: Vec<u8> },
    /// An event stream, or anything else that is not JSON. `head`: its first bytes, for a message.
    Stream { head: Vec<u8> },
    /// JSON without framing.
    Document(Vec<u8>),
}

/// The number of chunks for which room is reserved before the first one arrives.
pub(super) fn chunks_ahead(max_tokens: Option<u64>, choices: u32) -> usize {
    let tokens = max_tokens.unwrap_or(0).saturating_mul(choices.into());
    let room = usize::try_from(tokens).unwrap_or(usize::MAX).saturating_add(CHUNKS_BESIDE_TOKENS);
    room.min(PREALLOCATED_CHUNKS)
}

impl RequestState {
    /// A request that is about to be sent, with room for the chunks that it asks for.
    pub(super) fn new(slot: Slot, sent: Mono, asked: Asked) -> Self {
        let chunks = Vec::with_capacity(chunks_ahead(asked.max_tokens, asked.choices));
        Self {
            slot,
            asked,
            sent,
            send_times: SendTimes::default(),
            headers: None,
            http_status: None,
            parser: SseParser::default(),
            body: Body::Unknown { lead: Vec::new() },
            last_read: None,
            kernel_stamps: true,
            delivered: Delivered { chunks, limit: TextLimit::of(asked), ..Delivered::default() },
        }
    }

    /// The record that the transport fills in.
    pub(super) const fn send_times(&mut self) -> &mut SendTimes {
        &mut self.send_times
    }

    /// The head of the response was read at `t`.
    pub(super) fn headers(&mut self, t: Mono, status: u16) {
        self.headers = Some(t);
        self.http_status = Some(status);
    }

    pub(super) const fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    /// Notes whether the last read had a receive time of the kernel's.
    pub(super) const fn stamped(&mut self, by_kernel: bool) {
        self.kernel_stamps &= by_kernel;
    }

    /// Takes bytes of a 2xx response's body, read at `t`. Every event that they complete has that stamp.
    pub(super) fn read(&mut self, t: Mono, bytes: &[u8]) -> Wanted {
        if self.delivered.wanted() == Wanted::More && !bytes.is_empty() {
            self.last_read = Some(t);
            self.take(t, bytes);
        }
        self.delivered.wanted()
    }

    fn take(&mut self, t: Mono, bytes: &[u8]) {
        if let Body::Unknown { lead } = &mut self.body {
            match bytes.iter().find(|b| !b.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(b)) {
                // A byte order mark stays with what follows it, however it is cut.
                None => {
                    let more = if lead.is_empty() { bytes.trim_ascii_start() } else { bytes };
                    lead.extend(more.iter().take(LEAD_BYTES.saturating_sub(lead.len())));
                }
                Some(b'{' | b'[') => self.body = Body::Document(std::mem::take(lead)),
                Some(_) => self.body = Body::Stream { head: bytes.iter().copied().take(256).collect() },
            }
        }
        if let Body::Document(document) = &mut self.body {
            if document.len() + bytes.len() > LIMIT_BYTES {
                let message = format!("the answer is one document of more than {LIMIT_BYTES} bytes");
                self.delivered.fail(FailureKind::Malformed, message);
            } else {
                document.extend_from_slice(bytes);
            }
            return;
        }
        let delivered = &mut self.delivered;
        if let Err(error) = self.parser.feed(bytes, |event| delivered.event(t, event, false)) {
            delivered.fail(FailureKind::Malformed, error.to_string());
        }
    }

    /// Bytes of its buffers.
    pub(super) fn room(&self) -> u64 {
        let body = match &self.body {
            Body::Unknown { lead } => lead.capacity(),
            Body::Stream { head } => head.capacity(),
            Body::Document(document) => document.capacity(),
        };
        let chunks = self.delivered.chunks.capacity() * size_of::<Chunk>();
        (body + chunks + self.parser.room()) as u64
    }

    /// The reading ended at `t`.
    pub(super) fn finish(mut self, t: Mono, end: End) -> RequestLog {
        if self.delivered.wanted() == Wanted::More {
            match end {
                // A server that drops the connection after the last token has sent everything.
                End::Failed(f) if f.kind == FailureKind::Disconnect && self.delivered.is_finished() => {}
                End::Failed(failure) => self.delivered.failure = Some(failure),
                End::Eof => self.at_end(t),
            }
        }
        let delivered = &mut self.delivered;
        if delivered.failure.is_none() && !delivered.chunks.iter().any(|c| c.kind.has_tokens()) {
            let why = delivered.finish_reason.as_deref().unwrap_or("none");
            let message = format!(
                "the answer held no generated token (finish_reason: {})",
                server_message::one_line(why)
            );
            delivered.fail(FailureKind::Empty, message);
        }
        let done = match delivered.failure {
            None => delivered.done.or(self.last_read).unwrap_or(t),
            Some(_) => t,
        };
        let mut chunks = std::mem::take(&mut delivered.chunks);
        if chunks.capacity() / 2 > chunks.len() {
            chunks.shrink_to_fit();
        }
        // With usage in each chunk and several choices, a count is either that choice's or that of all choices.
        let ambiguous = delivered.choices.count_ones() > 1 && delivered.usage_of == UsageOf::EachChunk;
        let usage = delivered.usage.map(|usage| Usage {
            completion_tokens: usage.completion_tokens.filter(|_| !ambiguous),
            reasoning_tokens: usage.reasoning_tokens.filter(|_| !ambiguous),
            ..usage
        });
        RequestLog {
            id: self.slot.id,
            warmup: self.slot.warmup,
            scheduled: self.slot.scheduled,
            sent: self.sent,
            written: self.send_times.written,
            write_took: self.send_times.write_took,
            connect: self.send_times.connect,
            headers: self.headers,
            http_status: self.http_status,
            chunks,
            done,
            client_stalls: Vec::new(),
            kernel_stamps: self.kernel_stamps,
            asked: self.asked,
            usage,
            stops: self.delivered.stopped.count_ones(),
            finish_reason: self.delivered.finish_reason,
            served_model: self.delivered.served_model,
            failure: self.delivered.failure,
            memory: MemoryHold::default(),
        }
    }

    /// The body ended while more was wanted.
    fn at_end(&mut self, t: Mono) {
        let delivered = &mut self.delivered;
        let t = self.last_read.unwrap_or(t);
        if self.last_read.is_none() {
            return delivered.fail(FailureKind::Empty, "the answer has no body".to_owned());
        }
        if let Body::Document(document) = &self.body {
            return delivered.document(document);
        }
        if let Err(error) = self.parser.finish(|event| delivered.event(t, event, true)) {
            return delivered.fail(FailureKind::Malformed, error.to_string());
        }
        if delivered.wanted() != Wanted::More || delivered.is_finished() {
            return;
        }
        let (kind, message) = if delivered.any_event {
            (FailureKind::Disconnect, "the stream ended without a finish_reason or [DONE]".to_owned())
        } else {
            let head = if let Body::Stream { head } = &self.body {
                server_message::excerpt(head)
            } else {
                "blanks".to_owned()
            };
            (FailureKind::Malformed, format!("the answer is no event stream: {head}"))
        };
        delivered.fail(kind, message);
    }
}

#[cfg(test)]
mod tests;
