//! The times of the measured requests that succeeded.
//!
//! Owns which latencies there are, which times of a request enter which distribution, and why one is empty. Failed and
//! warm-up requests enter none. Never tells tokens from chunks (`tokens` does). Fed by the load's aggregate, when a request
//! has ended; `figures` and `report::build` go through [`LatencyKind::ALL`].
//!
//! A new latency is a variant, its place in `ALL` and its [`Recipe`] here, a field of the report's model, and an entry of the
//! report's catalogue. A test fails where one of the three is missing.

use crate::clock::Mono;
use crate::event::ChunkKind;
use crate::reason::LoadReason;
use crate::units::Nanos;

use super::distribution::{Distribution, Recorded};
use super::request_figures::RequestFigures;
use super::streams::{Pace, Stream, TOGETHER};
use super::totals::Totals;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LatencyKind {
    Ttft,
    Ttfo,
    InterChunk,
    InterToken,
    InterBurst,
    Tpot,
    E2e,
}

/// How a latency comes to be.
struct Recipe {
    /// The name of its field in the report's model.
    name: &'static str,
    values: Values,
    /// Why it is empty, where requests succeeded and no stall left values out.
    why_empty: fn(&Totals, &Latencies<Recorded>) -> LoadReason,
    bursts: InBursts,
}

/// Where a latency's values come from.
enum Values {
    /// Recorded when a request has ended.
    Of(fn(&Answer<'_>, &mut Distribution)),
    /// Those of another latency that are not below a bound.
    NotBelow(LatencyKind, Nanos),
}

/// What a stream whose chunks come in bursts does to a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InBursts {
    Nothing,
    /// Its least value and its percentiles mean nothing.
    WithoutPercentiles,
    /// There is such a latency only then.
    Only,
}

/// What is read off a request.
struct Answer<'a> {
    figures: &'a RequestFigures<'a>,
    paces: Vec<Pace>,
}

impl LatencyKind {
    /// Each variant, in the order of their declaration.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Ttft,
        Self::Ttfo,
        Self::InterChunk,
        Self::InterToken,
        Self::InterBurst,
        Self::Tpot,
        Self::E2e,
    ];

    const fn recipe(self) -> Recipe {
        match self {
            Self::Ttft => Recipe {
                name: "ttft_ns",
                values: Values::Of(|answer, values| {
                    record_until(answer, answer.figures.first_token(), values);
                }),
                why_empty: |_, _| LoadReason::NoToken,
                bursts: InBursts::Nothing,
            },
            Self::Ttfo => Recipe {
                name: "ttfo_ns",
                values: Values::Of(|answer, values| {
                    let output = answer.figures.text_chunks().find(|c| c.kind != ChunkKind::Reasoning);
                    record_until(answer, output.map(|c| c.t), values);
                }),
                why_empty: |_, _| LoadReason::NoVisibleToken,
                bursts: InBursts::Nothing,
            },
            Self::InterChunk => Recipe {
                name: "inter_chunk_ns",
                values: Values::Of(|answer, values| {
                    answer.figures.gaps().for_each(|gap| values.record(gap));
                }),
                why_empty: |_, _| LoadReason::NoGap,
                bursts: InBursts::WithoutPercentiles,
            },
            Self::InterToken => Recipe {
                name: "inter_token_ns",
                values: Values::Of(|answer, values| {
                    let figures = answer.figures;
                    figures.streams.iter().for_each(|stream| record_inter_token(figures, stream, values));
                }),
                why_empty: |totals, _| {
                    let differ = totals.differing.answers > 0;
                    if differ { LoadReason::TokensOfChunksUnknown } else { LoadReason::NoGap }
                },
                bursts: InBursts::WithoutPercentiles,
            },
            Self::InterBurst => Recipe {
                name: "inter_burst_ns",
                values: Values::NotBelow(Self::InterChunk, TOGETHER),
                why_empty: |_, _| LoadReason::NoBurstGap,
                bursts: InBursts::Only,
            },
            Self::Tpot => Recipe {
                name: "tpot_ns",
                values: Values::Of(|answer, values| {
                    answer.paces.iter().for_each(|pace| values.record(pace.tpot));
                }),
                why_empty: |_, all| all.why_no_pace(),
                bursts: InBursts::Nothing,
            },
            Self::E2e => Recipe {
                name: "e2e_ns",
                values: Values::Of(|answer, values| {
                    record_until(answer, Some(answer.figures.request.done), values);
                }),
                why_empty: |_, _| LoadReason::NoneSucceeded,
                bursts: InBursts::Nothing,
            },
        }
    }

    /// Of its field in the report's model.
    pub(crate) const fn name(self) -> &'static str {
        self.recipe().name
    }

    pub(crate) const fn bursts(self) -> InBursts {
        self.recipe().bursts
    }

    /// Why it is empty, where requests succeeded and no stall left values out.
    pub(crate) fn why_empty(self, totals: &Totals, all: &Latencies<Recorded>) -> LoadReason {
        (self.recipe().why_empty)(totals, all)
    }
}

