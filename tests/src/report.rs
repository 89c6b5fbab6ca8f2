//! A report as a stranger reads it: the JSON document, with names and types of this package's own.
//!
//! Owns the types of what the tests read, and reading by name, which fails where the name is wrong. They are written
//! from the schema and not `inferscope::report::model`'s on purpose: with the writer's types, a field that is renamed
//! by mistake would be renamed here too, and every test would pass while each reader of the JSON breaks. It also keeps
//! these tests from being built again at each change of inferscope. `recompute` goes further and shares nothing, this
//! module included. Called by every test that reads a report.

use std::ops::Deref;

use serde::Deserialize;
use serde_json::Value;

/// The document; what is not typed here is read by its name from the JSON value that it derefs to.
#[derive(Debug, Clone)]
pub struct Report {
    pub run: Run,
    /// `None` where nothing was sent.
    pub load: Option<Load>,
    pub timing: Option<Timing>,
    pub requests: Vec<Request>,
    pub processes: Processes,
    pub validity: Vec<Finding>,
    document: Value,
}

#[derive(Deserialize)]
struct Typed {
    run: Run,
    load: Option<Load>,
    timing: Option<Timing>,
    requests: Vec<Request>,
    processes: Processes,
    validity: Vec<Finding>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Run {
    pub id: String,
    /// CLOCK_MONOTONIC at the zero of every `t_ns`.
    pub origin_monotonic_ns: u64,
    pub duration_ns: u64,
    pub interrupted: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Load {
    pub model: Option<String>,
    pub requests_sent: u64,
    pub requests_ok: u64,
    pub requests_failed: u64,
    pub requests_resent: u64,
    pub connections_opened: u64,
    pub warmup: u64,
    pub failures: Vec<Failure>,
    pub in_flight: InFlight,
    pub schedule_lag_ns: Distribution,
    pub offered_rate_per_s: Option<f64>,
    pub seed: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Failure {
    pub kind: Option<String>,
    pub http_status: Option<u64>,
    pub count: u64,
    pub warmup: u64,
    pub example: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct InFlight {
    pub mean: Option<f64>,
    pub max: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Timing {
    pub token_source: Option<String>,
    pub token_chunks: u64,
    pub output_tokens: Option<u64>,
    pub output_tokens_per_s: Option<f64>,
    pub decode_tokens_per_s: Option<f64>,
    pub ttft_ns: Distribution,
    pub ttfo_ns: Distribution,
    pub inter_chunk_ns: Distribution,
    pub inter_token_ns: Distribution,
    pub tpot_ns: Distribution,
    pub e2e_ns: Distribution,
    pub window_ns: Option<u64>,
    pub window: Option<Window>,
    pub steady: Option<Window>,
    pub tail: Option<Window>,
    /// Absent where nothing was.
    #[serde(default, deserialize_with = "or_default")]
    pub left_out: LeftOut,
}

/// What stalls of the client made unknown, and so is in no distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct LeftOut {
    pub gaps: u64,
    pub first_tokens: u64,
    pub ends: u64,
    pub longest_stall_ns: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Distribution {
    pub count: u64,
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub mean: Option<f64>,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p95: Option<u64>,
    pub p99: Option<u64>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Window {
    pub spans: Vec<Span>,
    pub length_ns: u64,
    pub requests: u64,
    pub output_tokens: u64,
    pub output_tokens_per_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Span {
    pub from_ns: u64,
    pub to_ns: u64,
}

/// One request; its times count from the run's origin.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    pub id: u64,
    pub warmup: bool,
    pub ok: bool,
    pub error_kind: Option<String>,
    pub error: Option<String>,
    pub finish_reason: Option<String>,
    pub output_tokens: Option<u64>,
    pub scheduled_ns: Option<u64>,
    pub sent_ns: u64,
    pub written_ns: Option<u64>,
    pub first_token_ns: Option<u64>,
    pub last_token_ns: Option<u64>,
    pub done_ns: u64,
    /// The client stalled around its sending: its time to the first token is unknown.
    #[serde(default)]
    pub sent_client_late: bool,
    pub chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Chunk {
    pub t_ns: u64,
    pub kind: ChunkKind,
    pub tokens: Option<u64>,
    /// Read after a stall of the client: what is measured from or to it is unknown.
    #[serde(default)]
    pub client_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChunkKind {
    Content,
    Reasoning,
    Tool,
    Other,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Processes {
    pub tracker: String,
    pub complete: bool,
    /// `None` where none was observed.
    pub counts: Option<Counts>,
    pub cpu: Cpu,
    pub list: Vec<Process>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Counts {
    pub alive_at_start: u64,
    pub forks: u64,
    pub exits: u64,
    pub execs: Option<u64>,
    pub threads: Option<u64>,
    pub seen: u64,
    pub peak_alive: u64,
    pub short_lived: Option<u64>,
    pub unreadable: u64,
    pub lost_events: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Cpu {
    pub total_ns: Option<u64>,
    pub live_ns: Option<u64>,
    pub exited_ns: Option<u64>,
    pub reaped_ns: Option<u64>,
    pub unlisted_ns: Option<u64>,
    pub error_ns: Option<u64>,
    pub cgroup_ns: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Process {
    pub pid: u64,
    pub ppid: u64,
    pub comm: String,
    pub role: String,
    pub exe: Option<String>,
    pub argv: Option<Vec<String>>,
    pub exit: Option<Exit>,
    pub exited_ns: Option<u64>,
    pub cpu_user_ns: Option<u64>,
    pub cpu_system_ns: Option<u64>,
    pub max_rss_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Exit {
    pub code: Option<i64>,
    pub signal: Option<i64>,
    pub oom: Option<bool>,
}

/// An entry of `validity`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finding {
    pub code: String,
    pub level: Level,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warn,
    Invalid,
}

fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

impl From<Value> for Report {
    /// # Panics
    /// When the document is no report of version 1.
    fn from(document: Value) -> Self {
        assert_eq!(document["schema_version"], 1, "no report: {document}");
        let typed = Typed::deserialize(&document).unwrap_or_else(|e| panic!("no report: {e}: {document}"));
        let Typed { run, load, timing, requests, processes, validity } = typed;
        Self { run, load, timing, requests, processes, validity, document }
    }
}

impl Deref for Report {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.document
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.document.fmt(f)
    }
}

impl Report {
    #[must_use]
    pub fn into_document(self) -> Value {
        self.document
    }

    /// # Panics
    /// When nothing was sent.
    #[must_use]
    pub fn load(&self) -> &Load {
        self.load.as_ref().expect("a load was sent")
    }

    /// # Panics
    /// When nothing was sent.
    #[must_use]
    pub fn timing(&self) -> &Timing {
        self.timing.as_ref().expect("a load was sent")
    }

    /// What the request carries as `x-request-id`.
    #[must_use]
    pub fn request_id(&self, request: &Request) -> String {
        format!("inferscope-{}-{}", self.run.id, request.id)
    }

    /// Without warm-up.
    pub fn measured(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| !request.warmup)
    }

    /// The codes of `validity`.
    #[must_use]
    pub fn codes(&self) -> Vec<&str> {
        self.validity.iter().map(|finding| finding.code.as_str()).collect()
    }

    /// Whether `validity` has an entry of that code.
    #[must_use]
    pub fn has(&self, code: &str) -> bool {
        self.finding(code).is_some()
    }

    #[must_use]
    pub fn finding(&self, code: &str) -> Option<&Finding> {
        self.validity.iter().find(|finding| finding.code == code)
    }

    /// The entry of `processes.list`.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.list.iter().find(|process| process.pid == u64::from(pid))
    }

    /// # Panics
    /// When no processes were observed.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.processes.counts.as_ref().expect("processes were observed")
    }
}

impl Request {
    /// Its chunks with text.
    pub fn text(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().filter(|chunk| chunk.kind != ChunkKind::Other)
    }

    #[must_use]
    pub fn kinds(&self) -> Vec<ChunkKind> {
        self.chunks.iter().map(|chunk| chunk.kind).collect()
    }
}

/// Reading a JSON object by name; `a.b` is the `b` of its `a`. All panic with the name where there is no such thing.
pub trait Named {
    /// # Panics
    /// When there is none.
    fn at(&self, name: &str) -> &Value;

    /// # Panics
    /// When it is no whole number.
    fn whole(&self, name: &str) -> u64;

    /// # Panics
    /// When it is no number.
    fn real(&self, name: &str) -> f64;

    /// # Panics
    /// When it is no text.
    fn text(&self, name: &str) -> &str;

    /// # Panics
    /// When it is no list.
    fn list(&self, name: &str) -> &[Value];
}

impl Named for Value {
    fn at(&self, name: &str) -> &Value {
        let mut at = self;
        for part in name.split('.') {
            at = at.get(part).unwrap_or_else(|| panic!("no {part} of {name} in {self}"));
        }
        at
    }

    fn whole(&self, name: &str) -> u64 {
        self.at(name).as_u64().unwrap_or_else(|| panic!("{name} is no whole number in {self}"))
    }

    fn real(&self, name: &str) -> f64 {
        self.at(name).as_f64().unwrap_or_else(|| panic!("{name} is no number in {self}"))
    }

    fn text(&self, name: &str) -> &str {
        self.at(name).as_str().unwrap_or_else(|| panic!("{name} is no text in {self}"))
    }

    fn list(&self, name: &str) -> &[Value] {
        self.at(name).as_array().unwrap_or_else(|| panic!("{name} is no list in {self}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_is_left_out_nowhere() {
        let timing = |left_out: Value| {
            let none = json!({"count": 0});
            let mut timing = json!({"token_chunks": 0, "left_out": left_out});
            for name in ["ttft_ns", "ttfo_ns", "inter_chunk_ns", "inter_token_ns", "tpot_ns", "e2e_ns"] {
                timing[name] = none.clone();
            }
            Timing::deserialize(timing).unwrap().left_out
        };
        assert_eq!(timing(Value::Null), LeftOut::default());
        let some = json!({"gaps": 3, "first_tokens": 0, "ends": 0, "longest_stall_ns": 5});
        assert_eq!(timing(some).gaps, 3);
    }

    #[test]
    fn a_figure_is_read_by_its_name() {
        let report = json!({"a": {"b": 3, "c": [1.5], "d": null}, "e": "f"});
        assert_eq!((report.whole("a.b"), report.real("a.b"), report.text("e")), (3, 3.0, "f"));
        assert_eq!((report.list("a.c").len(), report.at("a.d")), (1, &Value::Null));
    }

    #[test]
    #[should_panic(expected = "no x of a.x")]
    fn a_wrong_name_is_no_null() {
        let _ = json!({"a": {}}).at("a.x");
    }
}
