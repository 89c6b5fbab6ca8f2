//! The prompts of a load.
//!
//! Owns the prompts by number: one text, a file's lines, a data set's entries, or synthetic texts. Pure: the caller
//! hands in a file's bytes, the same number always gives the same prompt, and nothing is sent. Called by the driver.
//!
//! Numbers beyond the end of a file begin again at its start; [`Prompts::again`] counts these. Synthetic prompts have
//! no end. No two of them are alike from the first word on, so a prefix cache of the server can't help it.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::units::Nanos;
use dataset::Dataset;
pub(super) use error::PromptError;
use error::{Fault, Location};
use synthetic::Key;

mod dataset;
mod error;
mod synthetic;
mod wordlist;

/// Most prompts of a file.
const MOST_PROMPTS: usize = 1 << 20;
/// Longest line of a file, and longest entry of an array, in bytes. No model reads so much.
const LONGEST_BYTES: usize = 16 << 20;
/// Most tokens of a synthetic prompt.
const MOST_TOKENS: u64 = 10_000_000;
/// Tokens of a trace's block, as in Mooncake's traces.
const BLOCK_TOKENS: u64 = 512;

/// A trace with more requests a second than this probably has its times in seconds instead of milliseconds.
const LIKELY_PER_SECOND: f64 = 100.0;

/// Families of a trace's texts.
const BLOCKS: u64 = 1;
const ENTRIES: u64 = 2;
/// The number of the text that all synthetic prompts begin with. No request has it.
const SHARED: u64 = u64::MAX;
/// Words at the start of a built-in prompt: enough that no two are alike.
const FOREWORDS: u64 = 8;
const QUESTION: &str = ". Leave these words aside, and explain in a few sentences why the sky is blue.";

/// One prompt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prompt<'a> {
    content: Content<'a>,
    /// The entry's own limit, which wins over `--max-tokens`.
    pub(super) max_tokens: Option<u32>,
    /// The time in the trace, counted from its first request.
    pub(super) at: Option<Nanos>,
}

#[derive(Debug, Clone, PartialEq)]
enum Content<'a> {
    Text(Cow<'a, str>),
    /// A list of messages, as JSON.
    Messages(&'a str),
}

impl Prompt<'_> {
    /// The chat API's `messages`.
    pub(super) fn chat(&self) -> Value {
        match &self.content {
            Content::Text(text) => json!([{"role": "user", "content": text}]),
            Content::Messages(json) => messages(json),
        }
    }

    /// The completions API's `prompt`. Messages become their texts with an empty line between them, as there is no
    /// template here.
    pub(super) fn plain(&self) -> String {
        match &self.content {
            Content::Text(text) => text.clone().into_owned(),
            Content::Messages(json) => dataset::texts(&messages(json)).join("\n\n"),
        }
    }
}

fn messages(json: &str) -> Value {
    serde_json::from_str(json).expect("what was JSON when it was kept is JSON")
}

/// The prompts of a run.
#[derive(Debug)]
pub(super) struct Prompts {
    source: Source,
    words_per_token: f64,
}

#[derive(Debug)]
enum Source {
    One(Box<str>),
    /// The same question behind different words.
    BuiltIn {
        family: u64,
    },
    /// The prompts of a file, at least one, and the number of entries without a question.
    Entries {
        entries: Vec<Entry>,
        passed_over: u64,
    },
    /// Tokens that all prompts share, and tokens of each prompt's own.
    Made {
        shared: u64,
        own: u64,
        family: u64,
    },
}

/// One prompt of a file.
#[derive(Debug, PartialEq)]
struct Entry {
    kept: Kept,
    max_tokens: Option<u32>,
    at: Option<Nanos>,
}

/// What is kept of an entry: its text, or how to make it.
#[derive(Debug, PartialEq)]
enum Kept {
    Text(Box<str>),
    /// Messages as in [`Content::Messages`]. Parsed they would take ten times the memory.
    Messages(Box<str>),
    /// A trace's text: this many tokens, which begin with these blocks and are unlike any other entry's.
    Traced {
        tokens: u64,
        blocks: Box<[u64]>,
    },
}

impl Prompts {
    /// One text for every request.
    pub(super) fn one(text: &str) -> Self {
        Self::of(Source::One(text.into()))
    }

    /// Our own question, with a different beginning for each number and each seed.
    pub(super) const fn built_in(seed: u64) -> Self {
        Self::of(Source::BuiltIn { family: seed })
    }

    /// One prompt a line. Blank lines are skipped.
    ///
    /// # Errors
    /// The file is not UTF-8, or has no prompt, too many, or one that is too long.
    pub(super) fn lines(file: &[u8]) -> Result<Self, PromptError> {
        let mut entries = Vec::new();
        for (location, line) in lines(file) {
            let text = text(line).map_err(|fault| PromptError::At { location, fault })?;
            entries.push(Entry { kept: Kept::Text(text.into()), max_tokens: None, at: None });
            if entries.len() > MOST_PROMPTS {
                return Err(PromptError::TooMany);
            }
        }
        if entries.is_empty() {
            Err(PromptError::Empty)
        } else {
            Ok(Self::of(Source::Entries { entries, passed_over: 0 }))
        }
    }

    /// JSON lines, or one JSON array; see [`dataset`] for the forms of an entry.
    ///
    /// # Errors
    /// An entry has an unknown form, only some have a timestamp, or there is none or too many.
    pub(super) fn dataset(file: &[u8]) -> Result<Self, PromptError> {
        let Dataset { entries, passed_over } = dataset::parse(file)?;
        Ok(Self::of(Source::Entries { entries, passed_over }))
    }

