//! What a reader is told of a verdict, with the figures that it rests on.
//!
//! Owns headlines and advice. Each piece of advice is what the evidence carries, and names what would show it wrong. A part
//! of `bottleneck`.

use super::{Judgement, Limit, Sent, Shown, ShownEvidence, Verdict};
use crate::figures::devices::Device;

/// Tokens a second of the next step against this one's: more is a gain to speak of.
const GAIN: f64 = 1.1;

/// What a reader is told of one device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) code: &'static str,
    pub(crate) headline: String,
    pub(crate) evidence: ShownEvidence,
    pub(crate) advice: String,
}

/// One for each device with a verdict: of the load, or of those steps of a sweep that have one.
pub(crate) fn findings(devices: &[Device<'_>], sent: &Sent<'_>, judgement: &Judgement) -> Vec<Finding> {
    let mut all = Vec::new();
    for (place, (device, verdict)) in devices.iter().zip(&judgement.devices).enumerate() {
        match sent {
            Sent::Sweep(steps) => {
                let places = steps.iter().map(|step| match (step.concurrency, step.rate_per_s) {
                    (Some(n), _) => format!(" at concurrency {n}"),
                    (None, Some(rate)) => format!(" at {rate} requests a second"),
                    (None, None) => String::new(),
                });
                all.extend(of_sweep(device, place, places.zip(&judgement.steps)));
            }
            _ => all.extend(verdict.limit.as_ref().ok().map(|limit| finding(device, *limit, verdict, ""))),
        }
    }
    all
}

/// Of steps with the same verdict the first speaks.
fn of_sweep<'a>(
    device: &Device<'_>,
    place: usize,
    steps: impl Iterator<Item = (String, &'a Vec<(usize, Verdict)>)>,
) -> Vec<Finding> {
    let mut all: Vec<(Limit, Finding)> = Vec::new();
    for (at, verdicts) in steps {
        let Some((_, verdict)) = verdicts.iter().find(|(p, _)| *p == place) else { continue };
        let Ok(limit) = verdict.limit else { continue };
        if !all.iter().any(|(known, _)| *known == limit) {
            all.push((limit, finding(device, limit, verdict, &at)));
        }
    }
    all.into_iter().map(|(_, finding)| finding).collect()
}

fn finding(device: &Device<'_>, limit: Limit, verdict: &Verdict, at: &str) -> Finding {
    let evidence = &verdict.evidence;
    let name = device.log.name.as_deref().unwrap_or("no name");
    let device = format!("device {} ({name}){at}", device.log.index);
    let of = |figure: &str| match evidence.get(figure)? {
        Shown::Amount(v) | Shown::Ratio(v) => Some(*v),
        Shown::Source(_) => None,
    };
    let percent =
        |figure: &str| of(figure).map_or_else(|| "an unknown part".to_owned(), |p| format!("{p:.0}%"));
    let by_counters = evidence.get("busy_source") == Some(&Shown::Source("counters"));
    let worked = if by_counters { "it had work" } else { "kernels ran" };
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
        Limit::Tensor => (
            "gpu_tensor_bound",
            format!("{device} is limited by its tensor units: in use {}; {busy}", percent("tensor_percent")),
            "less to compute helps: lower precision, shorter prompts, a prefix cache; more requests at a time are unlikely to \
             give much more"
                .to_owned(),
        ),
        Limit::Compute => (
            "gpu_compute_bound",
            format!("{device} is limited by its units outside of the tensor units: {busy}; {units}"),
            "kernels that use the tensor units would take that work off them; whether more requests at a time bring them in \
             shows a sweep"
                .to_owned(),
        ),
        Limit::Bandwidth => (
            "gpu_memory_bound",
            format!(
                "{device} is limited by its memory's bandwidth: {} of it in use; {busy}",
                percent("dram_percent")
            ),
            "smaller weights (quantisation) are read faster; requests that are worked on together share a reading of the \
             weights, not of their caches"
                .to_owned(),
        ),
        Limit::Latency => (
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
        Limit::Host => (
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
        Limit::Client => (
            "gpu_waits_for_client",
            format!("{device} waits while the client can't keep up: {busy}"),
            "the load is inferscope's limit, not the server's: nothing is said of this hardware".to_owned(),
        ),
        Limit::Idle => (
            "gpu_waits_for_requests",
            format!(
                "{device} waits for requests: one was in flight {} of the time; {busy}",
                percent("in_flight_percent")
            ),
            "the load was the limit; what the device could give was not measured".to_owned(),
        ),
    };
    Finding { code, headline, evidence: evidence.clone(), advice }
}
