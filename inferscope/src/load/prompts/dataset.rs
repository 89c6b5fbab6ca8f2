//! Data sets: JSON lines, or one JSON array of the same entries.
//!
//! Owns the forms of an entry. Never keeps what no request needs. Called by `prompts`.
//!
//! An entry asks with the first of these that it has:
//! - `messages`, sent as they are;
//! - `conversations` or `conversation` (ShareGPT, LMSYS): turns with `from` and `value`, or `role` and `content`,
//!   beginning with the first turn that is not the model's;
//! - `prompt` or `text`;
//! - `input_length` (Mooncake): a synthetic text of that many tokens, the same ones for the same `hash_ids`.
//!
//! The model's answer at the end of messages or turns is not sent, because the server is to give it. If no question is
//! left (public sets hold such entries), the entry is skipped and counted.
//!
//! `max_tokens`, `max_completion_tokens` or `output_length` limits the answer. A `timestamp` that is a number is the
//! time of the request, in milliseconds.

use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Value, json};

use super::error::{Fault, Location, PromptError};
use super::{BLOCK_TOKENS, Entry, Kept, LONGEST_BYTES, MOST_PROMPTS, MOST_TOKENS, lines, text, without_bom};
use crate::units::Nanos;

const MESSAGES: &str = "a list of objects with a role";
const TURNS: &str = "a list of objects with from and value, or role and content";
const TEXT: &str = "a text";
const COUNT: &str = "a whole number above 0";

/// A file's entries, in the order of their requests.
#[derive(Debug, Default)]
pub(super) struct Dataset {
    pub(super) entries: Vec<Entry>,
    /// The number of entries without a question.
    pub(super) passed_over: u64,
}

pub(super) fn parse(file: &[u8]) -> Result<Dataset, PromptError> {
    let mut all = Reading::default();
    let file = without_bom(file);
    if file.trim_ascii_start().starts_with(b"[") {
        array(file, &mut all)?;
    } else {
        for (location, line) in lines(file) {
            let fields = text(line).and_then(|line| serde_json::from_str(line).map_err(|e| no_object(&e)));
            all.add(location, &fields.map_err(|fault| PromptError::At { location, fault })?)?;
        }
    }
    all.in_order()
}

/// Reads the entries one by one, so that only what is kept of them takes memory.
fn array(file: &[u8], all: &mut Reading) -> Result<(), PromptError> {
    let mut reader = serde_json::Deserializer::from_slice(file);
    let mut failed = None;
    let read = Array { all, failed: &mut failed }.deserialize(&mut reader).and_then(|()| reader.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(e)) => Err(PromptError::At { location: Location::Line(e.line()), fault: no_object(&e) }),
        (None, Ok(())) => Ok(()),
    }
}

fn no_object(error: &serde_json::Error) -> Fault {
    Fault::NoObject { why: error.to_string() }
}

#[derive(Debug, Default)]
struct Reading {
    /// The entries with their timestamps.
    entries: Vec<(Entry, Option<f64>)>,
    passed_over: u64,
}

impl Reading {
    fn add(&mut self, location: Location, fields: &Fields) -> Result<(), PromptError> {
        let at = |fault| PromptError::At { location, fault };
        let Some((entry, timestamp)) = fields.entry().map_err(at)? else {
            self.passed_over += 1;
            return Ok(());
        };
        let has = timestamp.is_some();
        if self.entries.first().is_some_and(|(_, first)| first.is_some() != has) {
            return Err(at(Fault::Timestamp { has }));
        }
        if self.entries.len() >= MOST_PROMPTS {
            return Err(PromptError::TooMany);
        }
        self.entries.push((entry, timestamp));
        Ok(())
    }

    fn in_order(mut self) -> Result<Dataset, PromptError> {
        self.entries.sort_by(|(_, a), (_, b)| a.partial_cmp(b).expect("JSON has no NaN"));
        let first = self.entries.first().ok_or(PromptError::Empty)?.1.unwrap_or(0.0);
        // Saturates, after 584 years.
        let since_first = |ms: f64| Nanos(((ms - first) * 1e6).round() as u64);
        let placed =
            |(entry, timestamp): (Entry, Option<f64>)| Entry { at: timestamp.map(since_first), ..entry };
        Ok(Dataset { entries: self.entries.into_iter().map(placed).collect(), passed_over: self.passed_over })
    }
}

/// The fields of an entry that are used.
#[derive(Debug, Default)]
struct Fields {
    messages: Option<Value>,
    turns: Option<Value>,
    prompt: Option<Value>,
    text: Option<Value>,
    input_length: Option<Value>,
    hash_ids: Option<Value>,
    timestamp: Option<Value>,
    max_tokens: Option<Value>,
    max_completion_tokens: Option<Value>,
    output_length: Option<Value>,
}

impl Fields {
    /// What is kept of the entry, with its timestamp. `None`: it has no question.
    fn entry(&self) -> Result<Option<(Entry, Option<f64>)>, Fault> {
        let Some(kept) = self.kept()? else { return Ok(None) };
        if matches!(&kept, Kept::Text(t) | Kept::Messages(t) if t.len() > LONGEST_BYTES) {
            return Err(Fault::TooLong);
        }
        let mut max_tokens = None;
        for (field, value) in [
            ("max_tokens", &self.max_tokens),
            ("max_completion_tokens", &self.max_completion_tokens),
            ("output_length", &self.output_length),
        ] {
            if let (None, Some(value)) = (max_tokens, value) {
                max_tokens = Some(u32::try_from(count(field, value)?).map_err(|_| wanted(field, COUNT))?);
            }
        }
        let timestamp = self.timestamp.as_ref().and_then(Value::as_f64);
        Ok(Some((Entry { kept, max_tokens, at: None }, timestamp)))
    }

