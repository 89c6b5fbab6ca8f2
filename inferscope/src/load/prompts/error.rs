//! The errors of a prompt file.
//!
//! Owns the messages and remedies. Never holds more of the file than a word or a number. Used by `prompts` and
//! `dataset`.

use std::fmt;

use super::{BLOCK_TOKENS, LONGEST_BYTES, MOST_PROMPTS, MOST_TOKENS};

/// Why there are no prompts. The caller adds the file's name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(in crate::load) enum PromptError {
    #[error("{location}: {fault}")]
    At { location: Location, fault: Fault },
    #[error("it holds no prompt\n  write one prompt a line, or in a data set one entry a line")]
    Empty,
    #[error("it holds more than {MOST_PROMPTS} prompts\n  give a part of it, say its first 100000 lines")]
    TooMany,
    #[error("no prompt of {tokens} tokens is made\n  ask for at most {MOST_TOKENS}")]
    TooManyTokens { tokens: u64 },
    #[error(
        "no tokenizer has {words_per_token} words a token\n  the server's count of prompt tokens can't be right"
    )]
    Scale { words_per_token: f64 },
}

/// A location in a file, counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::load) enum Location {
    Line(usize),
    /// An entry of the one array in the file.
    Entry(usize),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(n) => write!(f, "line {n}"),
            Self::Entry(n) => write!(f, "entry {n}"),
        }
    }
}

/// The fault at a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::load) enum Fault {
    #[error("its byte {byte} is not UTF-8\n  save the file as UTF-8")]
    NotUtf8 { byte: usize },
    #[error("it is longer than {LONGEST_BYTES} bytes\n  no model reads so much; take it out")]
    TooLong,
    #[error("it is no JSON object ({why})\n  write one object a line, or one array of objects")]
    NoObject { why: String },
    #[error(
        "it has nothing to ask\n  give it one of messages, conversations, prompt, text, or a trace's input_length"
    )]
    NoPrompt,
    #[error("its input_length is {tokens}\n  no model reads more than {MOST_TOKENS} tokens; take it out")]
    TooManyTokens { tokens: u64 },
    #[error("its {field} is not {wanted}\n  correct it or take the entry out")]
    Field { field: &'static str, wanted: &'static str },
    #[error(
        "it has a turn of '{who}'\n  turns are from human, gpt or system, or have the role user, assistant or system"
    )]
    Turn { who: String },
    #[error(
        "it has {blocks} hash_ids for {tokens} tokens\n  one stands for {BLOCK_TOKENS} tokens, as in Mooncake's traces; another trace has to be converted"
    )]
    Blocks { blocks: usize, tokens: u64 },
    #[error("it has {} timestamp, other than those before it\n  give every entry one, in milliseconds, or none", if *has { "a" } else { "no" })]
    Timestamp { has: bool },
}
