//! One request: what is sent, and what its answer comes to.
//!
//! Owns the request's body and the state that turns stamped reads into a [`RequestLog`]. Sans-IO: the
//! time is an argument, the bytes are handed in. Called by `http` and, in tests, by hand.

use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

use super::interpret::{self, Completion, Held, TokenCount};
use super::server_message;
use super::sse::{Event, LIMIT_BYTES, SseParser};
use crate::clock::Mono;
use crate::event::{Asked, Chunk, ChunkKind, Failure, FailureKind, RequestLog, Usage};
use crate::plan::{Api, LoadPlan};
use crate::units::Nanos;

/// Chunks beyond the tokens: a role, a finish reason, usage.
const CHUNKS_BESIDE_TOKENS: usize = 4;
/// Most chunks made room for ahead; a longer answer grows its list.
const PREALLOCATED_CHUNKS: usize = 16_384;
/// A byte order mark is three; what has more before its first brace is no JSON.
const LEAD_BYTES: usize = 64;
/// Most chunks of one answer, whatever is in them.
const MOST_CHUNKS: usize = 1 << 20;
/// Chunks of visible text for each token that was asked for. A gateway may cut a token into its characters.
const MOST_CHUNKS_A_TOKEN: u64 = 8;
/// Bytes of visible text for each token. The longest tokens of any vocabulary have some hundred.
const MOST_BYTES_A_TOKEN: u64 = 1024;
/// Chunks beyond them, so that a limit of one token leaves room for a line.
const CHUNKS_BESIDE_LIMIT: u64 = 64;
const BYTES_BESIDE_LIMIT: u64 = 64 << 10;

/// What one request asks for.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) model: Option<&'a str>,
    /// Messages, or for the completions API a text.
    pub(super) prompt: Value,
    pub(super) max_tokens: u32,
    /// The server takes the wish for usage with each chunk, which tells how many tokens it holds.
    pub(super) usage_with_each_chunk: bool,
}

/// A request's JSON body. `--extra-body` goes over it key by key (an object in it replaces the whole object).
pub(super) fn body(plan: &LoadPlan, ask: Ask<'_>) -> Value {
    let mut body = Map::new();
    if let Some(model) = ask.model {
        body.insert("model".into(), model.into());
    }
    match plan.api {
        Api::Chat => body.insert("messages".into(), ask.prompt),
        Api::Completions => body.insert("prompt".into(), ask.prompt),
    };
    body.insert("max_tokens".into(), ask.max_tokens.into());
    body.insert("temperature".into(), plan.temperature.into());
    if let Some(seed) = plan.seed {
        body.insert("seed".into(), seed.into());
    }
    if plan.ignore_eos {
        body.insert("ignore_eos".into(), true.into());
    }
    body.insert("stream".into(), true.into());
    let mut options = json!({"include_usage": true});
    if ask.usage_with_each_chunk {
        options["continuous_usage_stats"] = true.into();
    }
    body.insert("stream_options".into(), options);
    for (key, value) in &plan.extra_body {
        body.insert(key.clone(), value.clone());
    }
    Value::Object(body)
}

/// What `body` asks for, whoever wrote it into it.
pub(super) fn asked(body: &Value, body_bytes: usize) -> Asked {
    let count = |name: &str| body.get(name).and_then(Value::as_u64);
    // Some servers count all of those that they choose the best of.
    let each = count("n").max(count("best_of")).unwrap_or(1).max(1);
    let prompts = body.get("prompt").and_then(Value::as_array);
    // A list of numbers is one prompt's tokens.
    let prompts = prompts.map_or(1, |list| list.iter().filter(|p| !p.is_number()).count().max(1) as u64);
    let messages = body.get("messages").and_then(Value::as_array).into_iter().flatten();
    let parts = messages.filter_map(|message| message.get("content")?.as_array()).flatten();
    let attached = parts.filter(|part| part.get("type").and_then(Value::as_str) != Some("text")).count();
    Asked {
        max_tokens: count("max_tokens").max(count("max_completion_tokens")),
        choices: u32::try_from(each.saturating_mul(prompts)).unwrap_or(u32::MAX),
        body_bytes: body_bytes as u64,
        attachments: u32::try_from(attached).unwrap_or(u32::MAX),
    }
}

/// Which request a log is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) warmup: bool,
    /// When the schedule wants it sent; `None` in a closed loop.
    pub(super) scheduled: Option<Mono>,
}

/// Whether more of the answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    More,
    /// The answer is complete; what follows on the connection is of no account.
    NoMore,
    /// The answer failed; the connection is of no further use.
    Failed,
}

