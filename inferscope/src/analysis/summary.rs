//! A phase in a line, for who watches the run.
//!
//! Owns which figures these are; their arithmetic is that of the report. Made by `load_aggregate`, shown by `run`.

use crate::units::Nanos;

use super::load_totals::Fold;
use super::timing::rate;

/// What a phase came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    pub ok: u64,
    /// Without those that Ctrl-C ended.
    pub failed: u64,
    pub output_tokens_per_s: Option<f64>,
    pub ttft_p50: Option<Nanos>,
    pub ttft_p99: Option<Nanos>,
}

impl Summary {
    pub(super) fn of(phase: &Fold) -> Self {
        let sums = &phase.sums;
        let ttft = |q| phase.distributions.ttft.quantile(q).map(Nanos);
        Self {
            ok: sums.ok,
            failed: sums.failed().saturating_sub(sums.cut_off),
            output_tokens_per_s: sums
                .tokens_in_windows()
                .zip(sums.window_length())
                .and_then(|(n, window)| rate(n, window)),
            ttft_p50: ttft(0.5),
            ttft_p99: ttft(0.99),
        }
    }
}
