//! What the devices did.
//!
//! Owns the lines of the GPUs. Called by `text`.

use super::humanize::{bytes, counted, duration, number, watts};
use super::layout::{Ink, Page};
use super::sweep::value;
use crate::report::catalogue::{self, Value};
use crate::report::model::{Gpu, GpuSummary, LimitedBy, PrefillDecode, Report, Stat};

pub(super) fn gpus(page: &mut Page, report: &Report) {
    page.heading("GPUs");
    if report.gpus.is_empty() {
        page.note(
            Ink::Plain,
            &format!("none: {}", report.gpus_reason.as_deref().unwrap_or("no reason given")),
        );
    }
    let (unused, shown): (Vec<&Gpu>, Vec<&Gpu>) =
        report.gpus.iter().partition(|g| g.used_by_target == Some(false));
    for gpu in shown {
        device(page, gpu);
        if report.sweep.is_none() && gpu.used_by_target == Some(true) {
            page.pair("limited by", &limited_by(gpu));
        }
        steps(page, report, gpu);
    }
    if !unused.is_empty() {
        let names: Vec<String> = unused.iter().map(|g| label(g)).collect();
        page.pair("not used", &format!("{}: {}", devices(unused.len()), names.join(", ")));
    }
    if let Some(summary) = &report.gpu_summary {
        totals(page, report, summary);
    }
}

/// What limits it in each step of a sweep.
fn steps(page: &mut Page, report: &Report, gpu: &Gpu) {
    let place = report.gpus.iter().position(|g| std::ptr::eq(g, gpu));
    for step in report.sweep.iter().flat_map(|sweep| &sweep.steps) {
        let Some(told) = step.devices.iter().find(|d| Some(d.device) == place) else { continue };
        let limit = match told.limited_by {
            Some(limit) => words(limit).to_owned(),
            None => unknown(told.limited_by_reason.as_deref()),
        };
        page.pair(&format!("limited at {}", value(step)), &limit);
    }
}

fn devices(n: usize) -> String {
    counted(n as u64, "device", "devices")
}

fn label(gpu: &Gpu) -> String {
    let name = gpu.name.as_deref().unwrap_or("unknown device");
    match gpu.mig.and_then(|m| m.gpu_instance) {
        Some(instance) => format!("{} {name} (instance {instance})", gpu.index),
        None => format!("{} {name}", gpu.index),
    }
}

fn joules(mj: f64) -> String {
    format!("{} J", number(mj / 1_000.0))
}

fn device(page: &mut Page, gpu: &Gpu) {
    page.note(Ink::Bold, &label(gpu));
    if let Some(ns) = gpu.lost_ns {
        page.pair_in(Ink::Bad, "lost", &format!("{} into the run", duration(ns as f64)));
    }
    for away in &gpu.interruptions {
        let (from, to) = (duration(away.from_ns as f64), duration(away.to_ns as f64));
        page.pair_in(Ink::Warn, "away", &format!("from {from} to {to} into the run"));
    }
    page.pair("memory", &memory(gpu));
    page.pair("kernels ran", &of_time(&gpu.sm_percent, &gpu.target_sm_percent));
    if let Some(units) = units(gpu) {
        page.pair("its counters", &units);
    }
    page.pair("power", &power(gpu));
    let held_back: Vec<String> = gpu
        .throttle
        .iter()
        .filter(|(name, _)| *name != "gpu_idle")
        .map(|(name, share)| format!("{} {:.0}% of the time", name.replace('_', " "), share * 100.0))
        .collect();
    if !held_back.is_empty() {
        page.pair("clocks held back", &held_back.join(", "));
    }
    page.pair("energy", &energy(gpu));
}

