//! What the client saw: the answer, and the failures.
//!
//! Owns the first table and the grouping of failures. Called by `text`.

use std::collections::BTreeMap;

use super::humanize::{UNKNOWN, count, counted, duration, nanos, number, or_dash};
use super::layout::{Align, Ink, Page};
use crate::report::model::{Dist, ErrorKind, Load, Report, Request, Timing, TokenSource};

/// Groups of failures that are shown one by one.
const FAILURE_GROUPS: usize = 8;

pub(super) fn answer(page: &mut Page, report: &Report) {
    page.blank();
    let (Some(load), Some(timing)) = (&report.load, &report.timing) else {
        page.note(Ink::Plain, &format!("nothing was sent; observed for {}", nanos(report.run.duration_ns)));
        return;
    };
    page.pair_in(Ink::Bold, "output tokens/s", &token_rate(timing));
    if let Some(rate) = timing.decode_tokens_per_s {
        page.pair("decoding", &format!("{} tokens/s a stream, after its first token", number(rate)));
    }
    page.pair("requests", &requests(load, timing, &report.requests));
    page.blank();
    if timing.e2e_ns.count == 0 {
        let why = timing.e2e_ns.reason.as_deref().unwrap_or("no request was measured");
        page.note(Ink::Bad, &format!("no latencies: {why}"));
        return;
    }
    latencies(page, timing);
}

fn token_rate(timing: &Timing) -> String {
    let (Some(rate), Some(tokens)) = (timing.output_tokens_per_s, timing.output_tokens) else {
        return format!(
            "unknown: {}",
            timing.e2e_ns.reason.as_deref().unwrap_or("no answer told its tokens")
        );
    };
    let tokens = counted(tokens, "token", "tokens");
    let chunks = counted(timing.token_chunks, "chunk", "chunks");
    let source = match timing.token_source {
        Some(TokenSource::Usage) => format!("{tokens} by the server's usage, in {chunks}"),
        Some(TokenSource::Chunks) => format!("{tokens} ASSUMED from {chunks}: one token each"),
        None => format!("{tokens} of unknown source"),
    };
    format!("{} ({source}, over {})", number(rate), or_dash(timing.window_ns, nanos))
}

fn requests(load: &Load, timing: &Timing, requests: &[Request]) -> String {
    let cut_off =
        requests.iter().filter(|r| !r.warmup && r.error_kind == Some(ErrorKind::Interrupted)).count() as u64;
    let mut text = format!(
        "{} ok, {} failed",
        count(load.requests_ok),
        count(load.requests_failed.saturating_sub(cut_off))
    );
    if cut_off > 0 {
        text.push_str(&format!(", {} cut off by the interruption", count(cut_off)));
    }
    if let Some(rate) = timing.requests_per_s {
        text.push_str(&format!(", {} a second", number(rate)));
    }
    if load.warmup > 0 {
        text.push_str(&format!("; {} left out", counted(load.warmup, "warm-up", "warm-ups")));
    }
    text
}

fn latencies(page: &mut Page, timing: &Timing) {
    let mut shown: Vec<(&str, &Dist)> = vec![("time to first token", &timing.ttft_ns)];
    // Without reasoning the two are one.
    if timing.ttfo_ns != timing.ttft_ns {
        shown.push(("… that is no reasoning", &timing.ttfo_ns));
    }
    // With one token in each chunk these are one, too.
    let same = timing.inter_chunk_ns == timing.inter_token_ns;
    let inter_token = match timing.token_source {
        Some(TokenSource::Chunks) => "inter-token (1 a chunk assumed)",
        _ if same => "inter-token = inter-chunk",
        _ => "inter-token",
    };
    shown.push((inter_token, &timing.inter_token_ns));
    if !same {
        shown.push(("inter-chunk", &timing.inter_chunk_ns));
    }
    shown.push(("end to end", &timing.e2e_ns));
    let right = |title| (title, Align::Right);
    let header = [
        ("latency", Align::Left),
        right("count"),
        right("mean"),
        right("p50"),
        right("p90"),
        right("p99"),
        right("max"),
    ];
    let rows: Vec<Vec<String>> = shown.iter().map(|(name, dist)| row(name, dist)).collect();
    page.table(&header, &rows);
    for (name, dist) in shown {
        if let Some(reason) = &dist.reason {
            page.note(Ink::Dim, &format!("{UNKNOWN} {name}: {reason}"));
        }
    }
}

fn row(name: &str, dist: &Dist) -> Vec<String> {
    let point = |p: Option<u64>| or_dash(p, nanos);
    vec![
        name.to_owned(),
        count(dist.count),
        or_dash(dist.mean, duration),
        point(dist.p50),
        point(dist.p90),
        point(dist.p99),
        point(dist.max),
    ]
}

/// Failed requests by their cause, the most frequent first, each with its first message.
pub(super) fn failures(page: &mut Page, requests: &[Request]) {
    type Cause = (Option<ErrorKind>, Option<u16>);
    let mut groups: BTreeMap<Cause, (u64, &str)> = BTreeMap::new();
    for r in requests.iter().filter(|r| !r.ok) {
        // The status tells failures apart only where it is the failure.
        let status = r.http_status.filter(|_| r.error_kind == Some(ErrorKind::Status));
        let message = r.error.as_deref().unwrap_or("no message");
        groups.entry((r.error_kind, status)).or_insert((0, message)).0 += 1;
    }
    if groups.is_empty() {
        return;
    }
    page.heading("Failures");
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(cause, (n, _))| (std::cmp::Reverse(*n), *cause));
    for ((kind, status), (n, message)) in groups.iter().take(FAILURE_GROUPS) {
        page.pair(&format!("{} × {}", count(*n), cause(*kind, *status)), message);
    }
    if let Some(more) = groups.len().checked_sub(FAILURE_GROUPS).filter(|more| *more > 0) {
        page.note(Ink::Dim, &format!("and {more} further causes, in the JSON report"));
    }
    if requests.iter().any(|r| !r.ok && r.warmup) {
        page.note(Ink::Dim, "warm-up requests among them");
    }
}

fn cause(kind: Option<ErrorKind>, status: Option<u16>) -> String {
    let word = match (kind, status) {
        (Some(ErrorKind::Status), Some(status)) => return format!("HTTP {status}"),
        (Some(ErrorKind::Connect), _) => "not connected",
        (Some(ErrorKind::Timeout), _) => "timed out",
        (Some(ErrorKind::Status), None) => "HTTP status",
        (Some(ErrorKind::ServerError), _) => "server error",
        (Some(ErrorKind::Malformed), _) => "malformed",
        (Some(ErrorKind::Disconnect), _) => "cut off",
        (Some(ErrorKind::Empty), _) => "empty answer",
        (Some(ErrorKind::Interrupted), _) => "interrupted",
        (None, _) => "failed",
    };
    word.to_owned()
}
