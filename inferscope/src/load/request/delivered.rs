//! The parts of an answer that have arrived.
//!
//! Owns the chunks, the usage and the finish reasons that the events of an answer add up to, and the limits on them.
//! Never reads bytes and never frames events (`request` does). Pure. A part of `request`.

use std::ops::ControlFlow;

use super::Wanted;
use crate::clock::Mono;
use crate::event::{Asked, Chunk, ChunkKind, Failure, FailureKind, Usage};
use crate::load::interpret::{self, Completion, EventContent, TokenCount};
use crate::load::server_message;
use crate::load::sse::SseEvent;

/// Most chunks of one answer, whatever they hold.
const MOST_CHUNKS: usize = 1 << 20;
/// Chunks of visible text for each requested token. A gateway may cut a token into its characters.
pub(super) const MOST_CHUNKS_A_TOKEN: u64 = 8;
/// Bytes of visible text for each requested token. The longest tokens of any vocabulary have some hundred.
const MOST_BYTES_A_TOKEN: u64 = 1024;
/// Chunks on top, so that a limit of one token leaves room for a line.
pub(super) const CHUNKS_BESIDE_LIMIT: u64 = 64;
const BYTES_BESIDE_LIMIT: u64 = 64 << 10;

/// The sum of the events so far.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) chunks: Vec<Chunk>,
    pub(super) usage: Option<Usage>,
    pub(super) usage_of: UsageOf,
    pub(super) finish_reason: Option<String>,
    pub(super) served_model: Option<String>,
    pub(super) tokens: TokenCount,
    pub(super) choices: u64,
    pub(super) finished: u64,
    pub(super) stopped: u64,
    pub(super) any_event: bool,
    pub(super) limit: TextLimit,
    /// When `[DONE]` was read.
    pub(super) done: Option<Mono>,
    pub(super) failure: Option<Failure>,
}

/// The limit on visible text. For some servers reasoning is outside of `max_tokens`.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct TextLimit {
    /// The requested tokens of all choices; `None`: no limit was requested.
    tokens: Option<u64>,
    chunks: u64,
    bytes: u64,
}

impl TextLimit {
    pub(super) fn of(asked: Asked) -> Self {
        let tokens = asked.max_tokens.map(|most| most.saturating_mul(asked.choices.max(1).into()));
        Self { tokens, ..Self::default() }
    }

    /// Counts a chunk. Returns whether the answer is now far beyond what was requested.
    fn is_passed_by(&mut self, kind: ChunkKind, bytes: u32) -> bool {
        if matches!(kind, ChunkKind::Other | ChunkKind::Reasoning) {
            return false;
        }
        self.chunks += 1;
        self.bytes += u64::from(bytes);
        self.tokens.is_some_and(|tokens| {
            self.chunks > tokens.saturating_mul(MOST_CHUNKS_A_TOKEN).saturating_add(CHUNKS_BESIDE_LIMIT)
                || self.bytes > tokens.saturating_mul(MOST_BYTES_A_TOKEN).saturating_add(BYTES_BESIDE_LIMIT)
        })
    }

    fn message(&self) -> String {
        format!(
            "cut off: the server sent {} chunks and {} bytes of text where {} tokens were asked for (max_tokens)",
            self.chunks,
            self.bytes,
            self.tokens.unwrap_or(0)
        )
    }
}

/// What came in the event of the last usage.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsageOf {
    #[default]
    Nothing,
    /// No choice: the usage is that of the whole answer.
    Whole,
    /// A choice, for the first time.
    FirstChunk,
    /// A choice, and an earlier usage also came with one.
    EachChunk,
}

impl Delivered {
    pub(super) fn wanted(&self) -> Wanted {
        match (&self.failure, self.done) {
            (Some(_), _) => Wanted::Failed,
            (None, Some(_)) => Wanted::NoMore,
            (None, None) => Wanted::More,
        }
    }

    /// Every choice that was begun has its finish reason.
    pub(super) const fn is_finished(&self) -> bool {
        self.finished != 0 && self.finished == self.choices
    }

    /// Keeps the first failure.
    pub(super) fn fail(&mut self, kind: FailureKind, message: String) {
        self.failure.get_or_insert(Failure { kind, message });
    }

    /// `last`: the body ended with this event, perhaps in the middle of it.
    pub(super) fn event(&mut self, t: Mono, event: SseEvent<'_>, last: bool) -> ControlFlow<()> {
        self.any_event = true;
        match interpret::event(event) {
            Ok(EventContent::Chunk(_)) if self.chunks.len() >= MOST_CHUNKS => {
                self.fail(FailureKind::Malformed, format!("the answer has more than {MOST_CHUNKS} chunks"));
            }
            Ok(EventContent::Chunk(chunk)) => {
                let tokens = self.tokens.of(&chunk);
                for part in chunk.parts() {
                    // The count belongs to the only part with text.
                    let tokens = tokens.filter(|_| part.kind.has_tokens());
                    let (bytes, kind, choice) = (part.bytes, part.kind, part.choice);
                    self.chunks.push(Chunk { t, bytes, tokens, kind, choice });
                    if self.limit.is_passed_by(kind, bytes) {
                        self.fail(FailureKind::Overrun, self.limit.message());
                    }
                }
                self.note(chunk);
            }
            Ok(EventContent::Done) => self.done = Some(t),
            Ok(EventContent::Error(message)) => self.fail(FailureKind::ServerError, message),
            Ok(EventContent::Nothing) => {}
            // The event was cut in its middle. The end of the stream is the failure to report.
            Err(e) if last && e.truncated => {}
            Err(e) => self.fail(FailureKind::Malformed, e.why),
        }
        if self.wanted() == Wanted::More { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Takes the metadata of a chunk.
    fn note(&mut self, chunk: Completion<'_>) {
        self.choices |= chunk.choices;
        self.finished |= chunk.finished;
        self.stopped |= chunk.stopped;
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
            self.usage_of = match (chunk.choices, self.usage_of) {
                (0, _) => UsageOf::Whole,
                (_, UsageOf::Nothing) => UsageOf::FirstChunk,
                _ => UsageOf::EachChunk,
            };
        }
        if self.served_model.is_none() {
            self.served_model = chunk.model.map(|m| server_message::one_line(&m)).filter(|m| !m.is_empty());
        }
        if self.finish_reason.is_none() {
            self.finish_reason = chunk.finish_reason.map(|r| server_message::one_line(&r));
        }
    }

    /// A JSON document arrived instead of a stream. It has no token times, so it is a failure whatever it holds. Its
    /// metadata is kept.
    pub(super) fn document(&mut self, document: &[u8]) {
        let document = document.trim_ascii();
        let message = match interpret::completion(document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document))
        {
            Ok(EventContent::Error(message)) => return self.fail(FailureKind::ServerError, message),
            Ok(EventContent::Chunk(chunk)) => {
                self.note(chunk);
                "the server answered with one JSON document instead of a stream".to_owned()
            }
            Ok(EventContent::Done | EventContent::Nothing) => match server_message::in_body(document) {
                // This is `{"detail": …}` and the like with status 200.
                Some(message) => return self.fail(FailureKind::ServerError, message),
                None => format!("the answer is no completion: {}", server_message::excerpt(document)),
            },
            Err(e) if e.truncated => {
                return self
                    .fail(FailureKind::Disconnect, "the answer, a JSON document, was cut off".to_owned());
            }
            Err(_) => format!("the answer is no event stream: {}", server_message::excerpt(document)),
        };
        self.fail(FailureKind::Malformed, message);
    }
}