/// What the device itself counted (GPM).
fn units(gpu: &Gpu) -> Option<String> {
    let shown = catalogue::COUNTERS.iter().filter(|figure| figure.about.in_text);
    let told: Vec<String> = shown
        .filter_map(|figure| match (figure.get)(gpu) {
            Value::Stat(stat) => Some(format!("{} {}", figure.about.label, percent(stat.mean?))),
            _ => None,
        })
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn percent(share: f64) -> String {
    if share < 10.0 { format!("{share:.1}%") } else { format!("{share:.0}%") }
}

fn limited_by(gpu: &Gpu) -> String {
    match gpu.limited_by {
        Some(limit) => words(limit).to_owned(),
        None => unknown(gpu.limited_by_reason.as_deref()),
    }
}

/// In short; the figures are in what stands out.
pub(super) const fn words(limit: LimitedBy) -> &'static str {
    match limit {
        LimitedBy::Tensor => "its tensor units",
        LimitedBy::Compute => "its units outside of the tensor units",
        LimitedBy::Bandwidth => "its memory's bandwidth",
        LimitedBy::Latency => "latency: it is busy, and none of its units is near its limit",
        LimitedBy::Host => "the server's work outside of it, which it waits for",
        LimitedBy::Client => "the client, which can't keep up",
        LimitedBy::Idle => "the load: it waits for requests",
        LimitedBy::Partial => "nothing: it was in use for a part of the time",
    }
}

fn memory(gpu: &Gpu) -> String {
    let mut parts = Vec::new();
    let limit = gpu.limits.memory_bytes;
    parts.push(match (gpu.memory_used_bytes.max, limit) {
        (Some(used), Some(limit)) => {
            let percent = used as f64 / limit as f64 * 100.0;
            format!("{} at most of {} ({percent:.0}%)", bytes(used as f64), bytes(limit as f64))
        }
        (Some(used), None) => format!("{} at most", bytes(used as f64)),
        (None, _) => unknown(gpu.memory_used_bytes.reason.as_deref()),
    });
    let shown = |n: Option<u64>, whose: &str| n.map(|n| format!("{} {whose}", bytes(n as f64)));
    match (gpu.used_by_target, gpu.target_memory_bytes) {
        (Some(_), Some(n)) => {
            parts.push(format!("{} the target's", bytes(n as f64)));
            parts.extend(shown(gpu.other_memory_bytes.filter(|n| *n > 0), "of other processes"));
            parts.extend(shown(gpu.unattributed_memory_bytes.filter(|n| *n > 0), "of no listed process"));
        }
        (Some(_), None) => {
            parts.push(format!("the target's part {}", unknown(gpu.target_memory_reason.as_deref())));
        }
        (None, _) => {
            parts.push(format!("use by the target {}", unknown(gpu.used_by_target_reason.as_deref())))
        }
    }
    parts.join("; ")
}

fn unknown(reason: Option<&str>) -> String {
    format!("unknown ({})", reason.unwrap_or("not told"))
}

fn of_time(all: &Stat, target: &Stat) -> String {
    let (Some(mean), Some(max)) = (all.mean, all.max) else { return unknown(all.reason.as_deref()) };
    let theirs = target.mean.map_or(String::new(), |t| format!("; the target's {t:.0}%"));
    format!("{mean:.0}% of the time on average, {max:.0}% at most{theirs}")
}

fn power(gpu: &Gpu) -> String {
    let (Some(mean), Some(max)) = (gpu.mean_power_mw, gpu.power_mw.max) else {
        return unknown(gpu.power_mw.reason.as_deref());
    };
    let limit = gpu
        .limits
        .power_mw
        .map_or(String::new(), |l| format!(" of {} ({:.0}%)", watts(l as f64), mean / l as f64 * 100.0));
    let idle =
        gpu.idle_power_mw.map_or(String::new(), |i| format!("; {} at rest before it", watts(i as f64)));
    format!("{} on average{limit}, {} at most{idle}", watts(mean), watts(max as f64))
}

fn energy(gpu: &Gpu) -> String {
    let (Some(mj), Some(error)) = (gpu.energy_mj, gpu.energy_error_mj) else {
        return unknown(gpu.energy_reason.as_deref());
    };
    let source = match gpu.energy_source.as_deref() {
        Some("counter") => "by its counter",
        _ => "from its power",
    };
    format!("{} ± {} {source}", joules(mj as f64), joules(error as f64))
}

