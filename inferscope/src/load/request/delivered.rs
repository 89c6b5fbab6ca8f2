//! What has arrived of one answer.
//!
//! Owns the chunks, the usage and the reasons for stopping that the events of an answer add up to, and the limits on them.
//! Never reads bytes and never frames events (`request` does). Pure. A part of `request`.

use std::ops::ControlFlow;

use super::Wanted;
use crate::clock::Mono;
use crate::event::{Asked, Chunk, ChunkKind, Failure, FailureKind, Usage};
use crate::load::interpret::{self, Completion, Held, TokenCount};
use crate::load::server_message;
use crate::load::sse::Event;

/// Most chunks of one answer, whatever is in them.
const MOST_CHUNKS: usize = 1 << 20;
/// Chunks of visible text for each token that was asked for. A gateway may cut a token into its characters.
pub(super) const MOST_CHUNKS_A_TOKEN: u64 = 8;
/// Bytes of visible text for each token. The longest tokens of any vocabulary have some hundred.
const MOST_BYTES_A_TOKEN: u64 = 1024;
/// Chunks beyond them, so that a limit of one token leaves room for a line.
pub(super) const CHUNKS_BESIDE_LIMIT: u64 = 64;
const BYTES_BESIDE_LIMIT: u64 = 64 << 10;

/// The parts of an answer that have arrived.
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
    pub(super) limit: Limit,
    /// When `[DONE]` was read.
    pub(super) done: Option<Mono>,
    pub(super) failure: Option<Failure>,
}

/// How much visible text an answer may hold. Reasoning is outside of `max_tokens` for some servers.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Limit {
    /// Of all choices; `None` where none was asked for.
    tokens: Option<u64>,
    chunks: u64,
    bytes: u64,
}

impl Limit {
    pub(super) fn of(asked: Asked) -> Self {
        let tokens = asked.max_tokens.map(|most| most.saturating_mul(asked.choices.max(1).into()));
        Self { tokens, ..Self::default() }
    }

    /// Counts a chunk; whether the answer is far beyond what was asked for with it.
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

/// What the last usage was told beside.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsageOf {
    #[default]
    Nothing,
    /// No choice: it is the whole answer's.
    Whole,
    /// A choice, and no usage before it.
    FirstChunk,
    /// A choice, as others before it.
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

    /// The first failure is the one that is told.
    pub(super) fn fail(&mut self, kind: FailureKind, message: String) {
        self.failure.get_or_insert(Failure { kind, message });
    }

    /// `last`: the body ended with this event, perhaps in its middle.
    pub(super) fn event(&mut self, t: Mono, event: Event<'_>, last: bool) -> ControlFlow<()> {
        self.any_event = true;
        match interpret::event(event) {
            Ok(Held::Chunk(_)) if self.chunks.len() >= MOST_CHUNKS => {
                self.fail(FailureKind::Malformed, format!("the answer has more than {MOST_CHUNKS} chunks"));
            }
            Ok(Held::Chunk(chunk)) => {
                let tokens = self.tokens.of(&chunk);
                for part in chunk.parts() {
                    // The count is of the only part with text.
                    let tokens = tokens.filter(|_| part.kind.has_tokens());
                    let (bytes, kind, choice) = (part.bytes, part.kind, part.choice);
                    self.chunks.push(Chunk { t, bytes, tokens, kind, choice });
                    if self.limit.is_passed_by(kind, bytes) {
                        self.fail(FailureKind::Overrun, self.limit.message());
                    }
                }
                self.note(chunk);
            }
            Ok(Held::Done) => self.done = Some(t),
            Ok(Held::Error(message)) => self.fail(FailureKind::ServerError, message),
            Ok(Held::Nothing) => {}
            // Cut in its middle: that the stream ended is what there is to tell.
            Err(e) if last && e.truncated => {}
            Err(e) => self.fail(FailureKind::Malformed, e.why),
        }
        if self.wanted() == Wanted::More { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// What an answer tells of itself beside its text.
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

    /// A JSON document came where a stream was asked for: a failure whatever it says, for it has no
    /// token times; what it says of itself is kept.
    pub(super) fn document(&mut self, document: &[u8]) {
        let document = document.trim_ascii();
        let message = match interpret::completion(document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document))
        {
            Ok(Held::Error(message)) => return self.fail(FailureKind::ServerError, message),
            Ok(Held::Chunk(chunk)) => {
                self.note(chunk);
                "the server answered with one JSON document instead of a stream".to_owned()
            }
            Ok(Held::Done | Held::Nothing) => match server_message::in_body(document) {
                // `{"detail": …}` and the like with a 200.
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
