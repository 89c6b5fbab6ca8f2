//! The answer of a sweep: one row a step, and where the server has no more to give.
//!
//! Owns the table of the steps and what is said of it. Called by `headline`.

use super::headline::{levels, no_tokens, prompts, requests, set_up};
use super::humanize::{UNKNOWN, count, counted, nanos, number, or_dash, plain};
use super::latencies::p99;
use super::layout::{Align, Ink, Page};
use crate::report::model::{Dist, Interval, Load, Step, Sweep, SweepVariable};

/// Reasons for dashes that are told one by one.
const REASONS: usize = 6;

pub(super) fn answer(page: &mut Page, load: &Load, sweep: &Sweep) {
    if sweep.steps.is_empty() {
        page.note(Ink::Bad, "no step was begun");
        return;
    }
    let with_slo = sweep.steps.iter().any(|step| step.timing.good_requests.is_some());
    let columns = Columns {
        slo: with_slo,
        energy: sweep.steps.iter().any(|step| step.energy.joules_per_token.is_some()),
    };
    table(page, sweep, columns);
    unknown(page, sweep, columns);
    page.blank();
    knee(page, sweep);
    repeated(page, sweep);
    page.pair("requests", &format!("in all steps {}", requests(load, None)));
    prompts(page, load);
    set_up(page, load);
    if with_slo {
        page.pair("goodput", &format!("requests a second that kept {}", levels(load)));
    }
    schedule(page, sweep);
}

/// Those that are not of every sweep.
#[derive(Debug, Clone, Copy)]
struct Columns {
    slo: bool,
    /// Where any step's energy is known.
    energy: bool,
}

fn table(page: &mut Page, sweep: &Sweep, columns: Columns) {
    let right = |title| (title, Align::Right);
    let value = if sweep.over == SweepVariable::Rate { "requests\na second" } else { "concur-\nrency" };
    // With every column there is no room for the longer words.
    let requests = if columns.slo && columns.energy { "ok/\nfailed" } else { "requests\nok/failed" };
    let mut header = vec![
        right(value),
        right(requests),
        right("output\ntokens/s"),
        right("TTFT\np50 ms"),
        right("\np99 ms"),
        right("gap\np50 ms"),
        right("\np99 ms"),
        right("e2e\np50 ms"),
        right("in\nflight"),
    ];
    if columns.slo {
        header.push(right("good-\nput/s"));
    }
    header.push(right("CPU ms\na token"));
    if columns.energy {
        header.push(right("J/\ntoken"));
    }
    let rows: Vec<Vec<String>> = sweep
        .steps
        .iter()
        .enumerate()
        .map(|(n, step)| {
            let knee = sweep.knee.as_ref().is_some_and(|knee| knee.step == n as u64);
            row(step, knee, columns)
        })
        .collect();
    page.table(&header, &rows);
    page.note(Ink::Dim, "gap: the time between two chunks with text; in flight: requests on average");
}

fn row(step: &Step, knee: bool, columns: Columns) -> Vec<String> {
    let timing = &step.timing;
    let mark = if knee { "knee " } else { "" };
    let mut cells = vec![
        format!("{mark}{}", value(step)),
        format!("{}/{}", compact_count(step.requests_ok), compact_count(step.requests_failed)),
        or_dash(timing.output_tokens_per_s, compact),
        millis(timing.ttft_ns.p50),
        millis(p99(&timing.ttft_ns)),
        millis(timing.inter_chunk_ns.p50),
        millis(p99(&timing.inter_chunk_ns)),
        millis(timing.e2e_ns.p50),
        or_dash(step.in_flight.mean, number),
    ];
    if columns.slo {
        cells.push(or_dash(timing.goodput_per_s, number));
    }
    cells.push(or_dash(step.cpu_ns_per_token, |ns| number(ns / 1e6)));
    if columns.energy {
        cells.push(or_dash(step.energy.joules_per_token, number));
    }
    cells
}

/// In one unit, so that the eye can follow a column.
fn millis(ns: Option<u64>) -> String {
    or_dash(ns, |ns| compact(ns as f64 / 1e6))
}

/// A column holds five digits.
fn compact(x: f64) -> String {
    if x < 99_999.5 { number(x) } else { format!("{}k", number(x / 1e3)) }
}

fn compact_count(n: u64) -> String {
    if n < 100_000 { count(n) } else { compact(n as f64) }
}

/// What the step was of.
pub(super) fn value(step: &Step) -> String {
    match (step.concurrency, step.rate_per_s) {
        (Some(n), _) => count(n.into()),
        (None, rate) => or_dash(rate, plain),
    }
}