    fn kept(&self) -> Result<Option<Kept>, Fault> {
        if let Some(messages) = &self.messages {
            let messages: &Vec<Value> = messages.as_array().ok_or(wanted("messages", MESSAGES))?;
            if messages.iter().any(|message| role(message).is_none()) {
                return Err(wanted("messages", MESSAGES));
            }
            return Ok(asked(messages));
        }
        if let Some(turns) = &self.turns {
            let turns = turns.as_array().ok_or(wanted("conversations", TURNS))?;
            let messages: Vec<Value> = turns.iter().map(message).collect::<Result<_, _>>()?;
            let first = messages.iter().position(|message| role(message) != Some("assistant"));
            return Ok(first.and_then(|first| asked(&messages[first..])));
        }
        for (field, value) in [("prompt", &self.prompt), ("text", &self.text)] {
            if let Some(value) = value {
                let text = value.as_str().ok_or(wanted(field, TEXT))?;
                return Ok((!text.trim().is_empty()).then(|| Kept::Text(text.into())));
            }
        }
        let tokens = count("input_length", self.input_length.as_ref().ok_or(Fault::NoPrompt)?)?;
        if tokens > MOST_TOKENS {
            return Err(Fault::TooManyTokens { tokens });
        }
        let blocks = self.blocks()?;
        if blocks.len() as u64 > tokens.div_ceil(BLOCK_TOKENS) {
            return Err(Fault::Blocks { blocks: blocks.len(), tokens });
        }
        Ok(Some(Kept::Traced { tokens, blocks }))
    }

    fn blocks(&self) -> Result<Box<[u64]>, Fault> {
        let Some(ids) = &self.hash_ids else { return Ok(Box::default()) };
        let ids = ids.as_array().map(|ids| ids.iter().map(Value::as_u64).collect());
        ids.flatten().ok_or(wanted("hash_ids", "a list of whole numbers"))
    }
}

fn wanted(field: &'static str, wanted: &'static str) -> Fault {
    Fault::Field { field, wanted }
}

fn count(field: &'static str, value: &Value) -> Result<u64, Fault> {
    value.as_u64().filter(|n| *n > 0).ok_or(wanted(field, COUNT))
}

fn role(message: &Value) -> Option<&str> {
    message.get("role")?.as_str()
}

/// The messages without the answer at their end, if a question is among them.
fn asked(messages: &[Value]) -> Option<Kept> {
    let last = messages.iter().rposition(|message| role(message) != Some("assistant"))?;
    let messages = &messages[..=last];
    let is_question = |message| !matches!(role(message), Some("system" | "developer" | "assistant"));
    messages.iter().any(is_question).then(|| Kept::Messages(json!(messages).to_string().into()))
}

/// A turn as a message.
fn message(turn: &Value) -> Result<Value, Fault> {
    let fault = || wanted("conversations", TURNS);
    let text = |key| turn.get(key).and_then(Value::as_str);
    let (who, content) = match (text("from"), text("role")) {
        (Some(who), _) => (who, text("value")),
        (None, Some(who)) => (who, text("content")),
        (None, None) => return Err(fault()),
    };
    let role = match who {
        "human" | "user" => "user",
        "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" => "assistant",
        "system" => "system",
        _ => return Err(Fault::Turn { who: crate::load::server_message::excerpt(who.as_bytes()) }),
    };
    Ok(json!({"role": role, "content": content.ok_or_else(fault)?}))
}

/// The texts of messages; a list's parts are texts of their own.
pub(super) fn texts(messages: &Value) -> Vec<&str> {
    let contents = messages.as_array().into_iter().flatten().filter_map(|message| message.get("content"));
    contents
        .flat_map(|content| match content {
            Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
            content => Vec::from_iter(content.as_str()),
        })
        .collect()
}

/// Implemented by hand because a derived struct would also accept a list of values.
impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    let field = match &*key {
                        "messages" => &mut fields.messages,
                        "conversations" | "conversation" => &mut fields.turns,
                        "prompt" => &mut fields.prompt,
                        "text" => &mut fields.text,
                        "input_length" => &mut fields.input_length,
                        "hash_ids" => &mut fields.hash_ids,
                        "timestamp" => &mut fields.timestamp,
                        "max_tokens" => &mut fields.max_tokens,
                        "max_completion_tokens" => &mut fields.max_completion_tokens,
                        "output_length" => &mut fields.output_length,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = map.next_value()?;
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Take)
    }
}

/// Stores each entry of an array as soon as it is read.
struct Array<'a> {
    all: &'a mut Reading,
    /// Why reading stopped, if JSON was not the reason.
    failed: &'a mut Option<PromptError>,
}

impl<'de> DeserializeSeed<'de> for Array<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(fields) = seq.next_element::<Fields>()? {
            place += 1;
            if let Err(error) = self.all.add(Location::Entry(place), &fields) {
                *self.failed = Some(error);
                return Err(de::Error::custom("given up"));
            }
        }
        Ok(())
    }
}
