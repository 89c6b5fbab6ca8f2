//! What makes which figure doubtful.
//!
//! Owns the codes, levels and words: `invalid` means that no figure of the load holds, `warn` names
//! the figures to doubt, `ok` is for the record. Never changes a figure. Called by `analysis`.

use crate::event::{FailureKind, GpuLog, Loss, Observation, ProcessRecord, TrackerKind};
use crate::report::model::{self, Level, TokenSource, Validity};

use super::Inputs;
use super::idle::idle_target;
use super::requests::Answer;

/// The worst first.
pub(super) fn validity(
    inputs: &Inputs<'_>,
    answers: &[Answer<'_>],
    load: Option<&model::Load>,
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
        Some(observation) => observed(&mut all, inputs, observation),
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

fn observed(all: &mut Entries, inputs: &Inputs<'_>, o: &Observation) {
    if let Some(message) = idle_target(o, &inputs.target) {
        all.warn("idle_target", message);
    }
    if !inputs.target.descendants {
        all.warn("no_descendants", "only the given pid was watched: its children are in no figure");
    }
    let because = o.tracker_reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
    if o.tracker == TrackerKind::Proc {
        all.warn(
            "tracker_proc",
            format!(
                "processes were followed by polling /proc{because}: what lives between two looks is missed, so \
                 process counts and CPU are lower bounds"
            ),
        );
    } else if !o.tracker_is_complete {
        all.warn(
            "tracker_incomplete",
            format!("the tracker cannot promise that it saw every process{because}: counts and CPU are lower bounds"),
        );
    }
    losses(all, &o.loss);
    provisional(all, o);
    sampling(all, o);
    if o.target_ended.is_some() {
        all.warn("target_ended", "the target ended during the run: later figures hold nothing of it");
    }
}

/// The kernel's figure at exit lacks what the last time slice used (0.1–2.3 ms, FACTS.md); the final
/// one comes when the process is reaped and its task freed.
fn provisional(all: &mut Entries, o: &Observation) {
    let provisional = |p: &&ProcessRecord| p.exited.is_some() && p.cpu.is_some() && !p.cpu_is_final;
    let n = o.processes.iter().filter(provisional).count();
    if o.tracker == TrackerKind::Ebpf && n > 0 {
        all.warn(
            "cpu_not_final",
            format!("{n} ended processes have their CPU as of their exit: up to 3 ms short each"),
        );
    }
}

fn losses(all: &mut Entries, loss: &Loss) {
    let mut lost = |n: u64, code: &str, what: &str| {
        if n > 0 {
            all.warn(code, format!("{n} {what}"));
        }
    };
    lost(
        loss.ring_full,
        "lost_ring_full",
        "kernel records did not fit the ring: processes, and what they cost, may be missing from the list",
    );
    lost(
        loss.unmarked,
        "lost_unmarked",
        "processes could not be followed: they and their descendants are in no figure",
    );
    lost(
        loss.undecodable,
        "lost_undecodable",
        "kernel records could not be decoded: processes may be missing from the list",
    );
    lost(
        loss.unreadable,
        "lost_unreadable",
        "readings of processes were refused by /proc or came too late: memory, threads and CPU are lower bounds",
    );
    lost(
        loss.unlisted_processes,
        "unlisted_processes",
        "processes are counted but not listed, the list had reached its bound: those that live are in no memory, \
         thread or CPU figure, those that ended in CPU alone",
    );
    if loss.unlisted_events > 0 {
        all.ok(
            "unlisted_events",
            format!("{} events are not listed: the list had reached its bound", loss.unlisted_events),
        );
    }
}

fn sampling(all: &mut Entries, o: &Observation) {
    if o.samples.is_empty() {
        all.warn("no_samples", "the set was never sampled: memory and threads over time are unknown");
    }
    if o.sample_overruns > 0 {
        all.warn(
            "sample_overruns",
            format!(
                "{} samples came more than an interval late: peaks of memory, threads and CPU percent may be missed",
                o.sample_overruns
            ),
        );
    }
    if o.samples_thinned > 0 {
        all.ok(
            "samples_thinned",
            format!(
                "{} samples were dropped to bound the list: the interval kept is longer",
                o.samples_thinned
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
