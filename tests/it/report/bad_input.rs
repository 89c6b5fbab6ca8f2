//! What a user gets wrong is one line that says so and one that says what to do; nothing else is printed,
//! and the exit code tells a script which kind it was.

use std::net::TcpListener;

use inferscope_tests::binary::{self, Ended};
use inferscope_tests::report::Named;
use inferscope_tests::script::{self, What, after_ms};
use inferscope_tests::server::Server;
use inferscope_tests::timed_server::{Answer, TimedServer};

const USAGE: i32 = 2;
const NOTHING_MEASURED: i32 = 3;

/// The error's two lines, after checking everything that is the same for all of them.
fn refusal(ended: &Ended, code: i32) -> (String, String) {
    assert_eq!(ended.stdout, "", "stdout is for reports: {ended:#?}");
    error_of(ended, code)
}

/// Of a run in which some text arrived before all failed: that is in a report that says so first.
fn failure_with_text(ended: &Ended) -> (String, String) {
    let report = &ended.stdout;
    let invalid = report.find("INVALID").unwrap_or_else(|| panic!("no verdict: {ended:#?}"));
    assert!(invalid < report.find("received ").unwrap_or(0), "{ended:#?}");
    error_of(ended, NOTHING_MEASURED)
}

fn error_of(ended: &Ended, code: i32) -> (String, String) {
    assert_eq!(ended.code, Some(code), "{ended:#?}");
    for noise in ["panicked", "backtrace", "Caused by", "thread '"] {
        assert!(!ended.stderr.contains(noise), "{noise}: {ended:#?}");
    }
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("error: "));
    let at = at.unwrap_or_else(|| panic!("no `error: ` line: {ended:#?}"));
    assert_eq!(lines.len() - at, 2, "an error is one line and its remedy one more: {ended:#?}");
    assert!(lines[at + 1].starts_with("  "), "the remedy is indented: {ended:#?}");
    (lines[at].to_owned(), lines[at + 1].trim().to_owned())
}

fn run(args: &[&str]) -> Ended {
    binary::run(args)
}

#[test]
fn an_unreachable_endpoint_is_named() {
    // Taken and given back: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (error, _) = refusal(&run(&["--endpoint", &format!("http://127.0.0.1:{port}")]), NOTHING_MEASURED);
    assert!(error.contains(&port.to_string()), "{error}");
    // With a target that is there, the endpoint still is not.
    let own = std::process::id().to_string();
    let args = ["--endpoint", &format!("http://127.0.0.1:{port}"), "--pid", &own, "--json"];
    let (error, _) = refusal(&run(&args), NOTHING_MEASURED);
    assert!(error.contains(&port.to_string()), "{error}");
}

#[test]
fn a_port_that_speaks_something_else_is_an_error() {
    let server = Server::start(|connection| {
        let _ = connection.request()?;
        connection.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    });
    let (error, _) = refusal(&run(&["--endpoint", &server.endpoint()]), NOTHING_MEASURED);
    assert!(error.contains(&server.port().to_string()), "{error}");
}

