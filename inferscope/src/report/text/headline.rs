//! The answer: what the client saw, in the lines that a reader looks for first.
//!
//! Owns these lines for a load that is no sweep, and the table of its repetitions; a sweep's answer is `sweep`'s,
//! the distributions are `latencies`'. Called by `text`.

use super::humanize::{UNKNOWN, count, counted, duration, nanos, number, or_dash, plain, share};
use super::latencies::{LEAST_P99, p99};
use super::layout::{Align, Ink, Page};
use super::sweep;
use crate::report::catalogue::{self, Figure, Value};
use crate::report::model::{
    ArrivalProcess, Dist, ErrorKind, InFlight, Interval, Load, LoadShape, PromptSource, Repeat, Report,
    Timing, TokenSource,
};

pub(super) fn headline(page: &mut Page, report: &Report) {
    page.blank();
    let Some(load) = &report.load else {
        page.note(Ink::Plain, &format!("nothing was sent; observed for {}", nanos(report.run.duration_ns)));
        return;
    };
    match (&report.sweep, &report.timing) {
        (Some(sweep), _) => sweep::answer(page, load, sweep),
        (None, Some(timing)) => single(page, load, timing),
        (None, None) => {
            let why = report.timing_reason.as_deref().unwrap_or("no reason given");
            page.note(Ink::Bad, &format!("no figures: {why}"));
        }
    }
}

fn single(page: &mut Page, load: &Load, timing: &Timing) {
    page.pair_in(Ink::Bold, "output tokens/s", &token_rate(timing));
    if let Some(rate) = timing.decode_tokens_per_s {
        page.pair("decoding", &format!("{} tokens/s a stream, after its first token", number(rate)));
    }
    if let Some((rate, prompts)) =
        timing.total_tokens_per_s.zip(timing.window.as_ref().and_then(|w| w.prompt_tokens))
    {
        let prompts = counted(prompts, "token", "tokens");
        page.pair("total tokens/s", &format!("{}, with the prompts' {prompts}", number(rate)));
    }
    beside(page, load, timing);
    page.pair("requests", &requests(load, timing.requests_per_s));
    if let Some(good) = timing.good_requests {
        page.pair_in(Ink::Bold, "goodput", &goodput(load, timing, good));
    }
    prompts(page, load);
    page.pair("in flight", &in_flight(&load.in_flight, load.concurrency));
    set_up(page, load);
    if let Some((offered, asked)) = load.offered_rate_per_s.zip(load.rate_per_s) {
        let seed = if load.arrival == Some(ArrivalProcess::Poisson) {
            format!(" (--load-seed {} repeats the arrivals)", load.seed)
        } else {
            String::new()
        };
        page.pair(
            "offered",
            &format!("{} requests a second, of {} asked for{seed}", number(offered), plain(asked)),
        );
    }
    if load.shape != LoadShape::Closed {
        page.pair("schedule", &schedule(&load.schedule_lag_ns));
    }
    if let Some(repeat) = &timing.repeat {
        page.blank();
        repetitions(page, timing, repeat);
    }
}

/// Why there is no rate of tokens.
pub(super) fn no_tokens(timing: &Timing) -> &str {
    timing.e2e_ns.reason.as_deref().unwrap_or("no answer told its tokens")
}

fn token_rate(timing: &Timing) -> String {
    let (Some(rate), Some(window)) = (timing.output_tokens_per_s, &timing.window) else {
        return format!("unknown: {}", no_tokens(timing));
    };
    let tokens = counted(window.output_tokens, "token", "tokens");
    let chunks = counted(window.token_chunks, "chunk", "chunks");
    let source = match timing.token_source {
        Some(TokenSource::Usage) => format!("{tokens} by the server's usage, in {chunks}"),
        Some(TokenSource::Chunks) => format!("{tokens} ASSUMED from {chunks}: one token each"),
        None => format!("{tokens} of unknown source"),
    };
    let of = if timing.tail.is_some() { " of full load" } else { "" };
    format!("{} ({source}, over {}{of})", number(rate), nanos(window.length_ns))
}

