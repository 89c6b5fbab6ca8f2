//! The demo's server by itself: it is the test object of others, so its own shape is tested first.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use inferscope_tests::binary;
use inferscope_tests::client::{Answered, request};
use inferscope_tests::process::{Group, Wrapped, children, living_comm};
use inferscope_tests::wait::wait_until;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(10);

fn start(args: &[&str]) -> Wrapped {
    let args =
        [&["demo-server", "--lifetime", "60s", "--first-token", "5ms", "--token-interval", "1ms"], args];
    Wrapped::start(&binary::inferscope_bin(), &args.concat())
}

fn ask(server: &Wrapped, tokens: u32, stream: bool) -> Answered {
    let body = json!({
        "model": "inferscope-demo", "max_tokens": tokens, "stream": stream,
        "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "hello there"}],
    });
    request(server.port, "POST", "/v1/chat/completions", &body.to_string()).expect("it answers")
}

fn gone(pids: &[u32]) -> bool {
    pids.iter().all(|&pid| living_comm(pid).is_none())
}

#[test]
fn it_streams_like_an_engine() {
    let server = start(&[]);
    let answer = ask(&server, 3, true);
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("data: [DONE]"), "{answer:?}");
    let events = answer.events();
    let deltas: Vec<_> = events.iter().map(|event| &event["choices"][0]["delta"]).collect();
    assert_eq!(events.len(), 6, "{events:#?}");
    assert_eq!(*deltas[0], json!({"role": "assistant", "content": null}));
    assert!((1..=3).all(|i| deltas[i]["content"].is_string()), "{events:#?}");
    assert_eq!(events[4]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[5]["choices"], json!([]));
    assert_eq!(events[5]["usage"], json!({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}));

    let whole = ask(&server, 3, false).json();
    assert_eq!(whole["usage"], events[5]["usage"]);
    assert_eq!(whole["choices"][0]["message"]["content"], "These tokens are");
}

#[test]
fn it_lists_its_model_and_refuses_what_it_does_not_have() {
    let server = start(&[]);
    let get = |path: &str| request(server.port, "GET", path, "").expect("it answers");
    assert_eq!(get("/health").status, 200);
    assert_eq!(get("/v1/models").json()["data"][0]["id"], "inferscope-demo");
    let post = |body: &str| request(server.port, "POST", "/v1/chat/completions", body).expect("it answers");
    for (answer, status, said) in [
        (get("/v2"), 404, "there is no GET /v2"),
        (post(r#"{"model": "nope", "messages": []}"#), 404, "The model `nope` does not exist."),
        (post(r#"{"model": "inferscope-demo"}"#), 400, "`messages`"),
        (post("{"), 400, "not valid JSON"),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        let error = answer.json()["error"]["message"].to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_worker_is_replaced_after_its_requests_and_no_request_fails() {
    let server = start(&["--workers", "2", "--max-requests", "4"]);
    let before: BTreeSet<u32> = children(server.server_pid).into_iter().collect();
    assert_eq!(before.len(), 2);
    let mut served_by = BTreeSet::new();
    for _ in 0..32 {
        let answer = ask(&server, 1, true);
        assert_eq!(answer.status, 200, "{answer:?}");
        // chatcmpl-PID-N
        let id = answer.events()[0]["id"].to_string();
        served_by.insert(id.split('-').nth(1).map(str::to_owned));
    }
    assert!(served_by.len() >= 8, "32 requests, 4 for each: {served_by:?}");
    wait_until("every worker is another one", || {
        let now: BTreeSet<u32> = children(server.server_pid).into_iter().collect();
        now.len() == 2 && now.is_disjoint(&before)
    });
}

#[test]
fn a_killed_worker_is_replaced() {
    let server = start(&["--workers", "2", "--max-requests", "0"]);
    let before = children(server.server_pid);
    kill(before[0]);
    wait_until("there are two again", || {
        let now = children(server.server_pid);
        now.len() == 2 && !now.contains(&before[0])
    });
    assert_eq!(ask(&server, 1, true).status, 200);
}

#[test]
fn the_workers_end_with_the_arbiter_however_it_ends() {
    let server = start(&["--workers", "3"]);
    let workers = children(server.server_pid);
    assert_eq!(workers.len(), 3);
    kill(server.server_pid);
    wait_until("the workers are gone", || gone(&workers));
}

#[test]
fn the_server_ends_with_its_wrapper() {
    let server = start(&["--workers", "2"]);
    let mut all = children(server.server_pid);
    all.push(server.server_pid);
    kill(server.wrapper_pid());
    wait_until("the server is gone", || gone(&all));
}

#[test]
fn the_server_ends_when_nobody_reads_its_output_or_its_time_is_over() {
    for lifetime in ["60s", "300ms"] {
        let mut command = Command::new(binary::inferscope_bin());
        let mut group = Group::talking(command.args(["demo-server", "--lifetime", lifetime]));
        assert!(group.line(LIMIT).starts_with("listening "));
        let workers = children(group.pid());
        if lifetime == "60s" {
            group.stop_listening();
        }
        assert!(group.wait(LIMIT).success());
        assert!(gone(&workers), "the arbiter waits for its workers' end");
    }
}

/// A process that this test's server consists of.
fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("it is a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
}
