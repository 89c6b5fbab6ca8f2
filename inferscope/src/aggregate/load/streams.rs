//! The choices of an answer, each as a stream of its own.
//!
//! Owns which chunks are of which choice, and what is between them: gaps, the tokens after the first chunk, the mean
//! time of a token. Choices are made beside each other, so that what lies between chunks of two of them is no pace of
//! anything. Called by `request_figures` and `latencies`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::clock::Mono;
use crate::event::{Choice, Chunk, RequestLog};
use crate::units::Nanos;

use super::tokens::{Cut, Tokens};

/// Chunks that are nearer to each other came together.
pub(crate) const TOGETHER: Nanos = Nanos(100_000);
/// Where the tokens of the first chunk are not known, they are taken by its part of the text, if that is at most this.
const MOST_FIRST_PART: f64 = 0.05;

/// The chunks of one choice, in the order of arrival.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stream<'a>(Cow<'a, [Chunk]>);

/// One a choice. Where there are several, what is of no choice is in none of them.
pub(crate) fn streams(request: &RequestLog) -> Vec<Stream<'_>> {
    let mut choices = request.chunks.iter().filter_map(|c| c.choice);
    let first = choices.next();
    if choices.all(|choice| Some(choice) == first) {
        return vec![Stream(Cow::Borrowed(&request.chunks))];
    }
    let mut of: BTreeMap<_, Vec<Chunk>> = BTreeMap::new();
    for chunk in &request.chunks {
        if let Some(choice) = chunk.choice {
            of.entry(choice).or_default().push(*chunk);
        }
    }
    of.into_values().map(|chunks| Stream(Cow::Owned(chunks))).collect()
}

impl Stream<'_> {
    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.0
    }

    /// The chunks that hold generated text.
    pub(crate) fn text(&self) -> impl DoubleEndedIterator<Item = &Chunk> {
        self.0.iter().filter(|c| c.kind.has_tokens())
    }

    /// Between successive chunks with text.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (Mono, Mono)> {
        self.text().zip(self.text().skip(1)).map(|(a, b)| (a.t, b.t))
    }

    /// Its choice; `None` where no chunk is of one.
    pub(crate) fn choice(&self) -> Option<Choice> {
        self.0.iter().find_map(|chunk| chunk.choice)
    }

    /// From the first chunk with text to the last; `None` where there is one.
    pub(crate) fn span(&self) -> Option<(Mono, Mono)> {
        let mut text = self.text();
        let first = text.next()?;
        text.next_back().map(|last| (first.t, last.t))
    }

    /// Chunks with text that came together with the first one, that one included.
    pub(crate) fn first_burst(&self) -> usize {
        1 + self.gaps().take_while(|(from, to)| to.since(*from) < TOGETHER).count()
    }

    /// Tokens that arrived after the first chunk with text and what came with it, up to the last one. `None` where it is
    /// not known how many those held, and where nothing came after them.
    pub(crate) fn after_first(&self, tokens: &Tokens, alone: bool) -> Option<u64> {
        let burst = self.first_burst();
        if tokens.cut == Cut::Unknown {
            return if alone { self.after_first_of(burst, tokens.delivered?) } else { None };
        }
        let text = |(at, chunk): (usize, &Chunk)| chunk.kind.has_tokens().then_some(at);
        let mut text = self.0.iter().enumerate().filter_map(text);
        let first = text.nth(burst - 1)?;
        let last = text.next_back()?;
        let told = self.0[first + 1..=last].iter().map(|c| tokens.in_chunk(c).map(u64::from));
        told.sum::<Option<u64>>().filter(|n| *n > 0)
    }

    /// Of so many tokens of which it is not known how they were cut; the first `burst` chunks came together.
    fn after_first_of(&self, burst: usize, delivered: u64) -> Option<u64> {
        let chunks = self.text().count() as u64;
        let bytes =
            |chunks: &mut dyn Iterator<Item = &Chunk>| chunks.map(|c| u64::from(c.bytes)).sum::<u64>();
        let (first, all) = (bytes(&mut self.text().take(burst)), bytes(&mut self.text()));
        // Fewer than there were pieces, or more than there were bytes: others than those that arrived.
        if burst as u64 >= chunks || delivered < chunks || delivered > all {
            return None;
        }
        // One more here or there in nearly as many chunks.
        if (delivered - chunks) * 20 < chunks {
            return Some(delivered - burst as u64);
        }
        let part = first as f64 / all as f64;
        let held = (part * delivered as f64).round().max(1.0);
        (part <= MOST_FIRST_PART).then(|| delivered - held as u64)
    }

    /// The mean time of a token after the first chunk, how many those are, and the time that they took.
    pub(crate) fn pace(&self, tokens: &Tokens, alone: bool) -> Option<Pace> {
        let (first, last) = self.span()?;
        let (tokens, time) = (self.after_first(tokens, alone)?, last.since(first));
        Some(Pace { tpot: Nanos(time.0 / tokens), tokens, time })
    }
}

/// Of a stream after its first chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) tpot: Nanos,
    pub(crate) tokens: u64,
    pub(crate) time: Nanos,
}
