//! Requests under way, over time.
//!
//! Owns the count of `requests[]` at any moment, and its mean and peak over the load's windows. Called by `load`.

use super::book::{Book, Figure};
use super::load::Load;
use super::request::Request;
use super::window::Window;

/// Requests x nanoseconds within `from..to`, each request `more` longer at both ends.
fn area(requests: &[&Request], (from, to): Window, more: i64) -> f64 {
    let of = |request: &&Request| {
        let begin = (request.sent as i64 - more).max(from as i64);
        let end = (request.done as i64 + more).min(to as i64);
        (end - begin).max(0) as f64
    };
    requests.iter().map(of).sum()
}

/// Most at a time within `from..to`.
fn peak(requests: &[&Request], (from, to): Window, more: i64) -> i64 {
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for request in requests {
        let (begin, end) = (request.sent as i64 - more, request.done as i64 + more);
        if begin < end && begin <= to as i64 && end >= from as i64 {
            changes.extend([(begin.max(from as i64), 1), (end, -1)]);
        }
    }
    changes.sort_unstable();
    let mut now = 0;
    changes
        .into_iter()
        .map(|(_, change)| {
            now += change;
            now
        })
        .max()
        .unwrap_or(0)
}

/// Of the requests of these windows' phases, whoever asked: a ramp's too.
pub(super) fn check(book: &mut Book<'_>, path: &str, load: &Load, windows: &[((u64, u64), Window)]) {
    const DEFINITION: &str = "requests under way, over the time of the window";
    let more = load.slack_ns as i64;
    let of = |window: &((u64, u64), Window)| -> Vec<&Request> {
        load.requests.iter().filter(|request| request.phase() == window.0).collect()
    };
    let all: Vec<(Vec<&Request>, Window)> = windows.iter().map(|window| (of(window), window.1)).collect();
    let time: f64 = all.iter().map(|(_, (from, to))| to.saturating_sub(*from) as f64).sum();
    let mean = |more: i64| all.iter().map(|(of, window)| area(of, *window, more)).sum::<f64>() / time;
    let within =
        if time > 0.0 { Figure::Between(mean(-more) - 1e-9, mean(more) + 1e-9) } else { Figure::Unknown };
    book.is(&format!("{path}/mean"), within, DEFINITION);
    let most = |more: i64| all.iter().map(|(of, window)| peak(of, *window, more)).max().unwrap_or(0) as f64;
    let max = if time > 0.0 { Figure::Between(most(-more), most(more)) } else { Figure::Unknown };
    book.is(&format!("{path}/max"), max, DEFINITION);
    let samples = book.at(&format!("{path}/samples")).as_array().map_or(&[][..], Vec::as_slice);
    let begins: Vec<u64> = samples.iter().filter_map(|sample| sample["t_ns"].as_u64()).collect();
    for (n, pair) in begins.windows(2).enumerate() {
        let stretch = (pair[0], pair[1]);
        // Those after the last byte of one phase end before the next one begins.
        let within = |(from, to): Window| from <= stretch.0 && stretch.1 <= to;
        let Some((of, _)) = all.iter().rev().find(|(_, window)| within(*window)) else { continue };
        let length = stretch.1.saturating_sub(stretch.0) as f64;
        let mean = |more| area(of, stretch, more) / length;
        let within = Figure::Between(mean(-more) - 1e-9, mean(more) + 1e-9);
        book.is(&format!("{path}/samples/{n}/mean"), within, DEFINITION);
        let within = Figure::Between(peak(of, stretch, -more) as f64, peak(of, stretch, more) as f64);
        book.is(&format!("{path}/samples/{n}/max"), within, DEFINITION);
    }
}
