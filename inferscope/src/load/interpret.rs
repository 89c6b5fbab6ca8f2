//! The meaning of one event of a completion stream.
//!
//! Owns the reading of an event's JSON as OpenAI-compatible servers write it. It tolerates values that are null,
//! missing or of another type. Pure and stateless, except for [`TokenCount`]. Called by `request`.
//!
//! Rules where servers differ:
//! - An event may hold parts of several choices. Each part is a chunk of its own.
//! - A chunk has one kind. If it holds several, Content wins over Tool, and Tool over Reasoning, so that the first
//!   chunk that is not reasoning is found where the answer begins. Its bytes are those of all kinds.
//! - An empty text is no text: a role, `content: ""` or an empty tool call is Other.
//! - `reasoning` and `reasoning_content` in one delta are one text under two names; the longer counts. A choice's
//!   `delta`, `message` and `text` are one text, too; the delta counts.
//! - Text in the form of a list of parts counts the parts' `text` and `content`; `thinking` is reasoning.
//! - A finish reason of `""` or `"null"` is none. A count of zero generated tokens is unknown: servers that don't count
//!   send 0 with every chunk, and an answer without a token is a failure in any case.

use std::borrow::Cow;

use serde_json::Value;

use super::server_message;
use super::sse::SseEvent;
use crate::event::{Choice, ChunkKind, Usage};

mod json;

/// One interpreted event.
#[derive(Debug, PartialEq)]
pub(super) enum EventContent<'a> {
    Chunk(Completion<'a>),
    /// `[DONE]`.
    Done,
    /// An `error` in mid-stream, in the server's words.
    Error(String),
    /// No part of a completion: an empty event, a ping.
    Nothing,
}

/// A completion object.
#[derive(Debug, PartialEq)]
pub(super) struct Completion<'a> {
    pub(super) first: Part,
    /// The parts of further choices.
    pub(super) more: Vec<Part>,
    pub(super) usage: Option<Usage>,
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) finish_reason: Option<Cow<'a, str>>,
    /// Bit sets of choices (bit 63 stands for all above 62): those in this object, and those with a finish reason.
    pub(super) choices: u64,
    pub(super) finished: u64,
    /// The choices with the finish reason `stop`.
    pub(super) stopped: u64,
}

impl Completion<'_> {
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

/// One choice's part of a completion object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// `None`: the object has no choices.
    pub(super) choice: Option<Choice>,
    pub(super) kind: ChunkKind,
    /// Bytes of generated text in UTF-8.
    pub(super) bytes: u32,
}

/// An event that is no completion object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidEvent {
    pub(super) why: String,
    /// The JSON is valid as far as it goes.
    pub(super) truncated: bool,
}

pub(super) fn event<'a>(event: SseEvent<'a>) -> Result<EventContent<'a>, InvalidEvent> {
    let data = event.data.trim_ascii();
    match (event.name, data) {
        (_, b"") => Ok(EventContent::Nothing),
        (_, b"[DONE]") => Ok(EventContent::Done),
        (b"error", data) => Ok(EventContent::Error(
            server_message::in_body(data).unwrap_or_else(|| server_message::excerpt(data)),
        )),
        (name, data) => match completion(data) {
            Ok(held) => Ok(held),
            // Only unnamed events belong to the completion. The data of a `ping` does not matter.
            Err(_) if !matches!(name, b"" | b"message") => Ok(EventContent::Nothing),
            Err(e) => Err(e),
        },
    }
}

/// Reads `data` as a completion object, that of a chunk or of a whole answer.
pub(super) fn completion(data: &[u8]) -> Result<EventContent<'_>, InvalidEvent> {
    if data.starts_with(b"[") {
        return list(data);
    }
    match serde_json::from_slice::<json::Object<'_>>(data) {
        Ok(object) => Ok(content_of(object)),
        Err(error) => retry_lossy(data).ok_or_else(|| InvalidEvent {
            why: format!("an event is no completion object ({error}): {}", server_message::excerpt(data)),
            truncated: error.is_eof(),
        }),
    }
}

/// `data` is no completion object. Gemini's errors come in a list.
#[cold]
fn list(data: &[u8]) -> Result<EventContent<'_>, InvalidEvent> {
    let items = serde_json::from_slice::<Vec<Value>>(data);
    let errors = items.iter().flatten().filter(|item| item.get("error").is_some());
    match errors.filter_map(server_message::in_value).next() {
        Some(message) => Ok(EventContent::Error(message)),
        None => Err(InvalidEvent {
            why: format!(
                "an event is no completion object (it is a list): {}",
                server_message::excerpt(data)
            ),
            truncated: items.is_err_and(|error| error.is_eof()),
        }),
    }
}

/// Repairs text. A server that cuts a character in two between events writes invalid UTF-8. A server that counts in
/// UTF-16 writes half of a pair of escapes. The standard puts a replacement character in their place.
#[cold]
fn retry_lossy(data: &[u8]) -> Option<EventContent<'static>> {
    let text = whole_pairs(String::from_utf8_lossy(data));
    let Cow::Owned(text) = text else { return None };
    match content_of(serde_json::from_str(&text).ok()?) {
        EventContent::Chunk(c) => Some(EventContent::Chunk(Completion {
            model: c.model.map(|m| Cow::Owned(m.into_owned())),
            finish_reason: c.finish_reason.map(|r| Cow::Owned(r.into_owned())),
            first: c.first,
            more: c.more,
            usage: c.usage,
            choices: c.choices,
            finished: c.finished,
            stopped: c.stopped,
        })),
        EventContent::Error(message) => Some(EventContent::Error(message)),
        EventContent::Done => Some(EventContent::Done),
        EventContent::Nothing => Some(EventContent::Nothing),
    }
}

