//! How many tokens each chunk of an answer holds.
//!
//! Owns the rules that tell tokens from chunks. An SSE chunk is no token: it holds none (a role, a
//! finish reason), one, or many. Never looks at times. Called by `request_figures`.
//!
//! In the order of preference:
//! 1. The server said it chunk by chunk (continuous usage), and no more than its total. Of several choices it has to
//!    have told the total: counts of all choices together look the same chunk by chunk, and come to more than it.
//! 2. Its total is the number of chunks that hold text: one token each.
//! 3. Its total is one more for each choice that ended with `stop`: the server counted the end-of-sequence
//!    token, which is never sent. One token each.
//! 4. Its total is anything else: unknown for each chunk; the total stands.
//!    So is how many each of several choices had.
//! 5. It sent no total (or zero beside text, or one that can't be true): one token a chunk is assumed, and said.

use super::usage::CheckedUsage;
use crate::event::{Chunk, ChunkKind, RequestLog};

/// What told the tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// The server's own `usage`.
    Usage,
    /// One token a chunk is assumed.
    Chunks,
}

/// Which of the rules applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Continuous,
    OneEach,
    OneEachAndUnsentEnd,
    Unknown,
    Assumed,
    /// No chunk held any.
    Nothing,
}

impl Cut {
    /// The tokens of each chunk are known, or assumed to be one.
    pub(crate) const fn is_known(self) -> bool {
        matches!(self, Self::Continuous | Self::OneEach | Self::OneEachAndUnsentEnd | Self::Assumed)
    }
}

/// The tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) cut: Cut,
    /// All that the server generated for it, as far as it said.
    pub(crate) total: Option<u64>,
    pub(crate) source: Option<TokenSource>,
    /// Those that arrived in a chunk: `total` without reasoning that was not sent and what came after the last text, above
    /// all an end-of-sequence token that is never sent.
    pub(crate) delivered: Option<u64>,
    /// Chunks that hold generated text.
    pub(crate) chunks: u64,
}

impl Tokens {
    pub(crate) fn of(request: &RequestLog, usage: &CheckedUsage) -> Self {
        let hidden = usage.hidden;
        let chunks = request.chunks.iter().filter(|c| c.kind.has_tokens()).count() as u64;
        // Zero tokens beside text is a server that does not count.
        let total = usage.completion.filter(|total| *total > 0 || chunks == 0);
        let stops = u64::from(request.stops);
        let first = request.chunks.iter().find_map(|c| c.choice);
        let several = request.chunks.iter().filter_map(|c| c.choice).any(|choice| Some(choice) != first);
        // The counter may go on after the last text: an end token, a stop string, a hidden call.
        let agrees = |sent: u64| total.map_or(!several, |total| total >= sent);
        // Counts of a server that tells what can't be true tell nothing chunk by chunk either.
        let continuous = continuous(&request.chunks).filter(|_| usage.impossible_completion.is_none());
        let by_usage = |cut, total, delivered| Self {
            cut,
            total: Some(total),
            source: Some(TokenSource::Usage),
            delivered: Some(delivered),
            chunks,
        };
        match (continuous, total) {
            (Some(sent), _) if agrees(sent) => by_usage(Cut::Continuous, total.unwrap_or(sent), sent),
            (_, Some(total)) if chunks == 0 => by_usage(Cut::Nothing, total, 0),
            (_, Some(total)) if total - hidden == chunks => by_usage(Cut::OneEach, total, chunks),
            (_, Some(total)) if stops > 0 && total - hidden == chunks + stops => {
                by_usage(Cut::OneEachAndUnsentEnd, total, chunks)
            }
            (_, Some(total)) => by_usage(Cut::Unknown, total, total - hidden),
            (_, None) if chunks == 0 => {
                Self { cut: Cut::Nothing, total: None, source: None, delivered: None, chunks }
            }
            (_, None) => Self {
                cut: Cut::Assumed,
                total: Some(chunks),
                source: Some(TokenSource::Chunks),
                delivered: Some(chunks),
                chunks,
            },
        }
    }

    /// The tokens of one of the request's chunks.
    pub(crate) fn in_chunk(&self, chunk: &Chunk) -> Option<u32> {
        match self.cut {
            Cut::Continuous => Some(chunk.tokens.unwrap_or(0)),
            _ if chunk.kind == ChunkKind::Other => Some(0),
            _ => self.cut.is_known().then_some(1),
        }
    }

    /// The server's total doesn't fit one token a chunk, and it did not say how it was cut.
    pub(crate) fn differs_from_chunks(&self) -> bool {
        self.cut == Cut::Unknown
    }
}

#[cfg(test)]
fn output_tokens(request: &RequestLog) -> Option<u64> {
    Tokens::of(request, &CheckedUsage::of(request)).total
}

