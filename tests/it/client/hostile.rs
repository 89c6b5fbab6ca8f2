//! Answers that no server should give: each a counted failure with its cause, the good ones among them right.
//!
//! The emitter gives every kind of garbage in turn with a good answer before each, in one run. What is in the
//! end only a strange way to say a good answer is taken as one, with its tokens counted by what came.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use inferscope_tests::binary;
use inferscope_tests::emitter::{Emitter, Served, by_id};
use inferscope_tests::report::Named;
use serde_json::Value;

/// What a kind of garbage comes to.
enum Expected {
    /// The kind of the failure, and words that its cause holds.
    Fails(&'static str, &'static str),
    /// An answer with so many tokens, by its chunks: there is no usage to be believed.
    Passes(u64),
}

use Expected::{Fails, Passes};

const KINDS: [(&str, Expected); 36] = [
    ("not-http", Fails("malformed", "invalid HTTP version")),
    ("html-500", Fails("status", "HTTP 500")),
    ("json-document", Fails("malformed", "one JSON document instead of a stream")),
    ("error-document", Fails("server_error", "no such adapter")),
    ("truncated-event", Fails("malformed", "no completion object")),
    ("cut-event", Fails("disconnect", "ended without a finish_reason or [DONE]")),
    // A stream is decoded with replacement characters; its times are as good as any.
    ("invalid-utf8", Passes(1)),
    ("huge-event", Fails("malformed", "longer than 1048576 bytes")),
    ("endless-line", Fails("malformed", "longer than 1048576 bytes")),
    ("endless-comments", Fails("timeout", "no complete answer within 2s")),
    ("huge-headers", Fails("malformed", "head is too large")),
    ("short-length", Fails("disconnect", "ended without a finish_reason or [DONE]")),
    ("long-length", Fails("disconnect", "end of file before message length")),
    ("negative-length", Fails("malformed", "content-length")),
    ("bad-chunk-size", Fails("malformed", "chunk size")),
    ("huge-chunk-size", Fails("malformed", "chunk size")),
    ("broken-gzip", Fails("malformed", "not encoded as it says")),
    ("error-in-stream", Fails("server_error", "the engine fell over")),
    ("done-at-once", Fails("empty", "no generated token")),
    ("empty-body", Fails("empty", "no body")),
    ("no-content", Fails("empty", "no body")),
    ("choices-type", Fails("malformed", "expected a list of choices")),
    ("negative-usage", Passes(2)),
    ("huge-usage", Passes(2)),
    ("deep-json", Fails("empty", "no generated token")),
    ("nul-bytes", Fails("malformed", "no completion object")),
    ("no-done", Fails("disconnect", "ended without a finish_reason or [DONE]")),
    // The second answer is nobody's.
    ("two-answers", Passes(2)),
    // Followed, it would send what was not asked for to who was not named.
    ("redirect-loop", Fails("status", "redirects to")),
    ("too-many-requests", Fails("status", "HTTP 429: rate limited")),
    ("close-before-head", Fails("disconnect", "closed before")),
    ("slow-head", Fails("timeout", "no answer within 2s")),
    ("endless-informational", Fails("timeout", "no answer within 2s")),
    ("switching-protocols", Fails("status", "HTTP 101")),
    ("reset", Fails("disconnect", "connection reset")),
    ("silence", Fails("timeout", "no complete answer within 2s")),
];

/// Tokens of a good answer.
const TOKENS: u64 = 4;
/// Four kinds wait for the limit of 2 s; the rest is start and end on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const PACE: [&str; 6] = ["--first-token", "10ms", "--interval", "5ms", "--tokens", "4"];

fn run(mode: &str, concurrency: &str, requests: usize, code: i32) -> (Value, Vec<Served>) {
    let emitter = Emitter::start(&[&PACE[..], &["--mode", mode]].concat());
    let requests = requests.to_string();
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off", "--timeout", "2s"];
    args.extend(["--concurrency", concurrency, "--requests", &requests]);
    let started = Instant::now();
    let ended = binary::run(&args);
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    (ended.json(), emitter.end())
}

