//! The load's windows, and what was delivered in them.
//!
//! Owns which tokens, chunks and requests a stretch of time holds. Where a window begins and ends the report tells
//! (`timing.window.spans[]`): that is checked against what was sent and received, as far as the lists tell.

use serde_json::Value;

use super::book::{Book, Figure};
use super::load::{Load, Phase};
use super::request::Request;

/// From and to, in nanoseconds of the run's timeline, both included.
pub(super) type Window = (u64, u64);

/// The spans of a `LoadWindow`.
pub(super) fn spans(window: &Value) -> Vec<Window> {
    let spans = window["spans"].as_array().into_iter().flatten();
    spans.filter_map(|span| Some((span["from_ns"].as_u64()?, span["to_ns"].as_u64()?))).collect()
}

/// Sums over stretches.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delivered {
    told: u64,
    told_of_failed: u64,
    /// Chunks of failed requests that the server did not count.
    uncounted: u64,
    chunks: u64,
    /// `None`: of one it is unknown.
    prompt: Option<u64>,
    any_prompt: bool,
    pub(super) requests: u64,
    pub(super) good: u64,
}

impl Delivered {
    /// What arrived in these windows of the requests of their phases, "whoever asked for them".
    pub(super) fn of(load: &Load, windows: &[(Phase, Window)]) -> Self {
        let mut sum = Self { prompt: Some(0), ..Self::default() };
        for (phase, window) in windows {
            load.requests.iter().filter(|request| request.phase() == *phase).for_each(|request| {
                sum.add(load, request, *window);
            });
        }
        sum
    }

    fn add(&mut self, load: &Load, request: &Request, window: Window) {
        let within = |t: u64| (window.0..=window.1).contains(&t);
        let tokens = tokens_within(request, window);
        self.chunks += request.text().filter(|chunk| within(chunk.t)).count() as u64;
        match (request.ok, request.by_usage) {
            (true, _) => self.told += tokens,
            (false, Some(false)) => self.uncounted += tokens,
            (false, _) => {
                (self.told, self.told_of_failed) = (self.told + tokens, self.told_of_failed + tokens)
            }
        }
        if !request.ok {
            return;
        }
        if request.text().next().is_some_and(|first| within(first.t)) {
            self.prompt = self.prompt.zip(request.prompt_tokens).map(|(sum, n)| sum + n);
            self.any_prompt = true;
        }
        if within(request.done) {
            self.requests += 1;
            self.good += u64::from(load.slo.as_ref().is_some_and(|slo| request.keeps(slo)));
        }
    }

    /// "A chunk that the server did not count is taken for as many tokens as those of successful answers held on average."
    pub(super) fn tokens(&self, a_chunk: f64) -> u64 {
        self.told + (self.uncounted as f64 * a_chunk).round() as u64
    }

    pub(super) fn prompt_tokens(&self) -> Option<u64> {
        self.prompt.filter(|_| self.any_prompt)
    }
}

/// "by their chunks' times. Where the tokens of each chunk are unknown they are shared out by the chunks' bytes; what the
/// server counted beyond the text arrives with its last chunk".
fn tokens_within(request: &Request, window: Window) -> u64 {
    let within = |t: u64| (window.0..=window.1).contains(&t);
    let total = request.output_tokens.unwrap_or(0);
    if request.chunks.is_empty() {
        return if within(request.done) { total } else { 0 };
    }
    if request.chunks.iter().all(|chunk| within(chunk.t)) {
        return total;
    }
    let told: Option<Vec<(u64, u64)>> =
        request.chunks.iter().map(|chunk| Some((chunk.t, chunk.tokens?))).collect();
    if let Some(told) = told {
        let end = request.text().last().map_or(request.done, |last| last.t);
        let all: u64 = told.iter().map(|(_, n)| n).sum();
        let beyond = if within(end) { total.saturating_sub(all) } else { 0 };
        return told.iter().filter(|(t, _)| within(*t)).map(|(_, n)| n).sum::<u64>() + beyond;
    }
    let bytes = |until: &dyn Fn(u64) -> bool| -> u64 {
        request.text().filter(|chunk| until(chunk.t)).map(|chunk| chunk.bytes.max(1)).sum()
    };
    // Whole tokens at either end.
    let up_to = |bytes_then: u64| total * bytes_then / bytes(&|_| true).max(1);
    up_to(bytes(&|t| t <= window.1)) - up_to(bytes(&|t| t < window.0))
}

/// The `LoadWindow` at `path` holds what arrived in these windows.
pub(super) fn check(book: &mut Book<'_>, path: &str, load: &Load, windows: &[(Phase, Window)], a_chunk: f64) {
    check_with(book, path, (load, windows), a_chunk, 0);
}