fn totals(page: &mut Page, report: &Report, summary: &GpuSummary) {
    if summary.devices.len() > 1 {
        let mut parts = vec![devices(summary.devices.len())];
        parts.extend(summary.power_mw.map(|mw| format!("{} on average", watts(mw))));
        parts.extend(
            summary
                .energy_mj
                .zip(summary.energy_error_mj)
                .map(|(mj, error)| format!("{} ± {}", joules(mj as f64), joules(error as f64))),
        );
        parts.extend(
            summary.target_memory_bytes.map(|n| format!("{} of memory the target's", bytes(n as f64))),
        );
        page.pair("together", &parts.join(", "));
    }
    let e = &report.efficiency;
    if report.load.is_some() {
        page.pair("energy a token", &a_token(report));
        prefill_decode(page, report);
    }
    if let Some(cost) = e.cost_per_million_tokens {
        page.pair(
            "cost",
            &format!("{} for a million tokens at this load and the prices given", number(cost)),
        );
    } else if let Some(reason) =
        e.cost_reason.as_deref().filter(|r| !r.starts_with("no --price-per-hour was"))
    {
        page.pair("cost", &unknown(Some(reason)));
    }
    for (pid, devices) in &summary.cuda_visible_devices {
        page.pair(
            "visible devices",
            &format!("CUDA_VISIBLE_DEVICES={devices} in the environment of pid {pid}"),
        );
    }
}

fn a_token(report: &Report) -> String {
    let e = &report.efficiency;
    let (Some(joules), Some(error)) = (e.joules_per_token, e.joules_per_token_error) else {
        return unknown(e.joules_reason.as_deref());
    };
    let mut parts = vec![format!("{} ± {} J", number(joules), number(error))];
    parts.extend(e.joules_per_request.map(|j| format!("{} J a request", number(j))));
    parts.extend(e.tokens_per_joule.map(|t| format!("{} tokens/J", number(t))));
    parts.extend(
        e.joules_per_token_above_idle
            .map(|j| format!("{} J without what the devices use at rest", number(j))),
    );
    parts.join(", ")
}

/// Of the load, or of each step that has it. Where the energy as a whole is unknown, that is told once.
fn prefill_decode(page: &mut Page, report: &Report) {
    let steps = report.sweep.iter().flat_map(|sweep| &sweep.steps);
    let of_steps =
        steps.filter_map(|step| Some((format!(" at {}", value(step)), step.energy.prefill_decode.as_ref()?)));
    let whole = report.efficiency.prefill_decode.as_ref().map(|whole| (String::new(), whole));
    let all: Vec<(String, &PrefillDecode)> = whole.into_iter().chain(of_steps).collect();
    for (at, told) in &all {
        page.pair(
            &format!("prefill{at}"),
            &part(
                told.prefill_mj.zip(told.prefill_error_mj),
                told.joules_per_prompt_token.zip(told.joules_per_prompt_token_error),
                "prompt token",
                told.prefill_reason.as_deref(),
            ),
        );
        page.pair(
            &format!("decode{at}"),
            &part(
                told.decode_mj.zip(told.decode_error_mj),
                told.joules_per_decode_token.zip(told.joules_per_decode_token_error),
                "token after the first",
                told.decode_reason.as_deref(),
            ),
        );
    }
    match all.first() {
        Some((_, told)) => page.note(Ink::Dim, &told.method),
        None if report.efficiency.joules_per_token.is_some() => {
            page.pair("prefill, decode", &unknown(report.efficiency.prefill_decode_reason.as_deref()));
        }
        None => {}
    }
}

fn part(mj: Option<(u64, u64)>, a_token: Option<(f64, f64)>, whose: &str, reason: Option<&str>) -> String {
    let Some((mj, error)) = mj else { return unknown(reason) };
    let each =
        a_token.map(|(j, e)| format!(", {} ± {} J a {whose}", number(j), number(e))).unwrap_or_default();
    format!("{} ± {}{each}", joules(mj as f64), joules(error as f64))
}