/// JSON whose `\ud800` to `\udfff` come in pairs: `\ufffd` takes the place of each single one.
fn whole_pairs(json: Cow<'_, str>) -> Cow<'_, str> {
    let half = |at: usize| {
        let escape = json.as_bytes().get(at..at + 6).filter(|e| e.starts_with(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
    };
    let mut alone = Vec::new();
    let mut at = 0;
    while let Some(next) = json.get(at..).and_then(|rest| rest.find('\\')) {
        at += next;
        at += match (half(at), half(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                alone.push(at);
                6
            }
            // Skip what a backslash escapes: it may be a backslash.
            _ => 2,
        };
    }
    if alone.is_empty() {
        return json;
    }
    let mut whole = json.into_owned();
    for at in alone {
        whole.replace_range(at..at + 6, "\\ufffd");
    }
    Cow::Owned(whole)
}

fn content_of(mut object: json::Object<'_>) -> EventContent<'_> {
    let of_choice = object.choices.as_mut().and_then(|choices| choices.error.take());
    let is_error = |e: &Value| !matches!(e, Value::Null | Value::Bool(false)) && e.as_str() != Some("");
    if let Some(error) = [object.error, of_choice].into_iter().flatten().find(is_error) {
        return EventContent::Error(
            server_message::in_value(&error).unwrap_or_else(|| server_message::one_line(&error.to_string())),
        );
    }
    let usage = object.usage.map(|u| Usage {
        prompt_tokens: u.prompt.0.filter(|n| *n > 0),
        completion_tokens: u.completion.0.filter(|n| *n > 0),
        reasoning_tokens: u.details.reasoning.0.filter(|n| *n > 0),
    });
    let usage = usage.filter(|u| u.prompt_tokens.or(u.completion_tokens).is_some());
    let Some(choices) = object.choices else {
        if object.object.0.as_deref() == Some("error") || object.detail.is_some() {
            let message = object.message.or(object.detail).as_ref().and_then(server_message::in_value);
            return EventContent::Error(message.unwrap_or_else(|| "the server gave no message".to_owned()));
        }
        return match usage {
            Some(_) => EventContent::Chunk(chunk(json::Choices::default(), usage, object.model.0)),
            None => EventContent::Nothing,
        };
    };
    EventContent::Chunk(chunk(choices, usage, object.model.0))
}

fn chunk<'a>(
    choices: json::Choices<'a>,
    usage: Option<Usage>,
    model: Option<Cow<'a, str>>,
) -> Completion<'a> {
    let part = |(choice, text): (Choice, json::TextBytes)| part(Some(choice), text);
    Completion {
        first: choices.first.map_or(Part { choice: None, kind: ChunkKind::Other, bytes: 0 }, part),
        more: choices.more.into_iter().map(part).collect(),
        usage,
        model,
        finish_reason: choices.finish_reason,
        choices: choices.present,
        finished: choices.finished,
        stopped: choices.stopped,
    }
}

fn part(choice: Option<Choice>, text: json::TextBytes) -> Part {
    let kind = if text.content > 0 {
        ChunkKind::Content
    } else if text.tool > 0 {
        ChunkKind::Tool
    } else if text.reasoning > 0 {
        ChunkKind::Reasoning
    } else {
        ChunkKind::Other
    };
    let bytes = text.content.saturating_add(text.tool).saturating_add(text.reasoning);
    Part { choice, kind, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
}

/// Tokens of a chunk, from usage that comes with every chunk: the increase of the count since the choice's last chunk
/// with text. A server that counts so counts each choice by itself; the total at the end shows whether one does.
///
/// A token without text of its own (half a character, held back by the server) counts in the chunk that shows it. Usage
/// without a choice is the total of the answer and no chunk's. So is usage that comes late, after chunks with text had
/// none.
#[derive(Debug, Default)]
pub(super) struct TokenCount {
    /// The server's count of a choice up to its last chunk with text; `None`: the server sent no count.
    before: Vec<(Option<Choice>, Option<u64>)>,
}

impl TokenCount {
    /// Generated tokens in the one part of `event` that has text. `None`: the server sent no count, its count fell, or
    /// one count covers text of several choices.
    pub(super) fn of(&mut self, event: &Completion<'_>) -> Option<u32> {
        let now = event.usage.and_then(|u| u.completion_tokens);
        let mut text = event.parts().filter(|part| part.kind.has_tokens());
        let (part, further) = (text.next()?, text.next());
        let now = now.filter(|_| further.is_none());
        let grown = self.grown(part.choice, now);
        for part in further.into_iter().chain(text) {
            self.grown(part.choice, None);
        }
        grown
    }

    fn grown(&mut self, choice: Option<Choice>, now: Option<u64>) -> Option<u32> {
        let known = self.before.iter_mut().find(|(known, _)| *known == choice);
        let before = match known {
            Some((_, before)) => std::mem::replace(before, now),
            None => {
                self.before.push((choice, now));
                Some(0)
            }
        };
        u32::try_from(now?.checked_sub(before?)?).ok()
    }
}

#[cfg(test)]
mod tests;
