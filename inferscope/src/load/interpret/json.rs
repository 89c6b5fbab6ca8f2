//! The JSON shapes of a completion object, folded while they are read.
//!
//! Owns the serde types and their tolerance: a field of an unexpected type counts as absent, unless it
//! is the frame itself (`choices`, a choice, `delta`, `usage`). Texts are measured, not kept, so a chunk
//! allocates nothing. Used by `interpret` alone.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

#[derive(serde::Deserialize)]
pub(super) struct Object<'a> {
    #[serde(borrow, default)]
    pub(super) choices: Option<Choices<'a>>,
    #[serde(default)]
    pub(super) usage: Option<Usage>,
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
}

#[derive(serde::Deserialize)]
pub(super) struct Usage {
    #[serde(rename = "prompt_tokens", default)]
    pub(super) prompt: Count,
    #[serde(rename = "completion_tokens", default)]
    pub(super) completion: Count,
}

/// All choices of one object, added up.
#[derive(Default)]
pub(super) struct Choices<'a> {
    pub(super) text: TextBytes,
    pub(super) finish_reason: Option<Cow<'a, str>>,
    pub(super) present: u64,
    pub(super) finished: u64,
}

/// Bytes of generated text by kind.
#[derive(Clone, Copy, Default)]
pub(super) struct TextBytes {
    pub(super) content: u64,
    pub(super) tool: u64,
    pub(super) reasoning: u64,
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
    text: Bytes,
    #[serde(borrow, default)]
    finish_reason: Word<'a>,
}

#[derive(serde::Deserialize, Default)]
struct Delta {
    #[serde(default)]
    content: Bytes,
    #[serde(default)]
    refusal: Bytes,
    #[serde(default)]
    reasoning_content: Bytes,
    #[serde(default)]
    reasoning: Bytes,
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
    name: Bytes,
    #[serde(default)]
    arguments: Bytes,
}

impl Function {
    fn bytes(&self) -> u64 {
        self.name.0.saturating_add(self.arguments.0)
    }
}

impl Delta {
    fn add_to(&self, text: &mut TextBytes) {
        text.content += self.content.0 + self.refusal.0;
        text.reasoning += self.reasoning_content.0.max(self.reasoning.0);
        text.tool += self.tool_calls.0 + self.function_call.as_ref().map_or(0, Function::bytes);
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
                    let bit = 1 << choice.index.0.unwrap_or(0).min(63);
                    all.present |= bit;
                    if let Some(reason) = choice.finish_reason.0 {
                        all.finished |= bit;
                        all.finish_reason.get_or_insert(reason);
                    }
                    all.text.content += choice.text.0;
                    choice.delta.unwrap_or_default().add_to(&mut all.text);
                    choice.message.unwrap_or_default().add_to(&mut all.text);
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

/// The length of a text, or of the texts in a list of parts.
#[derive(Default, Clone, Copy)]
struct Bytes(u64);

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

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Measure;
        impl<'de> Visitor<'de> for Measure {
            type Value = Bytes;
            absent!(visit_u64: u64, visit_i64: i64, visit_f64: f64);
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Bytes(text.len() as u64))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut sum = 0;
                while let Some(part) = seq.next_element::<Bytes>()? {
                    sum += part.0;
                }
                Ok(Bytes(sum))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut sum = 0;
                while let Some(key) = map.next_key::<Word<'de>>()? {
                    if matches!(key.0.as_deref(), Some("text" | "content" | "thinking")) {
                        sum += map.next_value::<Bytes>()?.0;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Bytes(sum))
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
