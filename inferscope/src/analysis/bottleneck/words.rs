//! What a reader is told of a verdict, with the figures that it rests on.
//!
//! Owns headlines and advice. Each piece of advice is what the evidence carries, and names what would show it wrong. A part
//! of `bottleneck`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::report::model::{Gpu, Insight, LimitedBy, Severity, Sweep};

/// Tokens a second of the next step against this one's: more is a gain to speak of.
const GAIN: f64 = 1.1;

/// One for each device with a verdict: of the load, or of those steps of a sweep that have one.
pub(super) fn insights(gpus: &[Gpu], sweep: Option<&Sweep>) -> Vec<Insight> {
    let mut all = Vec::new();
    for (place, gpu) in gpus.iter().enumerate() {
        match sweep {
            None => {
                let limit = gpu.limited_by.filter(|limit| *limit != LimitedBy::Partial);
                all.extend(limit.map(|limit| insight(gpu, limit, &gpu.limited_by_evidence, "")));
            }
            Some(sweep) => all.extend(of_sweep(gpu, place, sweep)),
        }
    }
    all
}

/// Of steps with the same verdict the first speaks.
fn of_sweep(gpu: &Gpu, place: usize, sweep: &Sweep) -> Vec<Insight> {
    let mut all: Vec<(LimitedBy, Insight)> = Vec::new();
    for step in &sweep.steps {
        let told = step.devices.iter().find(|d| d.device == place);
        let Some((limit, told)) = told.and_then(|d| Some((d.limited_by?, d))) else { continue };
        if all.iter().any(|(known, _)| *known == limit) {
            continue;
        }
        let at = match (step.concurrency, step.rate_per_s) {
            (Some(n), _) => format!(" at concurrency {n}"),
            (None, Some(rate)) => format!(" at {rate} requests a second"),
            (None, None) => String::new(),
        };
        all.push((limit, insight(gpu, limit, &told.limited_by_evidence, &at)));
    }
    all.into_iter().map(|(_, insight)| insight).collect()
}

fn insight(gpu: &Gpu, limit: LimitedBy, evidence: &BTreeMap<String, Value>, at: &str) -> Insight {
    let name = gpu.name.as_deref().unwrap_or("no name");
    let device = format!("device {} ({name}){at}", gpu.index);
    let of = |figure: &str| evidence.get(figure).and_then(Value::as_f64);
    let percent =
        |figure: &str| of(figure).map_or_else(|| "an unknown part".to_owned(), |p| format!("{p:.0}%"));
    let worked =
        if evidence.get("busy_source") == Some(&json!("counters")) { "it had work" } else { "kernels ran" };
    let busy = format!("{worked} {} of the time", percent("busy_percent"));
    let units = format!(
        "SMs active {}, occupancy {}; tensor units {}, integer {}, memory bandwidth {}",
        percent("sm_active_percent"),
        percent("sm_occupancy_percent"),
        percent("tensor_percent"),
        percent("integer_percent"),
        percent("dram_percent")
    );
    let (code, headline, advice) = match limit {
        LimitedBy::Tensor => (
            "gpu_tensor_bound",
            format!("{device} is limited by its tensor units: in use {}; {busy}", percent("tensor_percent")),
            "less to compute helps: lower precision, shorter prompts, a prefix cache; more requests at a time are unlikely to \
             give much more"
                .to_owned(),
        ),
        LimitedBy::Compute | LimitedBy::Partial => (
            "gpu_compute_bound",
            format!("{device} is limited by its units outside of the tensor units: {busy}; {units}"),
            "kernels that use the tensor units would take that work off them; whether more requests at a time bring them in \
             shows a sweep"
                .to_owned(),
        ),
        LimitedBy::Bandwidth => (
            "gpu_memory_bound",
            format!(
                "{device} is limited by its memory's bandwidth: {} of it in use; {busy}",
                percent("dram_percent")
            ),
            "smaller weights (quantisation) are read faster; requests that are worked on together share a reading of the \
             weights, not of their caches"
                .to_owned(),
        ),
        LimitedBy::Latency => (
            "gpu_latency_bound",
            format!("{device} is busy, but none of its units is near its limit: {busy}; {units}"),
            match of("next_step_tokens_ratio").zip(of("next_step_load_ratio")).filter(|(gave, _)| *gave >= GAIN) {
                Some((gave, asked)) => format!(
                    "more requests at a time use that room: {asked:.1} times as many gave {gave:.1} times the tokens a second"
                ),
                None => "more requests at a time can use that room, where the server works on them together: --sweep \
                         concurrency=1,4,16 shows what they give"
                    .to_owned(),
            },
        ),
        LimitedBy::Host => (
            "gpu_waits_for_host",
            format!(
                "{device} waits for the server's work outside of it: {busy}, though requests were in flight {} of it",
                percent(if of("in_flight_percent").is_some() { "in_flight_percent" } else { "in_flight_percent_at_least" })
            ),
            format!(
                "look at what the server does between kernels (launches, sampling, scheduling, tokenising); a faster device \
                 could shorten only the {} in which this one worked",
                percent("busy_percent")
            ),
        ),
        LimitedBy::Client => (
            "gpu_waits_for_client",
            format!("{device} waits while the client can't keep up: {busy}"),
            "the load is inferscope's limit, not the server's: nothing is said of this hardware".to_owned(),
        ),
        LimitedBy::Idle => (
            "gpu_waits_for_requests",
            format!(
                "{device} waits for requests: one was in flight {} of the time; {busy}",
                percent("in_flight_percent")
            ),
            "the load was the limit; what the device could give was not measured".to_owned(),
        ),
    };
    Insight { code: code.to_owned(), severity: Severity::Info, headline, evidence: evidence.clone(), advice }
}
