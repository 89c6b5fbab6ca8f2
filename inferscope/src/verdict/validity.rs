//! What makes which figure doubtful.
//!
//! Owns the codes, levels and words: `invalid` means that no figure of the load holds, `warn` names
//! the figures to doubt, `ok` is for the record. Never changes a figure. Called for the report.

mod client;
mod processes;

use crate::aggregate::load::LoadTotals;
use crate::aggregate::load::totals::Totals;
use crate::aggregate::load::usage::Impossible;
use crate::event::{FailureKind, GpuLog};
use crate::figures::load::LoadFigures;
use crate::figures::set::SetFigures;
use crate::plan::{PromptPlan, Shape};

use super::RunFacts;
use super::doubt::{Doubt, DoubtCode, DoubtLevel};
use client::InTheWay;

/// Share by which made prompts may miss the tokens that were asked for.
const INPUT_TOLERANCE: f64 = 0.1;

/// Share by which the rate sent may miss the one asked for.
const RATE_TOLERANCE: f64 = 0.03;

/// In the order of the rules.
pub(crate) fn doubts(
    run: &RunFacts<'_>,
    load: Option<&LoadFigures<'_>>,
    set: Option<&SetFigures<'_>>,
) -> Vec<Doubt> {
    let mut all = Entries::default();
    if run.is_demo {
        all.warn(
            DoubtCode::SyntheticTokens,
            "the demo's server makes up its tokens at a fixed pace: no figure says anything about a model",
        );
    }
    if run.interrupted {
        all.warn(DoubtCode::Interrupted, "the run was interrupted: it holds what was measured until then");
    }
    if let Some(load) = load {
        let measured = load.totals;
        requests(&mut all, &measured.all);
        tokens(&mut all, &measured.all);
        served_model(&mut all, run, &measured.all);
        // Of a sweep the first step where it shows.
        if let Some(doubt) = measured.steps.iter().find_map(|step| step.totals.bursts.doubt()) {
            all.warn(DoubtCode::BurstyStream, doubt);
        }
        listed(&mut all, measured);
        for InTheWay { level, code, why } in client::in_the_way(load) {
            let verdict = match level {
                DoubtLevel::Invalid => {
                    "inferscope itself was the bottleneck, so the figures are not the server's alone"
                }
                DoubtLevel::Warn | DoubtLevel::ForTheRecord => "inferscope itself was slow for a moment",
            };
            all.push(level, code, format!("{verdict}: {why}; give it a CPU of its own, or less load"));
        }
        let is_sweep = measured.is_sweep;
        for why in load.steps.iter().filter(|_| !is_sweep).filter_map(|step| step.saturated) {
            all.warn(
                DoubtCode::ServerSaturated,
                format!("the server is saturated: {why}; its latencies grow with the length of the run"),
            );
        }
        offered_rate(&mut all, measured);
        input_tokens(&mut all, run, measured);
        prompts(&mut all, run, measured);
        let client = &measured.client;
        if client.unstamped_reads > 0 {
            let stamped = client.read_lag.as_ref().map_or(0, |lag| lag.len());
            all.warn(
                DoubtCode::ReadsUnstamped,
                format!(
                    "{} of {} reads had no time of the kernel's: their tokens are stamped when they were read, and how \
                     late that was is unknown",
                    client.unstamped_reads,
                    stamped + client.unstamped_reads
                ),
            );
        }
    }
    match set {
        Some(set) => processes::observed(&mut all, run, set, load.is_some()),
        None => all.warn(
            DoubtCode::NoTarget,
            format!("no process was observed: {}; CPU, memory and processes are unknown", run.unobserved),
        ),
    }
    gpu(&mut all, run.gpu);
    all.0
}

#[derive(Default)]
struct Entries(Vec<Doubt>);

impl Entries {
    fn push(&mut self, level: DoubtLevel, code: DoubtCode, message: impl Into<String>) {
        self.0.push(Doubt { level, code, message: message.into() });
    }

