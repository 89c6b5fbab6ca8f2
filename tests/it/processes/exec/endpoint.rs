//! A server that exec starts, drives and ends.

use std::net::{Ipv4Addr, TcpListener};

use inferscope_tests::report::{Named, Report};
use inferscope_tests::{binary, requirements};

use super::*;

const NOTHING_MEASURED: i32 = 3;
const REQUESTS: u64 = 3;

/// Taken and given back: nobody listens there.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Its arguments: the server's program, and its port.
const SERVER: &str = r#"exec "$1" demo-server --lifetime 60s --workers 2 --port "$2""#;
/// Loads its model for a while, and is behind a shell that outlives its first SIGTERM.
const WRAPPED: &str =
    r#"trap '' TERM; sleep 0.4; "$1" demo-server --lifetime 60s --workers 2 --port "$2" & wait"#;

fn drive(script: &str, flags: &[&str]) -> Report {
    let port = free_port();
    let (endpoint, port) = (endpoint(port), port.to_string());
    let server = binary::inferscope_bin();
    let own = ["--json", "--endpoint", &endpoint, "--requests", "3", "--warmup", "1", "--max-tokens", "8"];
    let ended = exec(&[&own, flags].concat(), script, &[server.to_str().unwrap(), &port]);
    let report = ended.report();
    assert_eq!(report["run"]["mode"], "exec");
    assert_eq!(report["load"]["requests_ok"], REQUESTS, "{:#}", report["load"]);
    assert_eq!(report["load"]["warmup"], 1);
    assert!(report.has("server_ready"), "{:#?}", report.validity);
    let ready = report["target"].whole("ready_ns");
    let first = report.list("requests").iter().map(|r| r.whole("sent_ns")).min().unwrap();
    assert!(ready > 0 && ready <= first, "ready at {ready}, first request at {first}");
    assert_nothing_is_left(&report);
    report
}

#[test]
fn a_server_is_driven_once_it_answers_and_ended_after_it() {
    if !requirements::kernel("exec with an endpoint") {
        return;
    }
    let report = drive(SERVER, &["--tracker", "ebpf"]);
    assert_eq!(report["processes"]["complete"], true, "{:#?}", report.validity);
    assert_eq!(report["target"]["exit"]["signal"], 15, "SIGTERM was enough");
    assert!(!report.has("command_ended"), "{:#?}", report.validity);
    // One helper for each completion, and every process of it is seen to its end.
    let list = processes(&report);
    // By what it runs: under load one lives long enough to be called a worker.
    let helpers = list.iter().filter(|p| p["argv"][1] == "demo-helper").count() as u64;
    assert_eq!(helpers, REQUESTS + 1, "{list:#?}");
    let counts = &report["processes"]["counts"];
    assert_eq!(counts.whole("exits"), counts.whole("forks") + 1, "{counts:#}");
    assert!(list.iter().all(|p| !p["exited_ns"].is_null()), "{list:#?}");
}

#[test]
fn a_server_behind_a_wrapper_that_does_not_listen_is_ended_too() {
    let report = drive(WRAPPED, &["--grace", "300ms"]);
    assert_eq!(report["target"]["exit"]["signal"], 9, "{:#}", report["target"]);
    assert!(report["target"].whole("ready_ns") > 400_000_000, "it took its time to answer");
}

fn error(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(NOTHING_MEASURED), "{ended:#?}");
    assert_eq!(ended.stdout, "", "{ended:#?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("error: ")).unwrap();
    assert_eq!(lines.len() - at, 2, "an error is one line and its remedy one more: {ended:#?}");
    lines[at].to_owned()
}

#[test]
fn a_command_that_ends_before_it_answers_is_an_error_with_its_status_and_the_report_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (document, report) = document(dir.path());
    let endpoint = endpoint(free_port());
    let file = dir.path().join("pid");
    let script = r#"setsid sleep 20 < /dev/null > /dev/null 2>&1 & echo $! > "$1"; echo no GPU >&2; exit 7"#;
    let ended = exec(&["--endpoint", &endpoint, &document], script, &[file.to_str().unwrap()]);
    // It would have outlived the command without inferscope too.
    let daemon = pids(&file)[0];
    assert!(lives(daemon));
    send(daemon, Signal::KILL);
    wait_until("the daemon is gone", || !lives(daemon));
    assert!(error(&ended).contains("exit code 7"), "{ended:#?}");
    assert!(ended.stderr.contains("no GPU\n"), "{ended:#?}");
    let report = report();
    assert_eq!(report["target"]["exit"]["code"], 7);
    assert_eq!(report["load"], Value::Null);
    assert_nothing_is_left(&report);
}

#[test]
fn a_server_that_does_not_answer_in_time_is_an_error_and_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (document, report) = document(dir.path());
    let port = free_port();
    let flags = ["--endpoint", &endpoint(port), "--ready-timeout", "400ms", &document];
    let ended = exec(&flags, "exec sleep 60", &[]);
    let said = error(&ended);
    assert!(said.contains("400ms") && said.contains(&port.to_string()), "{said}");
    let report = report();
    assert_eq!(report["target"]["exit"]["signal"], 15);
    assert_eq!(report["target"]["ready_ns"], Value::Null);
    assert_nothing_is_left(&report);
}

#[test]
fn a_server_from_before_is_not_taken_for_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("ran");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap().port());
    let ended = exec(&["--endpoint", &endpoint], "touch \"$1\"", &[marker.to_str().unwrap()]);
    assert!(error(&ended).contains(&endpoint), "{ended:#?}");
    assert!(!marker.exists(), "the command was run");
}

#[test]
fn an_interrupt_while_the_server_loads_ends_it_and_the_report_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let endpoint = endpoint(free_port());
    let script = r#"echo $$ > "$1"; exec sleep 60"#;
    let args = command_line(&["--json", "--endpoint", &endpoint], script, &[file.to_str().unwrap()]);
    let running = binary::start(&args);
    pids(&file);
    running.process.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    let report = ended.json();
    assert_eq!(report["target"]["exit"]["signal"], 2, "{:#}", report["target"]);
    assert_nothing_is_left(&report);
}
