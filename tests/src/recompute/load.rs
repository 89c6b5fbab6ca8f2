//! The load: what was sent, how it went, how many at a time.
//!
//! Owns the cutting of `requests[]` into phases, each with its window, and the figures of `load`. Called by the module's head;
//! `steps` cuts further.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::book::{Book, Figure};
use super::dist::{self, Values};
use super::in_flight;
use super::request::{Chunk, Request, Slo};
use super::timing::{self, Set};
use super::window::{self, Window};

/// A request is under way in the client's eyes from the moment that its turn comes. A client that has no CPU then stamps the
/// send later, and looks every 20 ms how late it is.
const SLACK_NS: u64 = 20_000_000;

/// Which step of a sweep, which repetition.
pub(super) type Phase = (u64, u64);

#[derive(Debug)]
pub(super) struct Load {
    pub(super) requests: Vec<Request>,
    pub(super) slo: Option<Slo>,
    pub(super) is_sweep: bool,
    pub(super) slack_ns: u64,
    /// As the report tells them, of the phases that had measured requests.
    windows: BTreeMap<Phase, Window>,
}

impl Load {
    /// `None`: nothing was to be sent.
    pub(super) fn of(report: &Value) -> Option<Self> {
        let load = report["load"].as_object()?;
        let list = report["requests"].as_array()?;
        let slo = load["slo_ns"].as_object().map(|levels| {
            levels.iter().filter_map(|(name, level)| Some((name.clone(), level.as_u64()?))).collect()
        });
        let requests: Vec<Request> =
            list.iter().enumerate().map(|(place, json)| Request::of(place, json)).collect();
        let is_sweep = report["sweep"].is_object();
        Some(Self {
            windows: windows(report, is_sweep, &requests),
            requests,
            slo,
            is_sweep,
            // A client that had no CPU tells so of itself.
            slack_ns: SLACK_NS
                + ["read_lag_ns", "timer_lag_ns"].map(|lag| late(&report["self"][lag])).iter().sum::<u64>(),
        })
    }

    pub(super) fn measured(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| !request.warmup)
    }

    pub(super) fn phases(&self) -> BTreeSet<Phase> {
        self.measured().map(Request::phase).collect()
    }

    /// Of all phases.
    pub(super) fn windows(&self) -> Vec<Window> {
        self.windows.values().copied().collect()
    }

    /// What was measured in some phases.
    pub(super) fn set(&self, phases: &BTreeSet<Phase>) -> Set<'_> {
        let windows = self.windows.iter().filter(|(phase, _)| phases.contains(phase));
        Set {
            load: self,
            requests: self.measured().filter(|request| phases.contains(&request.phase())).collect(),
            windows: windows.map(|(phase, window)| (*phase, *window)).collect(),
        }
    }
}

/// "One a repetition": in the order of the phases.
fn windows(report: &Value, is_sweep: bool, requests: &[Request]) -> BTreeMap<Phase, Window> {
    let phases: BTreeSet<Phase> =
        requests.iter().filter(|request| !request.warmup).map(Request::phase).collect();
    let mut all = BTreeMap::new();
    for step in phases.iter().map(|phase| phase.0).collect::<BTreeSet<u64>>() {
        let timing =
            if is_sweep { &report["sweep"]["steps"][step as usize]["timing"] } else { &report["timing"] };
        let of = phases.iter().copied().filter(|phase| phase.0 == step);
        all.extend(of.zip(window::spans(&timing["window"])));
    }
    all
}

fn late(lag: &Value) -> u64 {
    lag["max"].as_u64().unwrap_or(0)
}

pub(super) fn check(book: &mut Book<'_>, load: &Load) {
    if book.at("/requests_omitted") != &Value::from(0) {
        return;
    }
    load.requests.iter().for_each(|request| check_request(book, request));
    check_counts(book, "/load", load, &load.phases());
    let warmup = load.requests.iter().filter(|request| request.warmup).count() as u64;
    book.is("/load/warmup", Figure::Whole(warmup), "warm-up requests sent; in no other figure");
    check_failures(book, load);
    let set = load.set(&load.phases());
    let windows = load.windows();
    let apart = windows.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    book.holds(
        "/requests",
        apart,
        "windows that follow one another",
        "what is measured in one window is in no other",
    );
    let prompts: Vec<u64> = set.ok().filter_map(|request| request.prompt_tokens).collect();
    let mean = (!prompts.is_empty()).then(|| prompts.iter().sum::<u64>() as f64 / prompts.len() as f64);
    book.is("/load/input_tokens_mean", Figure::maybe(mean), "what the server counted, the mean of a request");
    const LAG: &str =
        "send time minus scheduled time; empty in a closed loop, and in a sweep, whose steps tell it";
    let lag = if load.is_sweep { Values::default() } else { set.lag() };
    dist::check(book, "/load/schedule_lag_ns", &lag, LAG);
    const CONNECT: &str = "DNS, TCP and TLS, of the successful measured requests that opened a connection";
    let connects = Values::of(set.ok().filter_map(|request| request.connect));
    dist::check(book, "/load/connect_ns", &connects, CONNECT);
    if load.is_sweep {
        const STEPS: &str = "null for a sweep, whose steps have one each";
        book.holds("/timing", book.at("/timing").is_null(), "null", STEPS);
        return;
    }
    timing::check(book, "/timing", &set);
    check_offered(book, "/load", "/timing", &set);
}