    fn warn(&mut self, code: DoubtCode, message: impl Into<String>) {
        self.push(DoubtLevel::Warn, code, message);
    }

    fn ok(&mut self, code: DoubtCode, message: impl Into<String>) {
        self.push(DoubtLevel::ForTheRecord, code, message);
    }
}

fn requests(all: &mut Entries, sums: &Totals) {
    let sent = sums.sent;
    let limited = sums.failures.of(FailureKind::ClientLimit);
    if let Some((count, _, why)) = limited {
        all.push(
            DoubtLevel::Invalid,
            DoubtCode::ClientLimit,
            format!(
                "{count} requests were not sent, by a limit of this client's and not by the server: the load is another \
                 than the one asked for; {why}"
            ),
        );
    }
    if sums.ok == 0 {
        let message = match sent {
            0 => "no measured request was sent: there are no latencies and no rates".to_owned(),
            n => format!("none of the {n} measured requests succeeded: there are no latencies and no rates"),
        };
        all.push(DoubtLevel::Invalid, DoubtCode::AllRequestsFailed, message);
        return;
    }
    let by_limit = limited.map_or(0, |(count, warmup, _)| count - warmup);
    let failed = sums.failed().saturating_sub(sums.cut_off + by_limit);
    if failed > 0 {
        all.warn(
            DoubtCode::RequestsFailed,
            format!(
                "{failed} of {sent} requests failed: the latencies are of those that worked, the rates count the \
                 time of both"
            ),
        );
    }
}

fn tokens(all: &mut Entries, sums: &Totals) {
    let Impossible { completions, prompts, example } = &sums.impossible;
    if completions + prompts > 0 {
        let what = match (completions, prompts) {
            (n, 0) => format!("of completion tokens in {n} of {} answers", sums.ok),
            (0, n) => format!("of prompt tokens in {n} of {} answers", sums.ok),
            (a, b) => {
                format!("of completion tokens in {a} and of prompt tokens in {b} of {} answers", sums.ok)
            }
        };
        let example = example.as_deref().unwrap_or("not told");
        all.warn(
            DoubtCode::UsageImpossible,
            format!(
                "the server told counts {what} that can't be true ({example}): they are not used; chunks are counted \
                 in place of completion tokens, and sums of prompt tokens are unknown"
            ),
        );
    }
    if sums.beyond_limit > 0 {
        all.warn(
            DoubtCode::MaxTokensExceeded,
            format!(
                "{} of {} answers hold more text than max_tokens allows: the server does not keep it, so answers are \
                 longer than asked for",
                sums.beyond_limit, sums.ok
            ),
        );
    }
    if sums.by_chunks > 0 {
        all.warn(
            DoubtCode::TokensAssumed,
            format!(
                "{} of {} answers came without usage that can be used: one token a chunk is assumed, in tokens/s, inter-token \
                 latency and tpot",
                sums.by_chunks, sums.ok
            ),
        );
    }
    let differing = sums.differing;
    if differing.answers > 0 {
        all.warn(
            DoubtCode::UsageDiffersFromChunks,
            format!(
                "in {} of {} answers the server counts {} tokens, but {} chunks held text: a gap is between \
                 chunks there, inter-token latency leaves them out, and TPOT and decoding take the first chunk's \
                 tokens by its part of the text, or leave the answer out where that part is large",
                differing.answers, sums.ok, differing.tokens, differing.chunks,
            ),
        );
    }
}

fn served_model(all: &mut Entries, run: &RunFacts<'_>, sums: &Totals) {
    let Some(asked) = run.asked_model else { return };
    if sums.other_models.is_empty() {
        return;
    }
    let others: Vec<&str> = sums.other_models.iter().map(String::as_str).collect();
    all.warn(
        DoubtCode::ModelDiffers,
        format!(
            "asked for model '{asked}', answered as '{}': the figures are of the latter",
            others.join("', '")
        ),
    );
}

