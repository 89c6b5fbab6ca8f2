//! Memory, threads and CPU over time.
//!
//! Owns the Stats of `resources`, and the set's CPU between two moments. Called by the module's head and by `efficiency`.

use serde_json::Value;

use super::book::{Book, Figure};
use super::dist;
use super::window::Window;

#[derive(Debug, Clone, Copy)]
struct Point {
    t: u64,
    cpu: u64,
}

fn points(book: &Book<'_>) -> Vec<Point> {
    let samples = book.at("/resources/samples").as_array().into_iter().flatten();
    samples.filter_map(|s| Some(Point { t: s["t_ns"].as_u64()?, cpu: s["cpu_ns"].as_u64()? })).collect()
}

pub(super) fn check(book: &mut Book<'_>) {
    let samples = book.at("/resources/samples").as_array().map_or(&[][..], Vec::as_slice);
    if samples.is_empty() {
        return;
    }
    for name in ["rss_bytes", "pss_bytes", "threads", "processes"] {
        let values: Vec<f64> = samples.iter().filter_map(|sample| sample[name].as_f64()).collect();
        dist::stat(book, &format!("/resources/{name}"), &values, "of the samples that have it");
    }
    check_peak(book, samples);
    check_cpu_percent(book);
    let points = points(book);
    let sorted = points.is_sorted_by_key(|point| point.t) && points.is_sorted_by_key(|point| point.cpu);
    book.holds("/resources/samples", sorted, "in the order of time, never falling", "cpu_ns is cumulative");
    if let Some((last, total)) = points.last().zip(book.number("/processes/cpu/total_ns")) {
        let path = "/processes/cpu/total_ns";
        let at_least = Figure::Between(last.cpu as f64 - LATER_NS, f64::MAX);
        book.is(path, at_least, "no less than the last sample's cumulative CPU");
        let _ = total;
    }
}

/// Within 2% of the peak of RSS.
const NEAR: f64 = 0.98;

fn check_peak(book: &mut Book<'_>, samples: &[Value]) {
    const PEAK: &str =
        "the largest sum that a sample saw, or what one process held at its own peak, whichever is more";
    let sampled = samples.iter().filter_map(|sample| sample["rss_bytes"].as_u64()).max();
    let list = book.at("/processes/list").as_array().map_or(&[][..], Vec::as_slice);
    let largest = list.iter().filter_map(|p| Some((p["max_rss_bytes"].as_u64()?, p["pid"].as_u64()?))).max();
    let one = largest.map(|(bytes, _)| bytes);
    book.is("/resources/peak_rss_bytes", Figure::whole(sampled.max(one)), PEAK);
    if let Some((_, pid)) = largest.filter(|_| one > sampled) {
        book.is("/resources/peak_rss_pid", Figure::Whole(pid), "the process whose own peak it is");
    }
    let path = "/resources/size_memory_by_bytes";
    match book.at("/resources/size_memory_by").as_str() {
        Some("pss_at_peak_rss") => {
            let near = sampled.map_or(f64::MAX, |peak| peak as f64 * NEAR);
            let at_peak = samples.iter().filter(|s| s["rss_bytes"].as_f64().is_some_and(|rss| rss >= near));
            let pss = at_peak.filter_map(|sample| sample["pss_bytes"].as_u64()).max();
            book.is(path, Figure::whole(pss), "PSS, read when RSS was within 2% of its peak");
        }
        Some(_) => {
            book.is(path, Figure::whole(book.whole("/resources/memory_peak_bytes")), "the cgroup's own peak")
        }
        None => book.is(path, Figure::Unknown, "null where there is no more than a lower bound"),
    }
}

/// A last sample of the living may be a hair above the final figures of the dead.
const LATER_NS: f64 = 5e6;

fn check_cpu_percent(book: &mut Book<'_>) {
    const DEFINITION: &str = "of one CPU, between two samples at least half of the interval asked for apart; the mean is over time";
    let least = book.whole("/self/sample_interval_asked_ns").unwrap_or(0) / 2;
    let all = points(book);
    let mut points: Vec<Point> = Vec::new();
    for point in &all {
        if points.last().is_none_or(|before| point.t.saturating_sub(before.t) >= least) {
            points.push(*point);
        }
    }
    // What is left at the end belongs to the last interval.
    if let (Some(last), 2..) = (all.last(), points.len()) {
        points.pop();
        points.push(*last);
    }
    let steps: Vec<(f64, f64)> = points
        .windows(2)
        .filter(|pair| pair[1].t > pair[0].t && pair[1].cpu >= pair[0].cpu)
        .map(|pair| ((pair[1].cpu - pair[0].cpu) as f64, (pair[1].t - pair[0].t) as f64))
        .collect();
    let percents: Vec<f64> = steps.iter().map(|(cpu, time)| cpu / time * 100.0).collect();
    let (cpu, time) = steps.iter().fold((0.0, 0.0), |(c, t), (cpu, time)| (c + cpu, t + time));
    let mean = (time > 0.0).then(|| cpu / time * 100.0);
    dist::stat_with_mean(book, "/resources/cpu_percent", &percents, mean, DEFINITION);
}

/// The set's CPU within the windows, as far as the samples tell: at a moment between two of them, linear between.
pub(super) fn cpu_within(report: &Book<'_>, windows: &[Window]) -> Option<(f64, f64)> {
    let points = points(report);
    let total = report.number("/processes/cpu/total_ns")?;
    windows.iter().try_fold((0.0, 0.0), |(low, high), (from, to)| {
        let (from, to) = (at(&points, *from, total)?, at(&points, *to, total)?);
        Some((low + (to.0 - from.1).max(0.0), high + (to.1 - from.0)))
    })
}

/// The cumulative CPU at `t`: least and most.
fn at(points: &[Point], t: u64, total: f64) -> Option<(f64, f64)> {
    let after = points.partition_point(|point| point.t < t);
    match (after.checked_sub(1).map(|before| points[before]), points.get(after)) {
        (_, Some(on)) if on.t == t => Some((on.cpu as f64, on.cpu as f64)),
        (Some(before), Some(after)) => {
            let part = t.saturating_sub(before.t) as f64 / after.t.saturating_sub(before.t).max(1) as f64;
            let cpu = part.mul_add(after.cpu.saturating_sub(before.cpu) as f64, before.cpu as f64);
            Some((cpu - 1.0, cpu + 1.0))
        }
        // Observation begins with 0 at a moment that is not told, and ends so.
        (None, Some(first)) => Some((0.0, first.cpu as f64)),
        (Some(last), None) => Some((last.cpu as f64, total.max(last.cpu as f64))),
        (None, None) => None,
    }
}

/// The samples of a device within the windows; all of them where nothing was sent.
pub(super) fn within<'a>(samples: &'a Value, windows: Option<&[Window]>) -> Vec<&'a Value> {
    let holds = |t: u64| windows.is_none_or(|all| all.iter().any(|(from, to)| (*from..=*to).contains(&t)));
    let list = samples.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter(|sample| sample["t_ns"].as_u64().is_some_and(holds)).collect()
}