/// The requests that a rate sent, over its time: that of --duration, or what so many take at the rate; longer where the last
/// of them went out later.
pub(super) fn check_offered(book: &mut Book<'_>, path: &str, timing: &str, set: &Set<'_>) {
    const DEFINITION: &str = "measured requests of an open loop over the time in which they went out";
    let field = format!("{path}/offered_rate_per_s");
    let Some(asked) = book.at(&format!("{path}/rate_per_s")).as_f64() else {
        return book.is(&field, Figure::Unknown, DEFINITION);
    };
    // An interruption ends the window and what was to be sent.
    let timed =
        book.at(&format!("{timing}/tail")).is_object() || book.at("/run/interrupted") == &Value::Bool(true);
    let (mut sent, mut seconds) = (0, 0.0);
    for (phase, window) in &set.windows {
        let all: Vec<u64> = set.requests.iter().filter(|r| r.phase() == *phase).map(|r| r.sent).collect();
        let last = all.iter().max().map_or(0, |last| last.saturating_sub(window.0)) as f64 / 1e9;
        let planned = if timed { (window.1 - window.0) as f64 / 1e9 } else { all.len() as f64 / asked };
        sent += all.len();
        seconds += planned.max(last);
    }
    // A send is stamped a moment after its turn came.
    let rate = sent as f64 / seconds;
    book.is(&field, Figure::Between(rate * 0.98, rate * 1.02), DEFINITION);
}

/// Of the whole load, or of a step.
pub(super) fn check_counts(book: &mut Book<'_>, path: &str, load: &Load, phases: &BTreeSet<Phase>) {
    let set = load.set(phases);
    let (sent, ok) = (set.requests.len() as u64, set.ok_count());
    let mut is = |name: &str, n| {
        book.is(&format!("{path}/{name}"), Figure::Whole(n), "requests_ok + requests_failed = requests_sent");
    };
    is("requests_sent", sent);
    is("requests_ok", ok);
    is("requests_failed", sent - ok);
    in_flight::check(book, &format!("{path}/in_flight"), load, &set.windows);
}

fn check_request(book: &mut Book<'_>, request: &Request) {
    const ORDER: &str = "times of a request are in the order of what happened";
    let field = |name: &str| format!("/requests/{}/{name}", request.place);
    let headers = book.whole(&field("headers_ns"));
    let times: Vec<u64> = [Some(request.sent), book.whole(&field("written_ns")), headers]
        .into_iter()
        .flatten()
        .chain(request.chunks.iter().map(|chunk| chunk.t))
        .chain([request.done])
        .collect();
    book.holds(&field("sent_ns"), times.is_sorted(), "sent ≤ written ≤ headers ≤ chunks ≤ done", ORDER);
    if request.chunks_omitted {
        return;
    }
    let text: Vec<&Chunk> = request.text().collect();
    let first = text.first().map(|chunk| chunk.t);
    let last = text.last().map(|chunk| chunk.t);
    book.is(
        &field("first_token_ns"),
        Figure::whole(first),
        "first chunk with any generated token, reasoning included",
    );
    book.is(&field("last_token_ns"), Figure::whole(last), "last chunk with any generated token");
    match request.by_usage {
        Some(false) => {
            let n = text.len() as u64;
            book.is(&field("output_tokens"), Figure::Whole(n), "chunks: one token a chunk is assumed");
        }
        Some(true) => {
            let told: Option<u64> = request.chunks.iter().map(|chunk| chunk.tokens).sum();
            // What came after the last text, above all an end-of-sequence token, is in no chunk.
            let at_least = Figure::Between(told.unwrap_or(0) as f64, f64::MAX);
            book.is(
                &field("output_tokens"),
                at_least,
                "the server's total is no less than what it told of its chunks",
            );
        }
        None => book.is(&field("output_tokens"), Figure::Unknown, "unknown: no answer told"),
    }
}

fn check_failures(book: &mut Book<'_>, load: &Load) {
    const DEFINITION: &str = "failures by cause, warm-up included";
    let list = book.at("/requests").as_array().into_iter().flatten();
    let failed: Vec<&Value> = list.filter(|request| request["ok"] == false).collect();
    assert!(failed.len() <= load.requests.len());
    let status = |request: &Value| {
        if request["error_kind"] == "status" { request["http_status"].clone() } else { Value::Null }
    };
    let mut causes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for request in &failed {
        let cause = format!("{} {}", request["error_kind"], status(request));
        let (count, warmup) = causes.entry(cause).or_default();
        (*count, *warmup) = (*count + 1, *warmup + u64::from(request["warmup"] == true));
    }
    let told = book.at("/load/failures").as_array().map_or(&[][..], Vec::as_slice);
    book.holds("/load/failures", told.len() == causes.len(), &format!("{} causes", causes.len()), DEFINITION);
    for (n, group) in told.iter().enumerate() {
        let cause = format!("{} {}", group["kind"], group["http_status"]);
        let (count, warmup) = causes.get(&cause).copied().unwrap_or_default();
        book.is(&format!("/load/failures/{n}/count"), Figure::Whole(count), DEFINITION);
        book.is(&format!("/load/failures/{n}/warmup"), Figure::Whole(warmup), DEFINITION);
        let of_cause = failed.iter().filter(|r| format!("{} {}", r["error_kind"], status(r)) == cause);
        let first = of_cause.filter_map(|r| r["done_ns"].as_u64()).min();
        book.is(
            &format!("/load/failures/{n}/first_ns"),
            Figure::whole(first),
            "the end of the first of them",
        );
        let is_one = failed
            .iter()
            .any(|request| request["error"] == group["example"] && request["error_kind"] == group["kind"]);
        let known = causes.contains_key(&cause);
        book.holds(
            &format!("/load/failures/{n}/http_status"),
            known,
            "the status of some of them",
            DEFINITION,
        );
        let path = format!("/load/failures/{n}/example");
        book.holds(&path, is_one, "the error of one of them", DEFINITION);
    }
}