/// What the rate leaves out, or what it was without the end of the load.
fn beside(page: &mut Page, load: &Load, timing: &Timing) {
    if let Some(window) = timing.window.as_ref().filter(|window| window.failed_output_tokens > 0) {
        let tokens = counted(window.failed_output_tokens, "token", "tokens");
        let text = if timing.output_tokens_per_s.is_some() {
            format!("{tokens} of requests that failed are in the rate: the server worked for them")
        } else {
            format!("{tokens} in {}, of requests that failed later", nanos(window.length_ns))
        };
        page.pair("received", &text);
    }
    if let Some(tail) = timing.tail.as_ref().filter(|tail| tail.output_tokens > 0) {
        let tokens = counted(tail.output_tokens, "token", "tokens");
        page.pair("after the load", &format!("{tokens} in {}: in no rate", nanos(tail.length_ns)));
    }
    // One at a time has no end in which the load falls.
    let falls = timing.tail.is_none() && load.concurrency != Some(1);
    let (Some(steady), Some(window)) = (&timing.steady, &timing.window) else { return };
    if let Some(rate) = steady.output_tokens_per_s.filter(|_| falls && steady.length_ns < window.length_ns) {
        let over = nanos(steady.length_ns);
        page.pair("at full load", &format!("{} tokens/s, over the {over} up to the last send", number(rate)));
    }
}

/// Measured requests that Ctrl-C ended. Not from the requests listed, which may be some of them.
fn cut_off(load: &Load) -> u64 {
    failed_by(load, ErrorKind::Interrupted)
}

/// Measured requests that this ended.
fn failed_by(load: &Load, kind: ErrorKind) -> u64 {
    load.failures.iter().filter(|g| g.kind == Some(kind)).map(|g| g.count.saturating_sub(g.warmup)).sum()
}

pub(super) fn requests(load: &Load, per_second: Option<f64>) -> String {
    let (cut_off, limited) = (cut_off(load), failed_by(load, ErrorKind::ClientLimit));
    let failed = load.requests_failed.saturating_sub(cut_off + limited);
    let mut text = format!("{} ok, {} failed", count(load.requests_ok), count(failed));
    if limited > 0 {
        text.push_str(&format!(", {} not sent by a limit of this client's", count(limited)));
    }
    if cut_off > 0 {
        text.push_str(&format!(", {} cut off by the interruption", count(cut_off)));
    }
    if let Some(rate) = per_second {
        text.push_str(&format!(", {} a second", number(rate)));
    }
    if load.warmup > 0 {
        text.push_str(&format!("; {} left out", counted(load.warmup, "warm-up", "warm-ups")));
    }
    text
}

fn goodput(load: &Load, timing: &Timing, good: u64) -> String {
    let rate = match timing.goodput_per_s {
        Some(rate) => format!("{} requests a second", number(rate)),
        None => format!("unknown ({})", timing.goodput_per_s_reason.as_deref().unwrap_or("no reason given")),
    };
    let all = load.requests_sent.saturating_sub(cut_off(load));
    let part = share(good, all).map(|share| format!(" ({share})")).unwrap_or_default();
    format!("{rate}: {} of {}{part} kept {}", count(good), count(all), levels(load))
}

/// The service level, as it was asked for.
pub(super) fn levels(load: &Load) -> String {
    let Some(slo) = load.slo_ns.as_ref().filter(|slo| !slo.is_empty()) else {
        return "the service level".to_owned();
    };
    let levels: Vec<String> = slo.iter().map(|(name, ns)| format!("{name} ≤ {}", nanos(*ns))).collect();
    levels.join(", ")
}

/// Where they are more than one text.
pub(super) fn prompts(page: &mut Page, load: &Load) {
    let mean =
        load.input_tokens_mean.map(|mean| format!("{} tokens each by the server's usage", number(mean)));
    let text = match load.prompts {
        PromptSource::BuiltIn | PromptSource::Text => return,
        PromptSource::Synthetic => {
            format!("made here, {} tokens asked for", or_dash(load.input_tokens_asked, |n| count(n.into())))
        }
        PromptSource::Dataset => "of the data set".to_owned(),
        PromptSource::Lines => "of the file".to_owned(),
    };
    let mean = mean.unwrap_or_else(|| "how many tokens the server counted is unknown".to_owned());
    page.pair("prompts", &format!("{text}; {mean}"));
}

fn in_flight(reached: &InFlight, asked: Option<u32>) -> String {
    let (Some(mean), Some(max)) = (reached.mean, reached.max) else {
        return "unknown: no measured request took any time".to_owned();
    };
    let asked = asked.map(|n| format!(", of {} asked for", count(n.into()))).unwrap_or_default();
    format!("{} requests on average, {} at most{asked}", number(mean), count(max.into()))
}