/// How the reading ended.
#[derive(Debug)]
pub(super) enum End {
    /// The body was read to its end, or until nothing more was wanted.
    Eof,
    /// Something came in between.
    Failed(Failure),
}

/// How a request got on its way, told by the transport.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Trail {
    /// When the first byte went to the kernel, of the first sending.
    pub(super) written: Option<Mono>,
    /// By that write; unknown where reqwest made it.
    pub(super) write_took: Option<Nanos>,
    /// What it took to open the connection, where one was opened.
    pub(super) connect: Option<Nanos>,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct RequestState {
    slot: Slot,
    asked: Asked,
    sent: Mono,
    trail: Trail,
    headers: Option<Mono>,
    http_status: Option<u16>,
    parser: SseParser,
    body: Body,
    last_read: Option<Mono>,
    kernel_stamps: bool,
    delivered: Delivered,
}

/// What the body turned out to be, by its first byte that is not blank.
#[derive(Debug, PartialEq)]
enum Body {
    /// Blanks and parts of a byte order mark, from the first that is none of the former.
    Unknown { lead: Vec<u8> },
    /// An event stream, or whatever else is not JSON; its first bytes, for a message.
    Stream { head: Vec<u8> },
    /// JSON without framing.
    Document(Vec<u8>),
}

#[derive(Debug, Default)]
struct Delivered {
    chunks: Vec<Chunk>,
    usage: Option<Usage>,
    usage_of: UsageOf,
    finish_reason: Option<String>,
    served_model: Option<String>,
    tokens: TokenCount,
    choices: u64,
    finished: u64,
    stopped: u64,
    any_event: bool,
    limit: Limit,
    /// When `[DONE]` was read.
    done: Option<Mono>,
    failure: Option<Failure>,
}

/// How much visible text an answer may hold. Reasoning is outside of `max_tokens` for some servers.
#[derive(Debug, Default, Clone, Copy)]
struct Limit {
    /// Of all choices; `None` where none was asked for.
    tokens: Option<u64>,
    chunks: u64,
    bytes: u64,
}

impl Limit {
    fn of(asked: Asked) -> Self {
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
enum UsageOf {
    #[default]
    Nothing,
    /// No choice: it is the whole answer's.
    Whole,
    /// A choice, and no usage before it.
    FirstChunk,
    /// A choice, as others before it.
    EachChunk,
}

/// How many chunks room is made for before the first comes.
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
            trail: Trail::default(),
            headers: None,
            http_status: None,
            parser: SseParser::default(),
            body: Body::Unknown { lead: Vec::new() },
            last_read: None,
            kernel_stamps: true,
            delivered: Delivered { chunks, limit: Limit::of(asked), ..Delivered::default() },
        }
    }

    /// For the transport to fill in.
    pub(super) const fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }

    /// The response's head was read at `t`.
    pub(super) fn headers(&mut self, t: Mono, status: u16) {
        self.headers = Some(t);
        self.http_status = Some(status);
    }

    pub(super) const fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    /// Whether the kernel told when it received what was read.
    pub(super) const fn stamped(&mut self, by_kernel: bool) {
        self.kernel_stamps &= by_kernel;
    }

    /// Bytes of a 2xx response's body, read at `t`. Every event that they complete has that stamp.
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
                // However a byte order mark is cut, it stays with what follows it.
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

    /// Bytes that its buffers take.
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
                // A server that lets the connection drop after the last token has said everything.
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
        // Where each chunk tells a count, of several choices it is either that choice's or all of them's.
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
            written: self.trail.written,
            write_took: self.trail.write_took,
            connect: self.trail.connect,
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
        }
    }

    /// The body ended where more was wanted.
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

impl Delivered {
    fn wanted(&self) -> Wanted {
        match (&self.failure, self.done) {
            (Some(_), _) => Wanted::Failed,
            (None, Some(_)) => Wanted::NoMore,
            (None, None) => Wanted::More,
        }
    }

    /// Every choice that was begun has its finish reason.
    const fn is_finished(&self) -> bool {
        self.finished != 0 && self.finished == self.choices
    }

    /// The first failure is the one that is told.
    fn fail(&mut self, kind: FailureKind, message: String) {
        self.failure.get_or_insert(Failure { kind, message });
    }

    /// `last`: the body ended with this event, perhaps in its middle.
    fn event(&mut self, t: Mono, event: Event<'_>, last: bool) -> ControlFlow<()> {
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
    fn document(&mut self, document: &[u8]) {
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

#[cfg(test)]
mod tests;