/// The same of windows that begin a nanosecond after what the report tells as their beginning.
pub(super) fn check_after(
    book: &mut Book<'_>,
    path: &str,
    load: &Load,
    windows: &[(Phase, Window)],
    a_chunk: f64,
) {
    check_with(book, path, (load, windows), a_chunk, 1);
}

fn check_with(
    book: &mut Book<'_>,
    path: &str,
    (load, windows): (&Load, &[(Phase, Window)]),
    a_chunk: f64,
    more: u64,
) {
    const DEFINITION: &str =
        "what was delivered in the stretch, by the times of its chunks, whoever asked for it";
    let field = |name: &str| format!("{path}/{name}");
    if windows.is_empty() {
        book.holds(path, book.at(path).is_null(), "null", "there was no such stretch");
        return;
    }
    let length: u64 = windows.iter().map(|(_, (from, to))| (to + more).saturating_sub(*from)).sum();
    let of = Delivered::of(load, windows);
    let tokens = of.tokens(a_chunk);
    let failed = of.told_of_failed + tokens - of.told;
    let mut is = |name: &str, figure: Figure| book.is(&field(name), figure, DEFINITION);
    is("length_ns", Figure::Whole(length));
    is("output_tokens", Figure::Whole(tokens));
    is("failed_output_tokens", Figure::Whole(failed));
    is("token_chunks", Figure::Whole(of.chunks));
    is("prompt_tokens", Figure::whole(of.prompt_tokens()));
    is("requests", Figure::Whole(of.requests));
    let rate =
        |n: Option<u64>| Figure::maybe(n.filter(|_| length > 0).map(|n| n as f64 / (length as f64 / 1e9)));
    is("output_tokens_per_s", rate(Some(tokens)));
    is("total_tokens_per_s", rate(of.prompt_tokens().map(|prompt| tokens + prompt)));
    is("requests_per_s", rate(Some(of.requests)));
}

/// The ends of the windows at `path` (a Timing) are of what was sent and received.
pub(super) fn check_ends(book: &mut Book<'_>, path: &str, load: &Load, windows: &[(Phase, Window)]) {
    let tails = spans(book.at(&format!("{path}/tail")));
    for (n, (phase, window)) in windows.iter().enumerate() {
        let field = |of: &str, end: &str| format!("{path}/{of}/spans/{n}/{end}");
        let of = || load.requests.iter().filter(|request| request.phase() == *phase);
        let first = of().filter(|request| !request.warmup).map(|request| request.sent).min();
        let last = of().map(|request| request.done).max().unwrap_or(0);
        if let Some(first) = first {
            let begins = Figure::Between(0.0, first as f64);
            book.is(&field("window", "from_ns"), begins, "it begins with the measured part");
        }
        let slack = load.slack_ns as f64;
        match tails.get(n) {
            None => {
                let ends = Figure::Between(last as f64, last as f64 + slack);
                book.is(&field("window", "to_ns"), ends, "it ends with the last byte");
            }
            Some(_) => {
                let asked = duration(book).map_or(Figure::Unknown, |most| Figure::Whole(window.0 + most));
                book.is(&field("window", "to_ns"), asked, "where --duration ended the load it ends with it");
                book.is(
                    &field("tail", "from_ns"),
                    Figure::Whole(window.1),
                    "the tail begins where the window ends",
                );
                let ends = Figure::Whole(last.max(window.1));
                book.is(&field("tail", "to_ns"), ends, "it ends with the last byte");
            }
        }
    }
    for (n, steady) in spans(book.at(&format!("{path}/steady"))).iter().enumerate() {
        let within = windows.iter().any(|(_, window)| steady.0 == window.0 && steady.1 <= window.1);
        let field = format!("{path}/steady/spans/{n}/to_ns");
        book.holds(
            &field,
            within,
            "within a window, from its beginning on",
            "the part in which the load was full",
        );
        let field = format!("{path}/steady/spans/{n}/from_ns");
        book.holds(&field, within, "the beginning of a window", "the part in which the load was full");
    }
}

/// What `--duration` asked for, in nanoseconds: `600ms`, `1.5s`.
fn duration(book: &Book<'_>) -> Option<u64> {
    let argv = book.at("/run/argv").as_array()?;
    let flag = argv.iter().position(|word| word == "--duration")?;
    let text = argv.get(flag + 1)?.as_str()?;
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e6),
        None => (text.strip_suffix('s')?, 1e9),
    };
    number.parse::<f64>().ok().map(|number| (number * unit).round() as u64)
}