/// Each dash's reason, once for all steps and figures that share it.
fn unknown(page: &mut Page, sweep: &Sweep, columns: Columns) {
    let mut told: Vec<(&str, Vec<&str>, Vec<String>)> = Vec::new();
    for step in &sweep.steps {
        for (figure, reason) in reasons(step, columns) {
            let value = value(step);
            match told.iter_mut().find(|(why, ..)| *why == reason) {
                Some((_, figures, values)) => {
                    if !figures.contains(&figure) {
                        figures.push(figure);
                    }
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
                None => told.push((reason, vec![figure], vec![value])),
            }
        }
    }
    for (reason, figures, values) in told.iter().take(REASONS) {
        page.note(Ink::Dim, &format!("{UNKNOWN} {} at {}: {reason}", figures.join(", "), values.join(", ")));
    }
    if let Some(more) = told.len().checked_sub(REASONS).filter(|more| *more > 0) {
        page.note(Ink::Dim, &format!("{UNKNOWN} {more} further reasons are in the JSON report"));
    }
}

const FEW_REQUESTS: &str = "a p99 takes 100 requests";
const FEW_GAPS: &str = "a p99 takes 100 gaps";

fn few(dist: &Dist) -> bool {
    dist.p99.is_some() && p99(dist).is_none()
}

fn reasons(step: &Step, columns: Columns) -> Vec<(&'static str, &str)> {
    let timing = &step.timing;
    let figures = [
        ("tokens/s", timing.output_tokens_per_s.is_none(), Some(no_tokens(timing))),
        ("TTFT", timing.ttft_ns.p99.is_none(), timing.ttft_ns.reason.as_deref()),
        ("gap", timing.inter_chunk_ns.p99.is_none(), timing.inter_chunk_ns.reason.as_deref()),
        ("TTFT p99", few(&timing.ttft_ns), Some(FEW_REQUESTS)),
        ("gap p99", few(&timing.inter_chunk_ns), Some(FEW_GAPS)),
        ("e2e", timing.e2e_ns.p50.is_none(), timing.e2e_ns.reason.as_deref()),
        ("in flight", step.in_flight.mean.is_none(), Some("no measured request took any time")),
        ("goodput", columns.slo && timing.goodput_per_s.is_none(), timing.goodput_per_s_reason.as_deref()),
        ("CPU a token", step.cpu_ns_per_token.is_none(), step.cpu_reason.as_deref()),
        (
            "J/token",
            columns.energy && step.energy.joules_per_token.is_none(),
            step.energy.joules_reason.as_deref(),
        ),
    ];
    let missing = figures.into_iter().filter(|(_, missing, _)| *missing);
    missing.map(|(name, _, reason)| (name, reason.unwrap_or("no reason given"))).collect()
}

fn knee(page: &mut Page, sweep: &Sweep) {
    let text = match &sweep.knee {
        Some(knee) => {
            let step = usize::try_from(knee.step).ok().and_then(|n| sweep.steps.get(n));
            let rate = step.and_then(|step| step.timing.output_tokens_per_s);
            let rate = rate.map(|rate| format!(", {} tokens/s", number(rate))).unwrap_or_default();
            let offered = knee.offered_rate_per_s.filter(|sent| (sent / knee.value - 1.0).abs() > 0.005);
            let offered =
                offered.map(|sent| format!(" ({} a second were sent)", number(sent))).unwrap_or_default();
            format!("{} {}{offered}{rate}: the last step below saturation", sweep.over, plain(knee.value))
        }
        None => format!("none: {}", sweep.knee_reason.as_deref().unwrap_or("no reason given")),
    };
    page.pair_in(Ink::Bold, "knee", &text);
    for step in &sweep.steps {
        if let Some(why) = &step.saturated {
            page.pair(&format!("saturated at {}", value(step)), why);
        }
    }
    if sweep.steps_left_out > 0 {
        let steps = counted(sweep.steps_left_out, "step", "steps");
        page.pair("left out", &format!("{steps}, as the server was saturated; --sweep-all runs all"));
    }
}

/// With `--repeat`: the rate of each step with its interval.
fn repeated(page: &mut Page, sweep: &Sweep) {
    let of = |step: &Step| {
        let repeat = step.timing.repeat.as_ref()?;
        Some((value(step), repeat.runs, repeat.figures.get("output_tokens_per_s")?.clone()))
    };
    let steps: Vec<(String, u32, Interval)> = sweep.steps.iter().filter_map(of).collect();
    let Some(runs) = steps.iter().map(|(_, runs, _)| *runs).max() else { return };
    let each = steps.iter().map(|(value, _, i)| {
        let interval =
            or_dash(i.low.zip(i.high), |(low, high)| format!("{} to {}", number(low), number(high)));
        format!("{} ({interval}) at {value}", number(i.mean))
    });
    let each: Vec<String> = each.collect();
    page.pair(
        &format!("over {} each", counted(runs.into(), "run", "runs")),
        &format!("tokens/s, 95% interval: {}", each.join("; ")),
    );
}

/// How late an open loop's requests went out, at its worst.
fn schedule(page: &mut Page, sweep: &Sweep) {
    let offered: Vec<String> = sweep
        .steps
        .iter()
        .filter_map(|step| Some(format!("{} at {}", number(step.offered_rate_per_s?), value(step))))
        .collect();
    if !offered.is_empty() {
        page.pair("offered", &format!("requests a second that were sent: {}", offered.join(", ")));
    }
    let lag = |dist: &Dist| p99(dist).map(|ns| (ns, "p99")).or(dist.max.map(|ns| (ns, "at most")));
    let lags = sweep.steps.iter().filter_map(|step| Some((lag(&step.schedule_lag_ns)?, step)));
    let Some(((lag, which), step)) = lags.max_by_key(|((lag, _), _)| *lag) else { return };
    page.pair(
        "schedule",
        &format!(
            "sent late by {} ({which}) at {}, the most of all steps; latencies count from the intended send time",
            nanos(lag),
            value(step)
        ),
    );
}
