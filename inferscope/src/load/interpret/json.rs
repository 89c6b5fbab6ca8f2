//! The JSON shapes of a completion object, folded while they are read.
//!
//! Owns the serde types and their tolerance: a field of an unexpected type counts as absent, unless it
//! is the frame itself (`choices`, a choice, `delta`, `usage`). Texts are measured, not kept, so a chunk
//! allocates nothing. Used by `interpret` alone.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::event::Choice as Index;

#[derive(serde::Deserialize)]
pub(super) struct Object<'a> {
    #[serde(borrow, default)]
    pub(super) choices: Option<Choices<'a>>,
    #[serde(default)]
    pub(super) usage: Option<JsonUsage>,
    #[serde(borrow, default)]
    pub(super) model: Word<'a>,
    #[serde(borrow, default)]
    pub(super) object: Word<'a>,
    /// Rare, so it may allocate.
    #[serde(default)]
    pub(super) error: Option<Value>,
    /// Beside `"object": "error"`.
    #[serde(default)]
    pub(super) message: Option<Value>,
    /// FastAPI's word for an error.
    #[serde(default)]
    pub(super) detail: Option<Value>,
}

#[derive(serde::Deserialize)]
pub(super) struct JsonUsage {
    #[serde(rename = "prompt_tokens", default)]
    pub(super) prompt: Count,
    #[serde(rename = "completion_tokens", default)]
    pub(super) completion: Count,
    #[serde(rename = "completion_tokens_details", default)]
    pub(super) details: Details,
}

/// All choices of one object.
#[derive(Default)]
pub(super) struct Choices<'a> {
    /// Nearly always the only one, so that it needs no list.
    pub(super) first: Option<(Index, TextBytes)>,
    pub(super) more: Vec<(Index, TextBytes)>,
    pub(super) finish_reason: Option<Cow<'a, str>>,
    pub(super) present: u64,
    pub(super) finished: u64,
    pub(super) stopped: u64,
    pub(super) error: Option<Value>,
}

impl Choices<'_> {
    /// What an object holds of a choice, which may be in it twice.
    fn add(&mut self, choice: Index, text: TextBytes) {
        let Some(first) = &mut self.first else {
            self.first = Some((choice, text));
            return;
        };
        match std::iter::once(first).chain(&mut self.more).find(|(known, _)| *known == choice) {
            Some((_, sum)) => *sum += text,
            None => self.more.push((choice, text)),
        }
    }
}

/// Bytes of generated text by kind.
#[derive(Clone, Copy, Default)]
pub(super) struct TextBytes {
    pub(super) content: u64,
    pub(super) tool: u64,
    pub(super) reasoning: u64,
}

impl std::ops::AddAssign for TextBytes {
    fn add_assign(&mut self, other: Self) {
        self.content += other.content;
        self.tool += other.tool;
        self.reasoning += other.reasoning;
    }
}

#[derive(serde::Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Count,
    #[serde(default)]
    delta: Option<Delta>,
    /// A whole answer's, or that of a server that streams whole messages.
    #[serde(default)]
    message: Option<Delta>,
    /// The completions API's.
    #[serde(default)]
    text: Text,
    #[serde(borrow, default)]
    finish_reason: Word<'a>,
    /// OpenRouter's, of the provider behind it.
    #[serde(default)]
    error: Option<Value>,
}

#[derive(serde::Deserialize, Default)]
struct Delta {
    #[serde(default)]
    content: Text,
    #[serde(default)]
    refusal: Text,
    #[serde(default)]
    reasoning_content: Text,
    #[serde(default)]
    reasoning: Text,
    #[serde(default)]
    reasoning_details: Text,
    #[serde(default)]
    tool_calls: ToolCalls,
    /// The form before `tool_calls`.
    #[serde(default)]
    function_call: Option<Function>,
}

#[derive(serde::Deserialize)]
struct ToolCall {
    #[serde(default)]
    function: Option<Function>,
}

#[derive(serde::Deserialize)]
struct Function {
    #[serde(default)]
    name: Text,
    #[serde(default)]
    arguments: Text,
}

impl Function {
    fn bytes(&self) -> u64 {
        self.name.all() + self.arguments.all()
    }
}

impl Delta {
    fn text(&self) -> TextBytes {
        let named = [self.reasoning_content, self.reasoning, self.reasoning_details].map(|t| t.all());
        TextBytes {
            content: self.content.visible + self.refusal.all(),
            tool: self.tool_calls.0 + self.function_call.as_ref().map_or(0, Function::bytes),
            reasoning: named.into_iter().fold(self.content.thought, u64::max),
        }
    }
}

