//! The figures of `timing`, of any set of requests.
//!
//! Owns which requests and which time each of them is of. Called by `load` for the whole, by `steps` for a step.

use super::book::{Book, Figure};
use super::dist::{self, Values};
use super::load::{Load, Phase};
use super::request::{Request, TOGETHER_NS};
use super::window::{self, Delivered, Window};

/// What was measured in some phases of a load.
#[derive(Debug, Clone)]
pub(super) struct Set<'a> {
    pub(super) load: &'a Load,
    /// Without warm-up.
    pub(super) requests: Vec<&'a Request>,
    pub(super) windows: Vec<(Phase, Window)>,
}

impl Set<'_> {
    pub(super) fn ok(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().copied().filter(|request| request.ok)
    }

    pub(super) fn ok_count(&self) -> u64 {
        self.ok().count() as u64
    }

    pub(super) fn times(&self) -> Vec<Window> {
        self.windows.iter().map(|(_, window)| *window).collect()
    }

    fn window_ns(&self) -> Option<u64> {
        let length = |(_, (from, to)): &(Phase, Window)| to.saturating_sub(*from);
        (!self.windows.is_empty()).then(|| self.windows.iter().map(length).sum())
    }

    pub(super) fn output_tokens(&self) -> Option<u64> {
        all_known(self.ok().map(|request| request.output_tokens))
    }

    /// Tokens of a chunk of the successful answers, where their server does not tell.
    fn tokens_a_chunk(&self) -> f64 {
        let differs = |r: &Request| r.text().any(|chunk| chunk.tokens.is_none());
        let chunks: u64 = self.ok().map(|request| request.text().count() as u64).sum();
        match self.output_tokens() {
            Some(tokens) if chunks > 0 && self.ok().any(differs) => tokens as f64 / chunks as f64,
            _ => 1.0,
        }
    }

    fn delivered(&self) -> Delivered {
        Delivered::of(self.load, &self.windows)
    }

    /// That arrived in the windows, whoever asked; unknown where no measured request succeeded.
    pub(super) fn tokens_in_windows(&self) -> Option<u64> {
        (self.ok_count() > 0).then(|| self.delivered().tokens(self.tokens_a_chunk()))
    }

    /// Successful requests that ended in the windows.
    pub(super) fn requests_in_windows(&self) -> Option<u64> {
        (self.ok_count() > 0).then(|| self.delivered().requests)
    }

    /// Output tokens of a successful request, on average.
    pub(super) fn tokens_a_request(&self) -> Option<f64> {
        self.output_tokens().map(|tokens| tokens as f64 / self.ok_count() as f64)
    }

    fn prompt_tokens(&self) -> Option<u64> {
        all_known(self.ok().map(|request| request.prompt_tokens))
    }

    pub(super) fn per_second(&self, n: Option<u64>) -> Option<f64> {
        let window = self.window_ns().filter(|ns| *ns > 0)?;
        n.map(|n| n as f64 / (window as f64 / 1e9))
    }

    pub(super) fn distributions(&self) -> [(&'static str, Values); 6] {
        let each = |get: fn(&Request) -> Vec<u64>| Values::of(self.ok().flat_map(get));
        let mut token_gaps = Values::default();
        self.ok().for_each(|request| token_gaps.extend(request.token_gaps()));
        [
            ("ttft_ns", each(|r| r.ttft().into_iter().collect())),
            ("ttfo_ns", each(|r| r.ttfo().into_iter().collect())),
            ("inter_chunk_ns", each(Request::gaps)),
            ("inter_token_ns", token_gaps),
            ("tpot_ns", each(Request::tpot)),
            ("e2e_ns", each(|r| r.e2e().into_iter().collect())),
        ]
    }

    pub(super) fn lag(&self) -> Values {
        Values::of(self.requests.iter().filter_map(|r| Some(r.sent.saturating_sub(r.scheduled?))))
    }
}

/// Unknown where any is, or where there is none.
fn all_known(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let all: Option<Vec<u64>> = values.collect();
    all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
}