/// What new connections took, where measured requests opened any.
pub(super) fn set_up(page: &mut Page, load: &Load) {
    let took = &load.connect_ns;
    let (Some(p50), Some(max)) = (took.p50, took.max) else { return };
    let place = if load.shape == LoadShape::Closed {
        "before the latencies, which count from the request's first byte"
    } else {
        "in the latencies, which count from the intended send time"
    };
    let opened = counted(took.count, "request", "requests");
    page.pair(
        "connection set-up",
        &format!("{} (p50), {} at most, of {opened}; {place}", nanos(p50), nanos(max)),
    );
}

fn schedule(lag: &Dist) -> String {
    const FROM: &str = "latencies count from the intended send time";
    let (Some(p50), Some(max)) = (lag.p50, lag.max) else {
        return format!("lag unknown: {}; {FROM}", lag.reason.as_deref().unwrap_or("no reason given"));
    };
    let p99 = or_dash(p99(lag), nanos);
    format!("sent late by {} (p50), {p99} (p99), {} at most; {FROM}", nanos(p50), nanos(max))
}

/// The figures that are repeated, in the order of a reader's interest: keys in `repeat.figures`.
const REPEATED: [&str; 9] = [
    "output_tokens_per_s",
    "requests_per_s",
    "ttft_ns.mean",
    "ttft_ns.p50",
    "ttft_ns.p99",
    "inter_chunk_ns.p50",
    "inter_chunk_ns.p99",
    "e2e_ns.mean",
    "e2e_ns.p99",
];

/// The figure that a key of `repeat.figures` is of, and what of its distribution.
fn repeated_figure(key: &str) -> Option<(&'static Figure<Timing>, Option<&str>)> {
    let (name, part) = key.split_once('.').map_or((key, None), |(name, part)| (name, Some(part)));
    let mut figures = [catalogue::LATENCIES, catalogue::RATES].into_iter().flatten();
    Some((figures.find(|figure| figure.about.name() == name)?, part))
}

/// Of a percentile that each run has too few values for, nothing is shown.
fn is_of_few(key: &str, timing: &Timing, runs: u32) -> bool {
    let Some((figure, Some("p99"))) = repeated_figure(key) else { return false };
    let Value::Dist(dist) = (figure.get)(timing) else { return false };
    dist.count < LEAST_P99.saturating_mul(runs.into())
}

fn repetitions(page: &mut Page, timing: &Timing, repeat: &Repeat) {
    let runs = counted(repeat.runs.into(), "run", "runs");
    let (title, interval) = (format!("over {runs}"), format!("{:.0}% interval", repeat.confidence * 100.0));
    let right = |title| (title, Align::Right);
    let header =
        [(title.as_str(), Align::Left), right("mean"), right(&interval), right("lowest"), right("highest")];
    let first = REPEATED.into_iter().filter_map(|key| Some((key, repeat.figures.get(key)?)));
    let further = repeat.figures.iter().map(|(key, interval)| (key.as_str(), interval));
    let all = first.chain(further.filter(|(key, _)| !REPEATED.contains(key)));
    let all = all.filter(|(key, _)| !is_of_few(key, timing, repeat.runs));
    let rows: Vec<Vec<String>> = all.map(|(key, interval)| repeated(key, interval, repeat.runs)).collect();
    page.table(&header, &rows);
    if repeat.runs < 2 {
        page.note(Ink::Dim, &format!("{UNKNOWN} one run says nothing of how far runs agree"));
    }
    page.note(
        Ink::Dim,
        "the interval is of the mean over the runs; the figures elsewhere are of all runs together",
    );
}

fn repeated(key: &str, interval: &Interval, runs: u32) -> Vec<String> {
    let (label, is_time) = match repeated_figure(key) {
        Some((figure, part)) => {
            let part = part.map(|part| format!(", {part}")).unwrap_or_default();
            (format!("{}{part}", figure.about.short), figure.about.unit.is_time())
        }
        None => (key.to_owned(), key.contains("_ns")),
    };
    let show = if is_time { duration } else { number };
    let least = interval.values.iter().copied().reduce(f64::min);
    let most = interval.values.iter().copied().reduce(f64::max);
    let with = interval.values.len();
    let label = if with == runs as usize { label } else { format!("{label} (of {with})") };
    vec![
        label,
        show(interval.mean),
        or_dash(interval.low.zip(interval.high), |(low, high)| format!("{} to {}", show(low), show(high))),
        or_dash(least, show),
        or_dash(most, show),
    ]
}