impl Choice<'_> {
    /// One text under several names: Together repeats the delta as `text`, and Perplexity sends the whole
    /// `message` up to here beside it.
    fn text(&self) -> TextBytes {
        match (self.delta.as_ref().map(Delta::text), &self.message) {
            (Some(delta), _) if delta.content + delta.tool + delta.reasoning > 0 => delta,
            (None, Some(message)) => message.text(),
            _ => TextBytes { content: self.text.visible, reasoning: self.text.thought, tool: 0 },
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fold<'a>(std::marker::PhantomData<Choices<'a>>);
        impl<'de: 'a, 'a> Visitor<'de> for Fold<'a> {
            type Value = Choices<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Choices::default();
                while let Some(choice) = seq.next_element::<Choice<'a>>()? {
                    // An answer with more choices than bits has them share the last one.
                    let index = choice.index.0.unwrap_or(0);
                    let bit = 1 << index.min(63);
                    all.present |= bit;
                    all.add(Index::new(index), choice.text());
                    all.error = all.error.or(choice.error);
                    if let Some(reason) = choice.finish_reason.0.filter(|r| !matches!(&**r, "" | "null")) {
                        all.finished |= bit;
                        all.stopped |= if reason == "stop" { bit } else { 0 };
                        all.finish_reason.get_or_insert(reason);
                    }
                }
                Ok(all)
            }
        }
        deserializer.deserialize_seq(Fold(std::marker::PhantomData))
    }
}

/// A text, where it is one.
#[derive(Default)]
pub(super) struct Word<'a>(pub(super) Option<Cow<'a, str>>);

/// A count, where it is a whole number.
#[derive(Default, Clone, Copy)]
pub(super) struct Count(pub(super) Option<u64>);

/// `completion_tokens_details`, where it is an object.
#[derive(Default, Clone, Copy)]
pub(super) struct Details {
    pub(super) reasoning: Count,
}

/// The length of a text, or of the texts in a list of parts.
#[derive(Default, Clone, Copy)]
struct Text {
    visible: u64,
    /// In parts that hold thinking, as Mistral's models send it within the content.
    thought: u64,
}

impl Text {
    const fn all(self) -> u64 {
        self.visible + self.thought
    }
}

/// The length of what is generated in a list of tool calls.
#[derive(Default, Clone, Copy)]
struct ToolCalls(u64);

/// The visitor methods for the types that count as absent.
macro_rules! absent {
    ($($method:ident: $type:ty),*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        $(fn $method<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })*
    };
    (seq) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
    (map) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take<'a>(std::marker::PhantomData<Word<'a>>);
        impl<'de: 'a, 'a> Visitor<'de> for Take<'a> {
            type Value = Word<'a>;
            absent!(visit_u64: u64, visit_i64: i64, visit_f64: f64);
            absent!(seq);
            absent!(map);
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Word(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Word(Some(Cow::Owned(text.to_owned()))))
            }
        }
        deserializer.deserialize_any(Take(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Count;
            absent!(visit_str: &str);
            absent!(seq);
            absent!(map);
            fn visit_u64<E>(self, n: u64) -> Result<Self::Value, E> {
                Ok(Count(Some(n)))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Self::Value, E> {
                Ok(Count(u64::try_from(n).ok()))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Self::Value, E> {
                // Whole numbers are exact in f64 up to 2^53, which no token count reaches.
                let whole = (0.0..9e15).contains(&n) && n.fract() == 0.0;
                Ok(Count(whole.then_some(n as u64)))
            }
        }
        deserializer.deserialize_any(Take)
    }
}

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl<'de> Visitor<'de> for Take {
            type Value = Details;
            absent!(visit_u64: u64, visit_i64: i64, visit_f64: f64, visit_str: &str);
            absent!(seq);
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut details = Details::default();
                while let Some(key) = map.next_key::<Word<'de>>()? {
                    match key.0.as_deref() {
                        Some("reasoning_tokens") => details.reasoning = map.next_value()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(details)
            }
        }
        deserializer.deserialize_any(Take)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Measure;
        impl<'de> Visitor<'de> for Measure {
            type Value = Text;
            absent!(visit_u64: u64, visit_i64: i64, visit_f64: f64);
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text { visible: text.len() as u64, thought: 0 })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut sum = Text::default();
                while let Some(part) = seq.next_element::<Text>()? {
                    sum.visible += part.visible;
                    sum.thought += part.thought;
                }
                Ok(sum)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut sum = Text::default();
                while let Some(key) = map.next_key::<Word<'de>>()? {
                    match key.0.as_deref() {
                        Some("text" | "content") => {
                            let text = map.next_value::<Text>()?;
                            sum.visible += text.visible;
                            sum.thought += text.thought;
                        }
                        Some("thinking") => sum.thought += map.next_value::<Text>()?.all(),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(sum)
            }
        }
        deserializer.deserialize_any(Measure)
    }
}

impl<'de> Deserialize<'de> for ToolCalls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Measure;
        impl<'de> Visitor<'de> for Measure {
            type Value = ToolCalls;
            absent!(visit_u64: u64, visit_i64: i64, visit_f64: f64, visit_str: &str);
            absent!(map);
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut sum = 0;
                while let Some(call) = seq.next_element::<Option<ToolCall>>()? {
                    sum += call.and_then(|c| c.function).map_or(0, |f| f.bytes());
                }
                Ok(ToolCalls(sum))
            }
        }
        deserializer.deserialize_any(Measure)
    }
}