/// The Timing at `path` is of this set.
pub(super) fn check(book: &mut Book<'_>, path: &str, set: &Set<'_>) {
    let field = |name: &str| format!("{path}/{name}");
    let definition = |book: &Book<'_>, name: &str| {
        book.at(&format!("{path}/definitions/{name}")).as_str().unwrap_or("(no definition)").to_owned()
    };
    if set.requests.iter().any(|request| request.chunks_omitted) {
        return;
    }
    for (name, values) in set.distributions() {
        let words = definition(book, name);
        dist::check(book, &field(name), &values, &words);
    }
    let mut is = |name: &str, figure: Figure, of: &str| {
        let words = definition(book, of);
        book.is_unless(&field(name), &field(&format!("{name}_reason")), figure, &words);
    };
    let (output, prompt) = (set.output_tokens(), set.prompt_tokens());
    let good = set.load.slo.as_ref().map(|slo| set.ok().filter(|r| r.keeps(slo)).count() as u64);
    is("output_tokens", Figure::whole(output), "output_tokens");
    is("prompt_tokens", Figure::whole(prompt), "total_tokens_per_s");
    let delivered = set.tokens_in_windows();
    is("output_tokens_per_s", Figure::maybe(set.per_second(delivered)), "output_tokens_per_s");
    let total = delivered.zip(set.delivered().prompt_tokens()).map(|(out, prompt)| out + prompt);
    is("total_tokens_per_s", Figure::maybe(set.per_second(total)), "total_tokens_per_s");
    is("requests_per_s", Figure::maybe(set.per_second(set.requests_in_windows())), "requests_per_s");
    let spans: Vec<(u64, u64)> = set.ok().flat_map(Request::decode).collect();
    let (time, tokens) = spans.iter().fold((0, 0), |(t, n), (time, tokens)| (t + time, n + tokens));
    let decode = (time > 0).then(|| tokens as f64 / (time as f64 / 1e9));
    is("decode_tokens_per_s", Figure::maybe(decode), "decode_tokens_per_s");
    is("good_requests", Figure::whole(good), "goodput_per_s");
    let within = good.map(|_| set.delivered().good);
    is("goodput_per_s", Figure::maybe(set.per_second(within)), "goodput_per_s");
    is("window_ns", Figure::whole(set.window_ns()), "window_ns");
    let chunks = set.ok().map(|request| request.text().count() as u64).sum();
    is("token_chunks", Figure::Whole(chunks), "inter_chunk_ns");
    let sources: Vec<bool> = set.ok().filter_map(|request| request.by_usage).collect();
    let source = match (sources.is_empty(), sources.iter().all(|by_usage| *by_usage)) {
        (true, _) => None,
        (_, true) => Some("usage"),
        (_, false) => Some("chunks"),
    };
    let told = book.at(&field("token_source")).as_str();
    let words = definition(book, "output_tokens");
    book.holds(&field("token_source"), told == source, &format!("{source:?}"), &words);
    let left = set.ok().map(Request::left_out).fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    if book.at(&field("left_out")).is_object() || left != (0, 0, 0) {
        const STALLS: &str = "times that the client's own stalls made unknown";
        for (name, n) in [("gaps", left.0), ("first_tokens", left.1), ("ends", left.2)] {
            book.is(&field(&format!("left_out/{name}")), Figure::Whole(n), STALLS);
        }
    }
    check_windows(book, path, set);
    check_bursts(book, path, set);
}

/// "the gaps of inter_chunk_ns from 100 us on": told to the histogram's digits, and only where percentiles of those mean
/// nothing.
fn check_bursts(book: &mut Book<'_>, path: &str, set: &Set<'_>) {
    const DEFINITION: &str = "the gaps from 100 us on, where many are below: between bursts of chunks";
    let path_of = |name: &str| format!("{path}/{name}");
    let bursts = path_of("inter_burst_ns");
    if book.at(&bursts).is_null() {
        return;
    }
    let withheld = book.at(&path_of("inter_chunk_ns/p50")).is_null();
    book.holds(&path_of("inter_chunk_ns/p50"), withheld, "null: most gaps are within bursts", DEFINITION);
    let long = set.ok().flat_map(Request::gaps).filter(|gap| gap + gap / 1_000 >= TOGETHER_NS).count();
    book.is(&format!("{bursts}/count"), Figure::Whole(long as u64), DEFINITION);
    dist::check_by_histogram(book, &bursts);
}

fn check_windows(book: &mut Book<'_>, path: &str, set: &Set<'_>) {
    let of = |name: &str| {
        // Those of a phase: each lies where its window does.
        let spans = window::spans(book.at(&format!("{path}/{name}")));
        let phase = |span: Window| {
            let of = set.windows.iter().rev().find(|(_, window)| window.0 <= span.0);
            of.map(|(phase, _)| (*phase, span))
        };
        spans.into_iter().filter_map(phase).collect::<Vec<_>>()
    };
    let (steady, tail) = (of("steady"), of("tail"));
    let a_chunk = set.tokens_a_chunk();
    window::check(book, &format!("{path}/window"), set.load, &set.windows, a_chunk);
    window::check(book, &format!("{path}/steady"), set.load, &steady, a_chunk);
    // It begins after the window's last nanosecond.
    let tail: Vec<(Phase, Window)> =
        tail.into_iter().map(|(phase, (from, to))| (phase, (from + 1, to))).collect();
    window::check_after(book, &format!("{path}/tail"), set.load, &tail, a_chunk);
    window::check_ends(book, path, set.load, &set.windows);
}