const COUNT: usize = LatencyKind::ALL.len();

const _: () = {
    let mut at = 0;
    while at < COUNT {
        assert!(LatencyKind::ALL[at] as usize == at, "`ALL` is in the order of the declaration");
        at += 1;
    }
};

/// The values of the measured requests that worked. Some 1.6 MB, however many there are.
#[derive(Debug, Clone)]
pub(crate) struct Latencies<D = Distribution> {
    /// In the order of `LatencyKind::ALL`. `None`: it is made from another's, or nothing was recorded.
    values: [Option<D>; COUNT],
    /// Σ of the tokens after the first chunk and Σ (last − first) over the choices where they are known.
    pub(crate) decode_tokens: u64,
    pub(crate) decode_time: Nanos,
    /// Choices of two chunks with text and more of which they are not.
    pub(crate) paceless: u64,
}

impl<D> Latencies<D> {
    /// What was recorded of it.
    pub(crate) fn get(&self, kind: LatencyKind) -> Option<&D> {
        self.values.get(kind as usize)?.as_ref()
    }
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self {
            values: std::array::from_fn(|at| match LatencyKind::ALL[at].recipe().values {
                Values::Of(_) => Some(Distribution::new()),
                Values::NotBelow(..) => None,
            }),
            decode_tokens: 0,
            decode_time: Nanos::ZERO,
            paceless: 0,
        }
    }

    /// A measured request that worked.
    pub(crate) fn record(&mut self, figures: &RequestFigures<'_>) {
        let answer = Answer { figures, paces: figures.paces().collect() };
        for (kind, values) in LatencyKind::ALL.iter().zip(&mut self.values) {
            if let (Values::Of(record), Some(values)) = (kind.recipe().values, values) {
                record(&answer, values);
            }
        }
        self.paceless += figures.streams.iter().filter(|stream| stream.span().is_some()).count() as u64;
        for pace in &answer.paces {
            self.decode_tokens = self.decode_tokens.saturating_add(pace.tokens);
            self.decode_time += pace.time;
            self.paceless -= 1;
        }
    }

    /// What they came to.
    pub(crate) fn recorded(&self) -> Latencies<Recorded> {
        Latencies {
            values: self.values.each_ref().map(|values| values.as_ref()?.recorded()),
            decode_tokens: self.decode_tokens,
            decode_time: self.decode_time,
            paceless: self.paceless,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (values, others) in self.values.iter_mut().zip(&other.values) {
            if let (Some(values), Some(others)) = (values, others) {
                *values += others;
            }
        }
        self.decode_tokens = self.decode_tokens.saturating_add(other.decode_tokens);
        self.decode_time += other.decode_time;
        self.paceless += other.paceless;
    }
}

impl Latencies<Recorded> {
    /// The latency's values; `None` where there are none.
    pub(crate) fn values(&self, kind: LatencyKind) -> Option<Recorded> {
        match kind.recipe().values {
            Values::Of(_) => self.get(kind).cloned(),
            Values::NotBelow(other, least) => self.get(other)?.from(least),
        }
    }

    /// Why no choice has a pace.
    pub(crate) const fn why_no_pace(&self) -> LoadReason {
        if self.paceless > 0 { LoadReason::TokensOfFirstChunkUnknown } else { LoadReason::NoGap }
    }
}

/// From the moment that the request waited from, unless a stall of the client's made one of the two unknown.
fn record_until(answer: &Answer<'_>, t: Option<Mono>, values: &mut Distribution) {
    let RequestFigures { request, late, .. } = answer.figures;
    if let Some(t) = t.filter(|t| !late.sent && !late.is_late(*t)) {
        values.record(t.since(request.waited_from()));
    }
}

/// A gap before a chunk of k tokens counts k times as a k-th of it, so that the distribution is
/// over tokens. Tokens that came without text (withheld by the server's detokeniser) belong to
/// the next chunk with text, and so does the time before text that held no token of its own.
fn record_inter_token(answer: &RequestFigures<'_>, stream: &Stream<'_>, values: &mut Distribution) {
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
                values.record_split(chunk.t.since(earlier), k);
                from = Some(chunk.t);
            }
            Some(_) => {}
            None => from = Some(chunk.t),
        }
        withheld = 0;
    }
}
