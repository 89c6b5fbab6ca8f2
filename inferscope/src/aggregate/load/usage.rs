//! Which of a server's counts can be true.
//!
//! Owns the bounds that no true count exceeds. A count beyond them is not used: chunks are counted instead, and the
//! report says so. Never guesses a better one. Called by `tokens` and `request_figures`.
//!
//! A completion's count is bounded twice:
//! - by `max_tokens`, for each choice: with room for end tokens and what was drafted beyond, and for reasoning, which
//!   some servers leave out of the limit. Where more chunks of visible text came than the limit allows, the server does
//!   not keep it, and the limit bounds no count.
//! - by what can have been made: a token has at least one byte of text, but for special ones and hidden reasoning, of which
//!   no engine makes more than [`HIDDEN_PER_SECOND`] in a stream.
//!
//! A prompt's tokens have at least one byte each, beside a template, a system prompt of the server's own, and attachments.

use crate::event::{ChunkKind, RequestLog};

/// Tokens beyond `max_tokens` that a choice may count: its end, and what a step drafts beyond the limit.
pub(crate) const BEYOND_LIMIT: u64 = 16;
/// Tokens without text that one stream may make: some ten times the fastest engines of 2026.
const HIDDEN_PER_SECOND: f64 = 20_000.0;
/// Tokens that a server may put before a prompt.
const BESIDE_PROMPT: u64 = 1 << 17;
/// Tokens of one attachment: hours of sound, or a film.
const ATTACHMENT: u64 = 1 << 20;

/// What is believed of a request's usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckedUsage {
    pub(crate) prompt: Option<u64>,
    pub(crate) completion: Option<u64>,
    /// Of the completion: reasoning that was not sent.
    pub(crate) hidden: u64,
    /// What can't be true, in words.
    pub(crate) impossible_prompt: Option<String>,
    pub(crate) impossible_completion: Option<String>,
}

/// The text that came.
#[derive(Debug, Clone, Copy, Default)]
struct Text {
    bytes: u64,
    reasoning_bytes: u64,
    reasoning_chunks: u64,
    visible_chunks: u64,
}

impl CheckedUsage {
    pub(crate) fn of(request: &RequestLog) -> Self {
        let mut all = Self::default();
        let mut text = Text::default();
        let mut by_chunks = 0u64;
        for chunk in &request.chunks {
            by_chunks = by_chunks.saturating_add(chunk.tokens.unwrap_or(0).into());
            text.bytes += u64::from(chunk.bytes);
            if chunk.kind == ChunkKind::Reasoning {
                text.reasoning_bytes += u64::from(chunk.bytes);
                text.reasoning_chunks += 1;
            } else if chunk.kind.has_tokens() {
                text.visible_chunks += 1;
            }
        }
        let told = request.usage.unwrap_or_default();
        if let Some(count) = told.prompt_tokens {
            match impossible_prompt(request, count) {
                Some(why) => all.impossible_prompt = Some(why),
                None => all.prompt = Some(count),
            }
        }
        // What came chunk by chunk is a count as well, where there is no other.
        let completion = told.completion_tokens;
        let highest = completion.unwrap_or(by_chunks);
        let reasoning = told.reasoning_tokens.filter(|n| *n <= highest);
        all.impossible_completion = impossible_completion(request, &text, reasoning, highest);
        if all.impossible_completion.is_none() {
            all.completion = completion;
            all.hidden = reasoning.filter(|_| text.reasoning_chunks == 0).unwrap_or(0);
        }
        all
    }

    pub(crate) const fn is_impossible(&self) -> bool {
        self.impossible_prompt.is_some() || self.impossible_completion.is_some()
    }
}

fn impossible_completion(
    request: &RequestLog,
    text: &Text,
    reasoning: Option<u64>,
    count: u64,
) -> Option<String> {
    let choices = u64::from(request.asked.choices.max(1));
    if let Some(most) = request.asked.max_tokens {
        let limit = most.saturating_add(BEYOND_LIMIT).saturating_mul(choices);
        let thought = reasoning.unwrap_or(0).max(text.reasoning_bytes);
        let kept = text.visible_chunks <= most.saturating_mul(choices);
        if kept && count > limit.saturating_add(thought) {
            let choices = if choices > 1 { format!(" x {choices} choices") } else { String::new() };
            return Some(format!("{count} completion tokens for max_tokens {most}{choices}"));
        }
    }
    let time = request.done.since(request.sent).as_secs_f64();
    let hidden = (time * HIDDEN_PER_SECOND * choices as f64) as u64;
    let beside = BEYOND_LIMIT.saturating_mul(choices).saturating_add(hidden);
    (count > text.bytes.saturating_add(beside))
        .then(|| format!("{count} completion tokens for {} bytes of text in {time:.3} s", text.bytes))
}

fn impossible_prompt(request: &RequestLog, count: u64) -> Option<String> {
    let asked = &request.asked;
    let attached = u64::from(asked.attachments).saturating_mul(ATTACHMENT);
    (count > asked.body_bytes.saturating_add(BESIDE_PROMPT).saturating_add(attached))
        .then(|| format!("{count} prompt tokens for a request of {} bytes", asked.body_bytes))
}