/// The sum of what the server said chunk by chunk, where it did for every chunk with text.
fn continuous(chunks: &[Chunk]) -> Option<u64> {
    let all_told = chunks.iter().filter(|c| c.kind.has_tokens()).all(|c| c.tokens.is_some());
    let sum = chunks.iter().filter_map(|c| c.tokens).fold(0u64, |sum, n| sum.saturating_add(n.into()));
    (all_told && sum > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::RequestBuilder;

    fn request() -> RequestBuilder {
        RequestBuilder::new(0)
    }

    fn of(r: &RequestLog) -> Tokens {
        Tokens::of(r, &CheckedUsage::of(r))
    }

    fn per_chunk(r: &RequestLog) -> Vec<Option<u32>> {
        let tokens = of(r);
        r.chunks.iter().map(|c| tokens.in_chunk(c)).collect()
    }

    #[test]
    fn a_total_that_equals_the_chunks_means_one_each() {
        let r = request().role(10).content([20, 30, 40]).usage(5, 3).build();
        let t = of(&r);
        assert_eq!((t.cut, t.total, t.delivered, t.chunks), (Cut::OneEach, Some(3), Some(3), 3));
        assert_eq!(t.source, Some(TokenSource::Usage));
        // Role, three tokens, finish.
        assert_eq!(per_chunk(&r), [Some(0), Some(1), Some(1), Some(1), Some(0)]);
    }

    #[test]
    fn one_more_than_the_chunks_after_a_stop_is_the_end_token_that_is_never_sent() {
        let r = request().content([20, 30, 40]).finish("stop").usage(5, 4).build();
        let t = of(&r);
        assert_eq!((t.cut, t.total, t.delivered), (Cut::OneEachAndUnsentEnd, Some(4), Some(3)));
        assert_eq!(per_chunk(&r)[..3], [Some(1), Some(1), Some(1)]);
    }

    #[test]
    fn one_more_than_the_chunks_without_a_stop_stays_unknown() {
        let r = request().content([20, 30, 40]).finish("length").usage(5, 4).build();
        let t = of(&r);
        assert_eq!((t.cut, t.total), (Cut::Unknown, Some(4)));
        assert!(t.differs_from_chunks());
        assert_eq!(per_chunk(&r), [None, None, None, Some(0)]);
    }

    #[test]
    fn what_the_server_says_chunk_by_chunk_wins() {
        let r = request().content_with_tokens([(20, 1), (30, 4), (40, 3)]).usage(5, 8).build();
        let t = of(&r);
        assert_eq!((t.cut, t.total, t.chunks), (Cut::Continuous, Some(8), 3));
        assert!(!t.differs_from_chunks());
        assert_eq!(per_chunk(&r)[..3], [Some(1), Some(4), Some(3)]);
    }

    #[test]
    fn counts_by_chunk_that_contradict_the_total_are_not_trusted() {
        let r = request().content_with_tokens([(20, 1), (30, 24)]).usage(5, 20).build();
        assert_eq!((of(&r).cut, of(&r).total), (Cut::Unknown, Some(20)));
    }

    #[test]
    fn tokens_counted_after_the_last_text_were_generated_but_not_delivered() {
        let r = request().content_with_tokens([(20, 1), (30, 4)]).usage(5, 20).build();
        let t = of(&r);
        assert_eq!((t.cut, t.total, t.delivered), (Cut::Continuous, Some(20), Some(5)));
    }

    #[test]
    fn counts_for_some_chunks_only_are_no_count_by_chunk() {
        let r = request().content_with_tokens([(20, 1)]).content([30]).usage(5, 9).build();
        assert_eq!((of(&r).cut, of(&r).total), (Cut::Unknown, Some(9)));
    }

    #[test]
    fn counts_by_chunk_stand_without_a_total() {
        let r = request().content_with_tokens([(20, 2), (30, 2)]).build();
        let t = of(&r);
        assert_eq!((t.cut, t.total, t.source), (Cut::Continuous, Some(4), Some(TokenSource::Usage)));
    }

    #[test]
    fn without_usage_one_token_a_chunk_is_assumed_and_named_so() {
        let r = request().content([20, 30]).build();
        let t = of(&r);
        assert_eq!((t.cut, t.total, t.source), (Cut::Assumed, Some(2), Some(TokenSource::Chunks)));
    }

    #[test]
    fn a_total_of_zero_beside_text_is_no_total() {
        let r = request().content([20, 30]).usage(5, 0).build();
        assert_eq!(of(&r).cut, Cut::Assumed);
    }

    #[test]
    fn nothing_received_is_unknown_and_not_zero() {
        let t = of(&request().build());
        assert_eq!((t.cut, t.total, t.source), (Cut::Nothing, None, None));
    }

    #[test]
    fn reasoning_that_was_not_sent_is_generated_and_did_not_arrive() {
        let mut r = request().content([20, 30, 40]).done(9_000).usage(5, 1_003).build();
        r.usage.as_mut().unwrap().reasoning_tokens = Some(1_000);
        let t = of(&r);
        assert_eq!((t.cut, t.total, t.delivered), (Cut::OneEach, Some(1_003), Some(3)));
    }

    #[test]
    fn chunks_are_counted_where_the_total_cannot_be_true() {
        let r = request().content_with_tokens([(20, 1), (30, 1)]).usage(5, u64::MAX).build();
        assert_eq!(
            (of(&r).cut, of(&r).total, of(&r).source),
            (Cut::Assumed, Some(2), Some(TokenSource::Chunks))
        );
        assert_eq!(output_tokens(&r), Some(2));
    }
}
