//! Tokens over time: how many arrived in each bucket of the run's timeline.
//!
//! Owns what a bucket holds of them. A chunk is no token: where the server doesn't tell how its total was cut into chunks,
//! chunks are counted and their tokens are not guessed. Fed by the load's aggregate.

use crate::aggregate::timeline::{Bucket, Timeline};

use super::request_figures::RequestFigures;

/// Chunks with text that arrived in a stretch of time, whoever asked for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Of the chunks whose tokens are known.
    pub(crate) tokens: u64,
    pub(crate) chunks: u64,
    /// Chunks whose tokens are not.
    pub(crate) unknown: u64,
}

impl Bucket for Arrived {
    /// The tokens of one chunk with text, where they are known.
    type Value = Option<u32>;

    fn record(&mut self, tokens: Option<u32>) {
        self.chunks += 1;
        self.unknown += u64::from(tokens.is_none());
        self.tokens += u64::from(tokens.unwrap_or(0));
    }

    fn merge(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.chunks += other.chunks;
        self.unknown += other.unknown;
    }
}

/// The chunks of one request that has ended.
pub(crate) fn record(series: &mut Timeline<Arrived>, answer: &RequestFigures<'_>) {
    for chunk in answer.text_chunks() {
        series.record(chunk.t, answer.tokens.in_chunk(chunk));
    }
}
