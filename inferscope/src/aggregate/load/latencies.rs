//! The times of the measured requests that succeeded.
//!
//! Owns which times of a request enter which distribution. Failed and warm-up requests enter none. Never tells tokens from
//! chunks (`tokens` does). Fed by the load's aggregate, when a request has ended.

use crate::clock::Mono;
use crate::event::ChunkKind;
use crate::units::Nanos;

use super::distribution::{Distribution, Recorded};
use super::request_figures::RequestFigures;
use super::streams::Stream;

/// The values of the measured requests that worked. Some 1.6 MB, however many there are.
#[derive(Debug, Clone)]
pub(crate) struct Latencies<D = Distribution> {
    pub(crate) ttft: D,
    pub(crate) ttfo: D,
    pub(crate) inter_chunk: D,
    pub(crate) inter_token: D,
    pub(crate) tpot: D,
    pub(crate) e2e: D,
    /// Σ of the tokens after the first chunk and Σ (last − first) over the choices where they are known.
    pub(crate) decode_tokens: u64,
    pub(crate) decode_time: Nanos,
    /// Choices of two chunks with text and more of which they are not.
    pub(crate) paceless: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self {
            ttft: Distribution::new(),
            ttfo: Distribution::new(),
            inter_chunk: Distribution::new(),
            inter_token: Distribution::new(),
            tpot: Distribution::new(),
            e2e: Distribution::new(),
            decode_tokens: 0,
            decode_time: Nanos::ZERO,
            paceless: 0,
        }
    }

    /// A measured request that worked.
    pub(crate) fn record(&mut self, answer: &RequestFigures<'_>) {
        let r = answer.request;
        let asked = r.waited_from();
        let known = |t: Mono| !answer.late.sent && !answer.late.is_late(t);
        if known(r.done) {
            self.e2e.record(r.done.since(asked));
        }
        let Some(first) = answer.first_token() else { return };
        if known(first) {
            self.ttft.record(first.since(asked));
        }
        if let Some(output) = answer.text_chunks().find(|c| c.kind != ChunkKind::Reasoning)
            && known(output.t)
        {
            self.ttfo.record(output.t.since(asked));
        }
        for gap in answer.gaps() {
            self.inter_chunk.record(gap);
        }
        for stream in &answer.streams {
            self.record_inter_token(answer, stream);
        }
        self.paceless += answer.streams.iter().filter(|stream| stream.span().is_some()).count() as u64;
        for pace in answer.paces() {
            self.tpot.record(pace.tpot);
            self.decode_tokens = self.decode_tokens.saturating_add(pace.tokens);
            self.decode_time += pace.time;
            self.paceless -= 1;
        }
    }

    /// What they came to.
    pub(crate) fn recorded(&self) -> Latencies<Option<Recorded>> {
        Latencies {
            ttft: self.ttft.recorded(),
            ttfo: self.ttfo.recorded(),
            inter_chunk: self.inter_chunk.recorded(),
            inter_token: self.inter_token.recorded(),
            tpot: self.tpot.recorded(),
            e2e: self.e2e.recorded(),
            decode_tokens: self.decode_tokens,
            decode_time: self.decode_time,
            paceless: self.paceless,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.ttft += &other.ttft;
        self.ttfo += &other.ttfo;
        self.inter_chunk += &other.inter_chunk;
        self.inter_token += &other.inter_token;
        self.tpot += &other.tpot;
        self.e2e += &other.e2e;
        self.decode_tokens = self.decode_tokens.saturating_add(other.decode_tokens);
        self.decode_time += other.decode_time;
        self.paceless += other.paceless;
    }

    /// A gap before a chunk of k tokens counts k times as a k-th of it, so that the distribution is
    /// over tokens. Tokens that came without text (withheld by the server's detokeniser) belong to
    /// the next chunk with text, and so does the time before text that held no token of its own.
    fn record_inter_token(&mut self, answer: &RequestFigures<'_>, stream: &Stream<'_>) {
        let mut from: Option<Mono> = None;
        let mut withheld = 0u64;
        for chunk in stream.chunks() {
            let Some(tokens) = answer.tokens.in_chunk(chunk) else { return };
            let k = withheld.saturating_add(tokens.into());
            if !chunk.kind.has_tokens() {
                withheld = k;
                continue;
            }
            match from {
                Some(earlier) if k > 0 && (answer.late.is_late(earlier) || answer.late.is_late(chunk.t)) => {
                    from = Some(chunk.t);
                }
                Some(earlier) if k > 0 => {
                    self.inter_token.record_split(chunk.t.since(earlier), k);
                    from = Some(chunk.t);
                }
                Some(_) => {}
                None => from = Some(chunk.t),
            }
            withheld = 0;
        }
    }
}
