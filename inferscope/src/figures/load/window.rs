//! What was delivered in a stretch of the load, and its rates.
//!
//! Owns the division by the stretch's length. Called by `timing`.

use crate::aggregate::load::delivered::Stretch;
use crate::aggregate::load::phase_totals::rate;
use crate::clock::Window;
use crate::units::Nanos;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadWindow {
    /// One a repetition.
    pub(crate) windows: Vec<Window>,
    /// Of all together.
    pub(crate) length: Nanos,
    pub(crate) output_tokens: u64,
    /// Of them, of requests that failed.
    pub(crate) failed_output_tokens: u64,
    pub(crate) token_chunks: u64,
    /// Of the successful requests whose first token arrived in it.
    pub(crate) prompt_tokens: Option<u64>,
    /// That succeeded and ended in it.
    pub(crate) requests: u64,
    pub(crate) output_tokens_per_s: Option<f64>,
    pub(crate) total_tokens_per_s: Option<f64>,
    pub(crate) requests_per_s: Option<f64>,
}

impl LoadWindow {
    /// `a_chunk`: the tokens of a successful answer's chunk, on average. `None` where there was no window.
    pub(crate) fn of(stretch: &Stretch, a_chunk: f64) -> Option<Self> {
        let length = stretch.length()?;
        let delivered = &stretch.delivered;
        let tokens = delivered.tokens(a_chunk);
        let prompts = delivered.prompt.total();
        Some(Self {
            windows: stretch.windows.clone(),
            length,
            output_tokens: tokens,
            failed_output_tokens: delivered.tokens_of_failed(a_chunk),
            token_chunks: delivered.chunks,
            prompt_tokens: prompts,
            requests: delivered.requests,
            output_tokens_per_s: rate(tokens, length),
            total_tokens_per_s: prompts.and_then(|prompts| rate(tokens.saturating_add(prompts), length)),
            requests_per_s: rate(delivered.requests, length),
        })
    }
}