/// Whoever reads a knee or a latency under a rate has to know that it was another.
fn offered_rate(all: &mut Entries, measured: &LoadTotals) {
    let off = measured.steps.iter().filter_map(|done| {
        let (Shape::Open { per_second, .. }, Some(offered)) = (done.shape, done.offered()) else {
            return None;
        };
        // Nobody sends a part of a request.
        let missed = (done.totals.sent as f64 * (per_second / offered - 1.0)).abs();
        let is_off = (offered / per_second - 1.0).abs() > RATE_TOLERANCE && missed > 1.0;
        is_off.then(|| format!("{offered:.3} of {per_second} a second"))
    });
    let off: Vec<String> = off.collect();
    if !off.is_empty() {
        all.warn(
            DoubtCode::OfferedRate,
            format!(
                "another rate was sent than the one asked for ({}): latencies, saturation and knee are of what was sent",
                off.join(", ")
            ),
        );
    }
}

/// What a prefix cache may have known. Nothing tells it from the server's own speed.
fn prompts(all: &mut Entries, run: &RunFacts<'_>, measured: &LoadTotals) {
    let phases = || measured.phases();
    let requests = measured.all.sent + measured.all.warmup;
    if phases().any(|p| p.prompts == Some(1)) {
        if requests > 1 {
            all.warn(
                DoubtCode::PromptsIdentical,
                format!(
                    "all {requests} requests sent the same prompt: TTFT is of a warm prefix cache, where the server has \
                     one (--input-tokens, or no --prompt, begins each request otherwise)"
                ),
            );
        }
        return;
    }
    let plan = run.plan.load.as_ref();
    let from_file =
        plan.is_some_and(|plan| matches!(plan.prompts, PromptPlan::Lines(_) | PromptPlan::Dataset(_)));
    if from_file && phases().count() > 1 {
        all.warn(
            DoubtCode::PromptsInEachPhase,
            "each step and each repetition sends the file's same prompts: a prefix cache may have had them from the one \
             before (--input-tokens makes new ones each time)",
        );
    }
    let again = phases().map(|p| p.prompts_again).sum::<u64>();
    if again > 0 {
        all.warn(
            DoubtCode::PromptsRepeated,
            format!(
                "{again} prompts were sent again, as the file holds fewer: a prefix cache may have had them"
            ),
        );
    }
}

/// Made prompts are counted in words; what the server counts is the truth.
fn input_tokens(all: &mut Entries, run: &RunFacts<'_>, measured: &LoadTotals) {
    if let Some(by) = measured.calibration {
        all.ok(
            DoubtCode::InputTokensCalibrated,
            format!(
                "{} requests before the load told how the server counts made prompts: {:.2} tokens a word, and {:.0} \
                 beside them",
                by.requests, by.tokens_a_word, by.tokens_beside
            ),
        );
    }
    let Some(PromptPlan::Synthetic { tokens, .. }) = run.plan.load.as_ref().map(|l| &l.prompts) else {
        return;
    };
    let asked = f64::from(*tokens);
    if let Some(mean) =
        measured.all.prompt.mean().filter(|mean| (mean - asked).abs() > INPUT_TOLERANCE * asked)
    {
        all.warn(
            DoubtCode::InputTokensDiffer,
            format!("prompts of {tokens} tokens were asked for; the server counted {mean:.0} on average"),
        );
    }
}

fn listed(all: &mut Entries, measured: &LoadTotals) {
    if measured.requests.unlisted + measured.requests.without_chunks == 0 {
        return;
    }
    all.ok(
        DoubtCode::RequestsNotListed,
        format!(
            "{} requests are listed without their chunks and {} not at all, as there are too many; every figure \
             holds them",
            measured.requests.without_chunks, measured.requests.unlisted
        ),
    );
}

/// No GPU makes nothing doubtful: what it would tell is null.
fn gpu(all: &mut Entries, gpu: &GpuLog) {
    if gpu.devices.is_empty() {
        all.ok(DoubtCode::GpuNone, format!("no GPU was observed: {}", crate::figures::cost::no_device(gpu)));
    }
}

#[cfg(test)]
mod tests;