fn check_kind(kind: &str, request: &Value) {
    let (_, expected) =
        KINDS.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("{kind} is new: {request}"));
    match expected {
        Fails(error, cause) => {
            assert_eq!(
                (&request["ok"], &request["error_kind"]),
                (&false.into(), &(*error).into()),
                "{kind}: {request}"
            );
            let told = request.text("error");
            assert!(told.contains(cause), "{kind}: {told}");
            assert!(told.len() < 400 && !told.contains('\n'), "{kind}: {told}");
        }
        Passes(tokens) => {
            assert_eq!(request["ok"], true, "{kind}: {request}");
            assert_eq!(request["output_tokens"], *tokens, "{kind}: {request}");
            assert_eq!(request["token_source"], "chunks", "{kind}: {request}");
        }
    }
}

/// All kinds in one run, each once.
fn check(concurrency: &str) {
    let (report, mut log) = run("garbage:all", concurrency, 2 * KINDS.len(), 0);
    // What ends without a byte on a connection that was used before is sent once more, and ends so again.
    let (all, mut ids) = (log.len(), BTreeSet::new());
    log.reverse();
    log.retain(|served| served.id.as_ref().is_none_or(|id| ids.insert(id.clone())));
    let resent = all - log.len();
    let served = by_id(&log);
    let run = report["run"].text("id");
    let (mut seen, mut failed, mut gaps) = (BTreeSet::new(), 0, 0);
    for request in report.list("requests") {
        let id = format!("inferscope-{run}-{}", request["id"]);
        let outcome = &served[id.as_str()].outcome;
        if let Some(kind) = outcome.strip_prefix("garbage:") {
            assert!(seen.insert(kind.to_owned()), "{kind} came twice");
            check_kind(kind, request);
        } else {
            assert_eq!((outcome.as_str(), &request["ok"]), ("ok", &true.into()), "{request}");
            assert_eq!(
                (&request["output_tokens"], &request["token_source"]),
                (&TOKENS.into(), &"usage".into())
            );
        }
        if request["ok"] == true {
            let chunks = request.list("chunks").iter();
            gaps += chunks.filter(|chunk| chunk["kind"] != "other").count() - 1;
        } else {
            failed += 1;
        }
    }
    assert_eq!(seen, KINDS.iter().map(|(name, _)| (*name).to_owned()).collect(), "every kind came");
    let (load, timing) = (&report["load"], &report["timing"]);
    assert_eq!((&load["requests_failed"], &load["requests_resent"]), (&failed.into(), &resent.into()));
    assert_eq!(load["requests_ok"], 2 * KINDS.len() - failed);
    // What a stall of the client made unknown is counted apart.
    let left_out = |what: &str| timing["left_out"][what].as_u64().unwrap_or(0) as usize;
    let count = |what: &str| timing[what].whole("count") as usize;
    let good = 2 * KINDS.len() - failed;
    assert_eq!(count("ttft_ns") + left_out("first_tokens"), good, "the good ones and no other");
    assert_eq!(count("inter_chunk_ns") + left_out("gaps"), gaps);
    let groups = load.list("failures");
    assert_eq!(groups.iter().map(|group| group.whole("count")).sum::<u64>(), failed as u64);
    assert!(groups.iter().all(|group| !group.text("example").is_empty()), "{groups:?}");
}

#[test]
fn each_kind_is_one_failure_and_what_comes_after_it_is_right() {
    check("1");
}

#[test]
fn among_others_it_harms_none_of_them() {
    check("8");
}

#[test]
fn where_all_fail_nothing_was_measured() {
    for kind in ["html-500", "huge-headers", "deep-json"] {
        let (report, log) = run(&format!("garbage:{kind}"), "2", 4, 3);
        assert_eq!(log.len(), 4);
        for request in report.list("requests") {
            check_kind(kind, request);
        }
        let codes: Vec<&Value> = report.list("validity").iter().map(|v| &v["code"]).collect();
        assert!(codes.contains(&&Value::from("all_requests_failed")), "{codes:?}");
        assert_eq!(report["timing"]["ttft_ns"]["count"], 0);
    }
}