/// Answers whose usage can't be true.
#[derive(Debug, Clone, Default)]
pub(crate) struct Impossible {
    pub(crate) completions: u64,
    pub(crate) prompts: u64,
    /// The first of either.
    pub(crate) example: Option<String>,
}

impl Impossible {
    pub(crate) fn add(&mut self, usage: &CheckedUsage) {
        self.completions += u64::from(usage.impossible_completion.is_some());
        self.prompts += u64::from(usage.impossible_prompt.is_some());
        let told = usage.impossible_completion.as_ref().or(usage.impossible_prompt.as_ref());
        self.example = self.example.take().or_else(|| told.cloned());
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.completions += other.completions;
        self.prompts += other.prompts;
        self.example = self.example.take().or_else(|| other.example.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::RequestBuilder;

    /// Four chunks of four bytes within 40 ms.
    fn four() -> RequestBuilder {
        RequestBuilder::new(0).content([10, 20, 30, 40]).asked(|asked| asked.max_tokens = Some(128))
    }

    fn completion(r: RequestBuilder, count: u64) -> Option<u64> {
        let usage = CheckedUsage::of(&r.usage(5, count).build());
        assert_eq!(usage.completion.is_none(), usage.impossible_completion.is_some());
        assert_eq!(usage.prompt, Some(5), "one count that can't be true says nothing of the other");
        usage.completion
    }

    #[test]
    fn a_count_beyond_max_tokens_is_not_used() {
        for count in [1_000_000, u64::MAX, 145] {
            assert_eq!(completion(four(), count), None, "{count}");
        }
        // One more is an end token's, and what was drafted beyond is counted by some.
        for count in [4, 5, 128, 129, 144] {
            assert_eq!(completion(four(), count), Some(count));
        }
        let three = || four().asked(|asked| asked.choices = 3);
        assert_eq!((completion(three(), 384), completion(three(), 433)), (Some(384), None));
        let why = CheckedUsage::of(&three().usage(5, 433).build()).impossible_completion;
        assert_eq!(why.as_deref(), Some("433 completion tokens for max_tokens 128 x 3 choices"));
    }

    #[test]
    fn a_server_that_does_not_keep_the_limit_may_count_what_it_sent() {
        let long = || RequestBuilder::new(0).content(0..200).asked(|asked| asked.max_tokens = Some(128));
        assert_eq!((completion(long(), 200), completion(long(), 400)), (Some(200), Some(400)));
        assert_eq!(
            completion(long(), 100_000),
            None,
            "but not more than its text has bytes, or time had room for"
        );
    }

    #[test]
    fn without_a_limit_it_is_bounded_by_text_and_time() {
        let free = || four().asked(|asked| asked.max_tokens = None);
        assert_eq!(completion(free(), 16 + 16 + 800), Some(832), "16 bytes, 40 ms");
        assert_eq!(completion(free(), 1_000_000), None);
        assert_eq!(
            completion(free().done(60_000), 1_000_000),
            Some(1_000_000),
            "a minute of hidden reasoning"
        );
        assert_eq!(completion(free().done(60_000), u64::MAX), None);
    }

    #[test]
    fn reasoning_may_be_beside_the_limit() {
        let thought = |told: Option<u64>, count: u64| {
            let mut r = four().done(10_000).usage(5, count).build();
            r.usage.as_mut().unwrap().reasoning_tokens = told;
            let usage = CheckedUsage::of(&r);
            usage.completion.map(|n| (n, usage.hidden))
        };
        assert_eq!(thought(Some(996), 1_000), Some((1_000, 996)));
        assert_eq!(thought(None, 1_000), None);
        assert_eq!(thought(Some(u64::MAX), u64::MAX), None);
        assert_eq!(thought(Some(5_000), 100), Some((100, 0)), "more reasoning than tokens is none");
        let shown = RequestBuilder::new(0).reasoning(0..100).content([101]).done(10_000);
        let shown = shown.asked(|asked| asked.max_tokens = Some(10)).usage(5, 101).build();
        assert_eq!(CheckedUsage::of(&shown).completion, Some(101));
    }

    #[test]
    fn a_prompt_has_at_least_a_byte_a_token_beside_what_a_server_adds() {
        let prompt = |count, attachments| {
            let r = four().asked(|asked| (asked.body_bytes, asked.attachments) = (500, attachments));
            CheckedUsage::of(&r.usage(count, 4).build())
        };
        assert_eq!(prompt(131_000, 0).prompt, Some(131_000), "a long system prompt");
        let absurd = prompt(u64::MAX, 0);
        assert_eq!((absurd.prompt, absurd.completion), (None, Some(4)));
        assert!(absurd.impossible_prompt.unwrap().ends_with("prompt tokens for a request of 500 bytes"));
        assert_eq!((prompt(200_000, 0).prompt, prompt(200_000, 1).prompt), (None, Some(200_000)));
    }

    #[test]
    fn counts_chunk_by_chunk_are_bounded_as_well() {
        let r = RequestBuilder::new(0).content_with_tokens([(10, 1), (20, u32::MAX)]).build();
        assert!(CheckedUsage::of(&r).impossible_completion.is_some());
    }
}
