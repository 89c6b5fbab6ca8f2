//! The distributions of latencies.
//!
//! Owns their table: which are shown, by which name, and which are one and the same. Called by `text`.

use super::humanize::{UNKNOWN, count, duration, nanos, or_dash, plain};
use super::layout::{Align, Ink, Page};
use crate::report::catalogue::{self, About, Figure, Value};
use crate::report::model::{Dist, Report, Timing, TokenSource};

/// Of the load; of a sweep, those of the step that it was to find.
pub(super) fn latencies(page: &mut Page, report: &Report) {
    if let Some(timing) = &report.timing {
        page.blank();
        return table(page, timing);
    }
    let Some(sweep) = &report.sweep else { return };
    let Some(knee) = &sweep.knee else { return };
    let step = usize::try_from(knee.step).ok().and_then(|step| sweep.steps.get(step));
    let Some(step) = step else { return };
    page.heading(&format!("Latencies at the knee, {} {}", sweep.over, plain(knee.value)));
    table(page, &step.timing);
}

fn table(page: &mut Page, timing: &Timing) {
    if [&timing.e2e_ns, &timing.ttft_ns, &timing.inter_chunk_ns].iter().all(|dist| dist.count == 0) {
        let why = timing.e2e_ns.reason.as_deref().unwrap_or("no request was measured");
        page.note(Ink::Bad, &format!("no latencies: {why}"));
        return;
    }
    let shown = shown(timing);
    let right = |title| (title, Align::Right);
    let header = [
        ("latency", Align::Left),
        right("count"),
        right("mean"),
        right("p50"),
        right("p90"),
        right("p95"),
        right("p99"),
        right("p99.9"),
        right("max"),
    ];
    let rows: Vec<Vec<String>> = shown.iter().map(|(name, dist)| row(name, dist)).collect();
    page.table(&header, &rows);
    if shown.iter().any(|(_, d)| is_dashed(d.p99, p99(d)) || is_dashed(d.p999, p999(d))) {
        let (p99, p999) = (count(LEAST_P99), count(LEAST_P999));
        page.note(Ink::Dim, &format!("{UNKNOWN} p99 takes {p99} values, p99.9 {p999}"));
    }
    for (name, dist) in shown {
        if let Some(reason) = &dist.reason {
            page.note(Ink::Dim, &format!("{UNKNOWN} {name}: {reason}"));
        }
    }
}

/// Every latency of the catalogue that this load has, under its name; two that are one and the same are one row.
fn shown(timing: &Timing) -> Vec<(&'static str, &Dist)> {
    let mut shown: Vec<(&About, &str, &Dist)> = Vec::new();
    for Figure { about, get, .. } in catalogue::LATENCIES {
        let Value::Dist(dist) = get(timing) else { continue };
        let same = shown.iter_mut().find(|(other, _, of)| about.same_as == Some(other.key) && *of == dist);
        match same {
            Some((other, label, _)) => *label = other.label_of_both.unwrap_or(label),
            None => shown.push((about, about.label, dist)),
        }
    }
    for (about, label, _) in &mut shown {
        if timing.token_source == Some(TokenSource::Chunks) {
            *label = about.label_assumed.unwrap_or(label);
        }
    }
    shown.into_iter().map(|(_, label, dist)| (label, dist)).collect()
}

/// Of fewer values the percentile is their maximum, or next to it, and says nothing of one in a hundred.
pub(super) const LEAST_P99: u64 = 100;
const LEAST_P999: u64 = 1_000;

/// Where there are enough values for it to mean something. The JSON keeps it of any number.
pub(super) fn p99(dist: &Dist) -> Option<u64> {
    dist.p99.filter(|_| dist.count >= LEAST_P99)
}

fn p999(dist: &Dist) -> Option<u64> {
    dist.p999.filter(|_| dist.count >= LEAST_P999)
}

/// Known, and not shown.
fn is_dashed(known: Option<u64>, shown: Option<u64>) -> bool {
    known.is_some() && shown.is_none()
}

fn row(name: &str, dist: &Dist) -> Vec<String> {
    let point = |p: Option<u64>| or_dash(p, nanos);
    vec![
        name.to_owned(),
        count(dist.count),
        or_dash(dist.mean, duration),
        point(dist.p50),
        point(dist.p90),
        point(dist.p95),
        point(p99(dist)),
        point(p999(dist)),
        point(dist.max),
    ]
}