#[test]
fn an_http_error_is_told_in_the_servers_words() {
    for (status, body, said) in [
        (400, r#"{"error": {"message": "max_tokens is too large: 128"}}"#, "max_tokens is too large: 128"),
        (401, r#"{"error": {"message": "invalid key"}}"#, "invalid key"),
        (404, r#"{"object": "error", "message": "model is gone"}"#, "model is gone"),
        (422, r#"{"detail": "field required"}"#, "field required"),
        (500, "engine is dead", "engine is dead"),
        (503, "", "503"),
    ] {
        let server = TimedServer::start(Answer::Status(status, body.to_owned()));
        let ended = run(&["--endpoint", &server.endpoint(), "--model", script::MODEL]);
        let (error, _) = refusal(&ended, NOTHING_MEASURED);
        assert!(error.contains(&status.to_string()) && error.contains(said), "{error}");
    }
}

#[test]
fn a_stream_that_fails_in_the_middle_is_told_in_the_servers_words() {
    let steps = vec![script::content(1), after_ms(1, What::Error("out of KV cache".into()))];
    let server = TimedServer::start(Answer::Stream(steps));
    let (error, _) = failure_with_text(&run(&["--endpoint", &server.endpoint()]));
    assert!(error.contains("out of KV cache"), "{error}");
}

#[test]
fn a_stream_that_breaks_ends_the_run_with_an_error() {
    for (name, steps) in [
        ("disconnect", vec![script::content(1), after_ms(1, What::Disconnect)]),
        (
            "garbage",
            vec![after_ms(1, What::Raw(b"data: {\"choices\": [\n\n".to_vec())), after_ms(0, What::Done)],
        ),
        ("no token", vec![after_ms(1, What::Role), after_ms(0, What::Finish), after_ms(0, What::Done)]),
        ("stall", vec![script::content(1), after_ms(1, What::Stall)]),
    ] {
        let server = TimedServer::start(Answer::Stream(steps));
        let ended = run(&["--endpoint", &server.endpoint(), "--timeout", "1s"]);
        let has_text = matches!(name, "disconnect" | "stall");
        let (error, remedy) =
            if has_text { failure_with_text(&ended) } else { refusal(&ended, NOTHING_MEASURED) };
        println!("{name}: {error}\n  {remedy}");
        assert_eq!(remedy.contains("while it answered: see its log"), name == "disconnect", "{remedy}");
    }
}

#[test]
fn a_model_that_is_not_served_is_an_error_that_names_it() {
    let server = TimedServer::start(Answer::Status(
        404,
        r#"{"error": {"message": "The model `nope` does not exist.", "code": 404}}"#.into(),
    ));
    let (error, _) = refusal(&run(&["--endpoint", &server.endpoint(), "--model", "nope"]), NOTHING_MEASURED);
    assert!(error.contains("nope"), "{error}");
}

#[test]
fn a_model_that_is_not_listed_is_asked_for_with_a_warning() {
    let server = TimedServer::start(Answer::Stream(script::steady(2, 1, 1)));
    let ended = run(&["--endpoint", &server.endpoint(), "--model", "short-name", "--json"]);
    assert!(ended.stderr.contains("does not list model 'short-name'"), "{ended:#?}");
    let report = ended.report();
    let codes: Vec<&str> = report.list("validity").iter().filter_map(|v| v["code"].as_str()).collect();
    assert!(codes.contains(&"model_not_listed"), "{codes:?}");
    assert_eq!(report["load"]["model"], "short-name");
}

#[test]
fn one_prompt_sent_again_and_again_is_told_and_the_built_in_one_never_is() {
    let server = TimedServer::start(Answer::Stream(script::steady(2, 1, 1)));
    let said = |more: &[&str]| {
        let endpoint = server.endpoint();
        let report = run(&[&["--endpoint", &endpoint, "--json", "--requests", "3"], more].concat()).report();
        report.has("prompts_identical")
    };
    assert!(said(&["--prompt", "why?"]));
    assert!(!said(&[]));
    assert!(!said(&["--input-tokens", "9"]));
}

#[test]
fn a_pid_that_does_not_exist_is_named_and_nothing_is_sent() {
    let server = TimedServer::start(Answer::Stream(script::steady(2, 1, 1)));
    // Beyond the largest pid that Linux gives.
    let pid = (1_u32 << 22) + 1;
    let ended = run(&["--endpoint", &server.endpoint(), "--pid", &pid.to_string()]);
    let (error, _) = refusal(&ended, NOTHING_MEASURED);
    assert!(error.contains(&pid.to_string()), "{error}");
    assert_eq!(server.exchanges().len(), 0, "the load was sent for nothing");
}

#[test]
fn a_process_that_is_a_zombie_is_no_target() {
    let server = TimedServer::start(Answer::Stream(script::steady(2, 1, 1)));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    while inferscope_tests::process::living_comm(pid).is_some() {
        std::thread::yield_now();
    }
    let ended = run(&["--endpoint", &server.endpoint(), "--pid", &pid.to_string()]);
    let (error, _) = refusal(&ended, NOTHING_MEASURED);
    assert!(error.contains(&pid.to_string()), "{error}");
    child.wait().unwrap();
}

#[test]
fn a_malformed_url_is_a_usage_error() {
    for url in ["http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://127.0.0.1/?a=b", "8000"] {
        let (error, _) = refusal(&run(&["--endpoint", url]), USAGE);
        // A query may hold a key.
        assert!(error.contains(url.split("?").next().unwrap_or(url)), "{error}");
    }
}

#[test]
fn no_endpoint_is_a_usage_error_that_says_how_to_give_one() {
    let (_, remedy) = refusal(&run(&[]), USAGE);
    assert!(remedy.contains("--endpoint"), "{remedy}");
}

#[test]
fn an_unwritable_output_is_found_before_the_load_is_sent() {
    let server = TimedServer::start(Answer::Stream(script::steady(2, 1, 1)));
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing/report.json");
    for path in [missing.as_path(), dir.path()] {
        let path = path.to_str().unwrap();
        let ended = run(&["--endpoint", &server.endpoint(), "-o", path]);
        let (error, _) = refusal(&ended, USAGE);
        assert!(error.contains(path), "{error}");
    }
    assert_eq!(server.exchanges().len(), 0, "the load was sent for nothing");
}

#[test]
fn a_refused_run_leaves_an_earlier_report_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    std::fs::write(&path, "earlier").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    refusal(&run(&["--endpoint", &endpoint, "-o", path.to_str().unwrap()]), NOTHING_MEASURED);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "earlier");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
}

#[test]
fn a_ca_file_that_cannot_be_read_is_a_usage_error() {
    let args = ["--endpoint", "https://127.0.0.1:1", "--cacert", "/nonexistent/ca.pem"];
    let (error, _) = refusal(&run(&args), USAGE);
    assert!(error.contains("/nonexistent/ca.pem"), "{error}");
}

#[test]
fn flags_that_contradict_each_other_are_refused_with_a_way_out() {
    for (flags, named, way_out) in [
        (&["--concurrency", "4", "--rate", "5"][..], "'--rate <R>'", "leave one of them out"),
        (&["--rate", "5", "--sweep", "rate=1,2"], "'--sweep <STEPS>'", "leave one of them out"),
        (&["--fail-on-slo"], "--slo <LEVELS>", "add what is named"),
        (&["--rate", "5"], "--rate without --requests", "--duration 30s"),
        (&["--prompt", "a", "--input-tokens", "9"], "--input-tokens", "in one way"),
        (&["--input-tokens", "9", "--shared-prefix", "9"], "--shared-prefix 9", "less than --input-tokens"),
        (&["--sweep", "concurrency=4,2"], "do not rise", "--sweep concurrency=1,2,4,8"),
        (&["--sweep", "users=1,2"], "'users'", "--sweep concurrency=1,2,4,8"),
        (&["--slo", "latency=1s"], "'latency' is no level", "--slo ttft=200ms"),
        (&["--slo", "ttft=fast"], "'fast'", "--slo ttft=200ms"),
        (&["--rate", "0"], "--rate 0", "0.001"),
        (&["--repeat", "0"], "--repeat 0", "from 1"),
        (&["--concurency", "4"], "'--concurency'", "'--concurrency'"),
    ] {
        let args = [&["--endpoint", "http://127.0.0.1:1"], flags].concat();
        let (error, remedy) = refusal(&run(&args), USAGE);
        assert!(error.contains(named) && remedy.contains(way_out), "{flags:?}: {error}\n{remedy}");
    }
}
