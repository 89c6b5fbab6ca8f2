//! The distributions of latencies.
//!
//! Owns their table: which are shown, by which name, and which are one and the same. Called by `text`.

use super::humanize::{UNKNOWN, count, duration, nanos, or_dash, plain};
use super::layout::{Align, Ink, Page};
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
    let mut shown: Vec<(&str, &Dist)> = vec![("time to first token", &timing.ttft_ns)];
    // Without reasoning the two are one.
    if timing.ttfo_ns != timing.ttft_ns {
        shown.push(("… that is no reasoning", &timing.ttfo_ns));
    }
    // With one token in each chunk these are one, too.
    let same = timing.inter_chunk_ns == timing.inter_token_ns;
    let inter_token = match timing.token_source {
        Some(TokenSource::Chunks) => "inter-token (assumed)",
        _ if same => "inter-token and -chunk",
        _ => "inter-token",
    };
    shown.push((inter_token, &timing.inter_token_ns));
    if !same {
        shown.push(("inter-chunk", &timing.inter_chunk_ns));
    }
    if let Some(bursts) = &timing.inter_burst_ns {
        shown.push(("between bursts", bursts));
    }
    shown.push(("TPOT (a request's mean)", &timing.tpot_ns));
    shown.push(("end to end", &timing.e2e_ns));
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