    /// About `tokens` tokens each, the first `shared_prefix` of them the same for all. Another seed gives other
    /// prompts.
    ///
    /// # Errors
    /// More tokens than any model reads.
    pub(super) fn synthetic(tokens: u32, shared_prefix: u32, seed: u64) -> Result<Self, PromptError> {
        let (tokens, shared) = (u64::from(tokens), u64::from(shared_prefix.min(tokens)));
        if tokens > MOST_TOKENS {
            return Err(PromptError::TooManyTokens { tokens });
        }
        Ok(Self::of(Source::Made { shared, own: tokens - shared, family: seed }))
    }

    const fn of(source: Source) -> Self {
        Self { source, words_per_token: 1.0 }
    }

    /// The same prompts with the length of synthetic ones corrected by a server's count.
    ///
    /// # Errors
    /// No tokenizer has such words.
    pub(super) fn scaled(self, words_per_token: f64) -> Result<Self, PromptError> {
        if !(0.05..=20.0).contains(&words_per_token) {
            return Err(PromptError::Scale { words_per_token });
        }
        Ok(Self { words_per_token, ..self })
    }

    /// The prompt with this number.
    pub(super) fn get(&self, id: u64) -> Prompt<'_> {
        match &self.source {
            Source::One(text) => {
                Prompt { content: Content::Text(Cow::Borrowed(text)), max_tokens: None, at: None }
            }
            Source::Entries { entries, .. } => {
                let place = id % entries.len() as u64;
                let entry = &entries[usize::try_from(place).expect("it is below a length")];
                let content = match &entry.kept {
                    Kept::Text(text) => Content::Text(Cow::Borrowed(text)),
                    Kept::Messages(json) => Content::Messages(json),
                    Kept::Traced { tokens, blocks } => {
                        Content::Text(Cow::Owned(self.traced(place, *tokens, blocks)))
                    }
                };
                Prompt { content, max_tokens: entry.max_tokens, at: entry.at }
            }
            Source::BuiltIn { family } => {
                let mut text = String::new();
                Key::new(*family, id).write(FOREWORDS, &mut text);
                text.push_str(QUESTION);
                Prompt { content: Content::Text(Cow::Owned(text)), max_tokens: None, at: None }
            }
            Source::Made { shared, own, family } => {
                let mut text = String::new();
                Key::new(*family, SHARED).write(self.words(*shared), &mut text);
                Key::new(*family, id).write(self.words(*own), &mut text);
                Prompt { content: Content::Text(Cow::Owned(text)), max_tokens: None, at: None }
            }
        }
    }

    fn traced(&self, entry: u64, tokens: u64, blocks: &[u64]) -> String {
        let mut text = String::new();
        let mut left = tokens;
        for &block in blocks {
            let tokens = left.min(BLOCK_TOKENS);
            Key::new(BLOCKS, block).write(self.words(tokens), &mut text);
            left -= tokens;
        }
        Key::new(ENTRIES, entry).write(self.words(left), &mut text);
        text
    }

    /// At least one for any token, so that no scale makes two prompts alike.
    fn words(&self, tokens: u64) -> u64 {
        // At most MOST_TOKENS times 20, which f64 holds exactly.
        let words = (tokens as f64 * self.words_per_token).round() as u64;
        words.max(tokens.min(1))
    }

    /// The number of different prompts; `None`: without end.
    pub(super) fn len(&self) -> Option<u64> {
        match &self.source {
            Source::One(_) => Some(1),
            Source::Entries { entries, .. } => Some(entries.len() as u64),
            Source::BuiltIn { .. } | Source::Made { .. } => None,
        }
    }

    /// How many of `sent` prompts in a row were sent before, because the file holds fewer.
    pub(super) fn again(&self, sent: u64) -> u64 {
        match &self.source {
            Source::Entries { entries, .. } => sent.saturating_sub(entries.len() as u64),
            Source::One(_) | Source::BuiltIn { .. } | Source::Made { .. } => 0,
        }
    }

    /// Entries of the data set that are not sent because they hold no question.
    pub(super) fn passed_over(&self) -> u64 {
        match &self.source {
            Source::Entries { passed_over, .. } => *passed_over,
            Source::One(_) | Source::BuiltIn { .. } | Source::Made { .. } => 0,
        }
    }

    /// Requests a second of a trace whose times, taken as milliseconds, are as close as times in seconds would be.
    pub(super) fn looks_like_seconds(&self) -> Option<f64> {
        let last = self.timed()?.last()?.as_secs_f64();
        let rate = (self.len()? - 1) as f64 / last;
        (last > 0.0 && rate > LIKELY_PER_SECOND).then_some(rate)
    }

    /// The due time of each prompt, in rising order from zero; `None`: the data set has no timestamps.
    pub(super) fn timed(&self) -> Option<Vec<Nanos>> {
        match &self.source {
            Source::Entries { entries, .. } => entries.iter().map(|entry| entry.at).collect(),
            Source::One(_) | Source::BuiltIn { .. } | Source::Made { .. } => None,
        }
    }
}

/// The lines of a file that are not blank.
fn lines(file: &[u8]) -> impl Iterator<Item = (Location, &[u8])> {
    let lines = without_bom(file).split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let placed = lines.enumerate().map(|(i, line)| (Location::Line(i + 1), line));
    placed.filter(|(_, line)| !line.trim_ascii().is_empty())
}

fn without_bom(file: &[u8]) -> &[u8] {
    file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file)
}

/// A line as text.
fn text(line: &[u8]) -> Result<&str, Fault> {
    if line.len() > LONGEST_BYTES {
        return Err(Fault::TooLong);
    }
    std::str::from_utf8(line).map_err(|e| Fault::NotUtf8 { byte: e.valid_up_to() + 1 })
}

#[cfg(test)]
mod tests;
