//! What is asked: prompts out of the plan, and requests out of prompts.
//!
//! Owns the reading of prompt files, and the two requests that find out how many words a made prompt takes: there is
//! no tokenizer here, but the server has one and counts. Called by the driver.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use reqwest::Url;
use tokio::sync::watch;

use super::error::LoadError;
use super::prompts::{Prompt, Prompts};
use super::request::{self, Slot};
use super::{Driver, Receiver, Served};
use crate::event::{Asked, Calibration};
use crate::plan::{Api, LoadPlan, PromptPlan};

/// Numbers that no request of a load reaches.
const CALIBRATING: [u64; 2] = [u64::MAX - 2, u64::MAX - 1];

/// Of the ceiling of memory, as a divisor, what a file of prompts may take: for a moment it is there twice.
const FILE_PART: u64 = 4;

/// Tokens that no chat template has.
const MOST_BESIDE: f64 = 131_072.0;

/// # Errors
/// A file that can't be read, or that holds no prompts.
pub(super) fn prompts(plan: &LoadPlan) -> Result<Prompts, LoadError> {
    let (flag, path, of): (_, _, fn(&[u8]) -> _) = match &plan.prompts {
        PromptPlan::BuiltIn => return Ok(Prompts::built_in(plan.load_seed)),
        PromptPlan::Text(text) => return Ok(Prompts::one(text)),
        PromptPlan::Synthetic { tokens, shared_prefix } => {
            return Prompts::synthetic(*tokens, *shared_prefix, plan.load_seed)
                .map_err(|e| LoadError::Prompts { what: "--input-tokens".to_owned(), why: e.to_string() });
        }
        PromptPlan::Lines(path) => ("--prompt-file", path, Prompts::lines),
        PromptPlan::Dataset(path) => ("--dataset", path, Prompts::dataset),
    };
    let what = format!("{flag} {}", path.display());
    let bytes = read(path, plan.http.max_memory / FILE_PART)
        .map_err(|why| LoadError::Prompts { what: what.clone(), why })?;
    of(&bytes).map_err(|e| LoadError::Prompts { what, why: e.to_string() })
}

/// The whole of a file, of `most` bytes at most.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let unreadable = |e: std::io::Error| format!("it can't be read: {e}\n  give a file that exists");
    let mut bytes = Vec::new();
    // A pipe and a device have no length that could be asked for.
    let file = File::open(path).map_err(unreadable)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "it is larger than {} MiB, which --max-memory has room for\n  give a part of it (head -n 100000), or raise \
             --max-memory to {FILE_PART} times its size",
            most >> 20
        ));
    }
    Ok(bytes)
}

impl Driver {
    /// A request's body, and what it asks for.
    pub(super) fn ask(&self, prompt: &Prompt<'_>, max_tokens: u32, server: &Served) -> (Vec<u8>, Asked) {
        let max_tokens = prompt.max_tokens.unwrap_or(max_tokens);
        let ask = request::BodySpec {
            model: server.model.as_deref(),
            prompt: match self.plan.api {
                Api::Chat => prompt.chat(),
                Api::Completions => prompt.plain().into(),
            },
            max_tokens,
            usage_with_each_chunk: server.usage_with_each_chunk,
        };
        let body = request::body(&self.plan, ask);
        let bytes = body.to_string().into_bytes();
        let asked = request::asked(&body, bytes.len());
        (bytes, asked)
    }

    pub(super) fn completions(&self) -> Url {
        self.plan.endpoint.join(match self.plan.api {
            Api::Chat => "chat/completions",
            Api::Completions => "completions",
        })
    }

    /// Prompts of the length that was asked for, as the server counts: a line through its counts for two lengths
    /// tells what a word takes and what a chat template adds. `None` where none are made, or it does not count.
    pub(super) async fn calibrate(
        &self,
        server: &Served,
        stop: &watch::Receiver<bool>,
        receiver: &mut dyn Receiver,
    ) -> Option<Prompts> {
        let PromptPlan::Synthetic { tokens, shared_prefix } = self.plan.prompts else { return None };
        let words = [tokens.div_ceil(2), tokens];
        let mut counted = [0; 2];
        for ((words, id), counted) in words.into_iter().zip(CALIBRATING).zip(&mut counted) {
            let prompts = Prompts::synthetic(words, 0, self.plan.load_seed).ok()?;
            let (body, asked) = self.ask(&prompts.get(id), 1, server);
            let slot = Slot { id, warmup: true, scheduled: None };
            let log = self.http.exchange(&self.completions(), body, slot, asked, &mut stop.clone()).await;
            *counted = log.usage?.prompt_tokens?;
        }
        let line = line(words, counted)?;
        // The template comes before the prefix, and is shared as well.
        let beside = line.tokens_beside.round() as u32;
        let shared = shared_prefix.saturating_sub(beside);
        let own = tokens.saturating_sub(beside).max(shared + 1);
        let made = Prompts::synthetic(own, shared, self.plan.load_seed).ok()?;
        let made = made.scaled(1.0 / line.tokens_a_word).ok()?;
        receiver.calibrated(line);
        Some(made)
    }
}

/// Through two counts; `None` where they are no line of words.
fn line(words: [u32; 2], counted: [u64; 2]) -> Option<Calibration> {
    let [few, many] = words.map(f64::from);
    let [less, more] = counted.map(|n| n as f64);
    if many <= few {
        return None;
    }
    let tokens_a_word = (more - less) / (many - few);
    let tokens_beside = (more - tokens_a_word * many).max(0.0);
    let is_line = (0.2..=20.0).contains(&tokens_a_word) && tokens_beside <= MOST_BESIDE;
    is_line.then_some(Calibration { requests: 2, tokens_a_word, tokens_beside })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_two_counts_tells_a_words_tokens_and_the_templates() {
        let told = line([100, 200], [143, 263]).unwrap();
        assert_eq!((told.tokens_a_word, told.tokens_beside), (1.2, 23.0));
        assert_eq!(line([1, 1], [5, 5]), None, "one length is no line");
        assert_eq!(line([100, 200], [1 << 60, (1 << 60) + 512]), None, "counts that can't be true");
        assert_eq!(line([100, 200], [50, 50]), None, "a server that does not count them");
    }
}
