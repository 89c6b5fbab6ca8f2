//! What makes which figure doubtful.
//!
//! Owns the codes, levels and words: `invalid` means that no figure of the load holds, `warn` names
//! the figures to doubt, `ok` is for the record. Never changes a figure. Called by `analysis`.

mod set;

use crate::event::{FailureKind, GpuLog};
use crate::report::model::{self, Level, TokenSource, Validity};

use super::Inputs;
use super::requests::Answer;

/// The worst first.
pub(super) fn validity(
    inputs: &Inputs<'_>,
    answers: &[Answer<'_>],
    load: Option<&model::Load>,
    processes: &model::Processes,
) -> Vec<Validity> {
    let mut all = Entries::default();
    if inputs.mode == model::Mode::Demo {
        all.warn(
            "synthetic_tokens",
            "the demo's server makes up its tokens at a fixed pace: no figure says anything about a model",
        );
    }
    if inputs.interrupted {
        all.warn("interrupted", "the run was interrupted: it holds what was measured until then");
    }
    if let Some(load) = load {
        requests(&mut all, load, answers);
        tokens(&mut all, answers);
        served_model(&mut all, inputs, answers);
    }
    match inputs.observation {
        Some(observation) => set::observed(&mut all, inputs, observation, processes),
        None => all.warn(
            "no_target",
            format!(
                "no process was observed: {}; CPU, memory and processes are unknown",
                inputs.unobserved()
            ),
        ),
    }
    gpu(&mut all, inputs.gpu);
    all.0.extend(inputs.notes.iter().cloned());
    all.0.sort_by_key(|v| std::cmp::Reverse(v.level));
    all.0
}

#[derive(Default)]
struct Entries(Vec<Validity>);

impl Entries {
    fn push(&mut self, level: Level, code: &str, message: impl Into<String>) {
        self.0.push(Validity { level, code: code.to_owned(), message: message.into() });
    }

    fn warn(&mut self, code: &str, message: impl Into<String>) {
        self.push(Level::Warn, code, message);
    }

    fn ok(&mut self, code: &str, message: impl Into<String>) {
        self.push(Level::Ok, code, message);
    }
}

fn requests(all: &mut Entries, load: &model::Load, answers: &[Answer<'_>]) {
    let (sent, failed) = (load.requests_sent, load.requests_failed);
    if load.requests_ok == 0 {
        let message = match sent {
            0 => "no measured request was sent: there are no latencies and no rates".to_owned(),
            n => format!("none of the {n} measured requests succeeded: there are no latencies and no rates"),
        };
        all.push(Level::Invalid, "all_requests_failed", message);
        return;
    }
    let measured = answers.iter().filter(|a| !a.request.warmup);
    let kinds = measured.filter_map(|a| a.request.failure.as_ref()).map(|f| f.kind);
    let cut_off = kinds.filter(|k| *k == FailureKind::Interrupted).count() as u64;
    if failed > cut_off {
        all.warn(
            "requests_failed",
            format!(
                "{} of {sent} requests failed: the latencies are of those that worked, the rates count the \
                 time of both",
                failed - cut_off
            ),
        );
    }
}

fn tokens(all: &mut Entries, answers: &[Answer<'_>]) {
    let ok: Vec<&Answer<'_>> = answers.iter().filter(|a| a.counts()).collect();
    let assumed = ok.iter().filter(|a| a.tokens.source == Some(TokenSource::Chunks)).count();
    if assumed > 0 {
        all.warn(
            "tokens_assumed",
            format!(
                "{assumed} of {} answers came without usage: one token a chunk is assumed, in tokens/s, \
                 inter-token latency and tpot",
                ok.len()
            ),
        );
    }
    let differing: Vec<&&Answer<'_>> = ok.iter().filter(|a| a.tokens.differs_from_chunks()).collect();
    if !differing.is_empty() {
        let sum = |n: fn(&Answer<'_>) -> u64| differing.iter().fold(0u64, |sum, a| sum.saturating_add(n(a)));
        all.warn(
            "usage_differs_from_chunks",
            format!(
                "in {} of {} answers the server counts {} tokens, but {} chunks held text: a gap is between \
                 chunks there, inter-token latency leaves them out, and the rate of decoding errs by the first \
                 chunk's tokens",
                differing.len(),
                ok.len(),
                sum(|a| a.tokens.total.unwrap_or(0)),
                sum(|a| a.tokens.chunks),
            ),
        );
    }
}

fn served_model(all: &mut Entries, inputs: &Inputs<'_>, answers: &[Answer<'_>]) {
    let Some(asked) = inputs.model.as_deref() else { return };
    let served = answers.iter().filter_map(|a| a.request.served_model.as_deref());
    let mut others: Vec<&str> = served.filter(|s| *s != asked).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        all.warn(
            "model_differs",
            format!(
                "asked for model '{asked}', answered as '{}': the figures are of the latter",
                others.join("', '")
            ),
        );
    }
}

/// No GPU makes nothing doubtful: what it would tell is null.
fn gpu(all: &mut Entries, gpu: &GpuLog) {
    if gpu.devices.is_empty() {
        all.ok("gpu_none", format!("no GPU was observed: {}", super::no_gpu(gpu)));
    }
}

#[cfg(test)]
mod tests;
