//! The report's own definitions: those of the catalogue, and the terms that they are put in.
//!
//! Owns the words for what is no figure: a window, a distribution, an error.

use std::collections::BTreeMap;

use super::{CONNECT, CPU, ENERGY, Figure, LATENCIES, RATES};
use crate::report::model::TokenSource;

const TIMING: &[(&str, &str)] = &[
    (
        "window",
        "what rates, CPU, energy and requests in flight are of. It begins with the measured part: after warm-up, and \
         where a ramp has reached its full height. Where --duration ended the load it ends with it, and what was still \
         under way is the tail; else it ends with the last byte. An interruption ends it",
    ),
    (
        "steady",
        "the part of the measured part in which the load was full: up to the send of the last request, or the end of \
         --duration",
    ),
    (
        "Dist",
        "nanoseconds; failed and warm-up requests are in none; stddev is of the population; percentiles to \
         three significant digits, the rest exact",
    ),
    (
        "repeat",
        "--repeat: the mean over the runs and its 95% interval, mean / f to mean x f with f = exp(t x s / (mean x sqrt n)): \
         Student's t on a logarithmic scale, as no figure is below 0; s is the runs' sample deviation",
    ),
    (
        "percentiles",
        "the text leaves out a p99 of fewer than 100 values and a p99.9 of fewer than 1,000: of so few they are the \
         maximum, or next to it",
    ),
];

const COSTS: &[(&str, &str)] = &[(
    "error",
    "by an energy counter a bound: the truth is within it as far as the driver's figures are true. By readings of power \
     a 95% interval: readings are samples of a power that nobody sees whole (their deviation, or what so few can have \
     missed up to the power limit; no more of them than the device refreshes), and 5%, NVML's own accuracy. Beyond 25% \
     of the figure it is withheld",
)];

/// `timing.definitions`.
#[must_use]
pub fn timing_definitions(source: Option<TokenSource>) -> BTreeMap<String, String> {
    let tokens = match source {
        Some(TokenSource::Usage) => {
            "the server's usage.completion_tokens: includes reasoning, and where the server counts it the \
             end-of-sequence token that is never sent (n in tpot_ns leaves that one out)"
        }
        Some(TokenSource::Chunks) => {
            "chunks with text: at least one answer came without usage, and one token a chunk is ASSUMED for \
             it here, in tpot_ns and in inter_token_ns"
        }
        None => "unknown: no answer told",
    };
    let figures = named(LATENCIES).chain(named(RATES)).chain(named(CONNECT));
    let terms = TIMING.iter().copied().chain([("output_tokens", tokens)]);
    owned(figures.chain(terms))
}

/// `efficiency.definitions`.
#[must_use]
pub fn cost_definitions() -> BTreeMap<String, String> {
    owned(named(CPU).chain(named(ENERGY)).chain(COSTS.iter().copied()))
}

/// Every term, for the documents.
#[cfg(test)]
pub(super) fn terms() -> impl Iterator<Item = (&'static str, &'static str)> {
    TIMING.iter().chain(COSTS).copied()
}

fn named<S>(figures: &'static [Figure<S>]) -> impl Iterator<Item = (&'static str, &'static str)> {
    figures.iter().map(|figure| (figure.about.name(), figure.about.definition))
}

fn owned(all: impl Iterator<Item = (&'static str, &'static str)>) -> BTreeMap<String, String> {
    all.map(|(name, words)| (name.to_owned(), words.to_owned())).collect()
}
