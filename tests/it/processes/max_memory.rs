//! However much a server sends, and however many requests are under way, inferscope keeps to `--max-memory`: what is
//! beyond fails its own request, with its cause.

use std::time::{Duration, Instant};

use inferscope_tests::binary;
use inferscope_tests::report::Named;
use inferscope_tests::requirements;
use inferscope_tests::server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
/// Of each run; the longest takes 12 s.
const LIMIT: Duration = Duration::from_secs(60);

/// What a server sends to whoever asks: a beginning, then the same for ever, or nothing more.
struct Hostile {
    begins: Vec<u8>,
    goes_on: Vec<u8>,
}

/// A GET is a model list's.
fn serve(models: Hostile, answers: Hostile) -> Server {
    Server::start(move |connection| {
        let Some(request) = connection.request()? else { return Ok(()) };
        let hostile = if request.method == "GET" { &models } else { &answers };
        connection.send(&hostile.begins)?;
        if hostile.goes_on.is_empty() {
            return connection.wait_for_end();
        }
        loop {
            connection.send(&hostile.goes_on)?;
        }
    })
}

fn no_list() -> Hostile {
    Hostile {
        begins: b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
        goes_on: Vec::new(),
    }
}

fn stream(begins: &str, goes_on: impl Into<Vec<u8>>) -> Hostile {
    Hostile { begins: format!("{STREAM}{begins}").into_bytes(), goes_on: goes_on.into() }
}

/// As many files as this process may open.
fn many_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    limit.maximum.unwrap_or(u64::MAX)
}

/// The report of a run of so many requests at once, of which none succeeds.
fn run(endpoint: &str, requests: u64, max_memory: &str, timeout: &str) -> Value {
    many_files();
    let requests = requests.to_string();
    let started = Instant::now();
    let ended = binary::run(&[
        "--endpoint",
        endpoint,
        "--model",
        "m",
        "--json",
        "--gpu",
        "off",
        "--tracker",
        "proc",
        "--requests",
        &requests,
        "--concurrency",
        &requests,
        "--max-memory",
        max_memory,
        "--timeout",
        timeout,
    ]);
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.json()
}

/// Peak memory, and failures by kind.
fn outcome(name: &str, report: &Value, requests: u64) -> (u64, Vec<(String, u64)>) {
    let peak = report["self"].whole("max_rss_bytes");
    let groups = report["load"].list("failures").iter();
    let kinds: Vec<(String, u64)> = groups
        .map(|g| (g["kind"].as_str().unwrap_or_default().to_owned(), g["count"].as_u64().unwrap_or(0)))
        .collect();
    requirements::say(&format!("{name}: {} MiB at peak, {kinds:?}", peak / MIB));
    assert_eq!(kinds.iter().map(|(_, count)| count).sum::<u64>(), requests, "each failure is counted");
    (peak, kinds)
}

fn count(kinds: &[(String, u64)], kind: &str) -> u64 {
    kinds.iter().filter(|(name, _)| name == kind).map(|(_, count)| count).sum()
}

#[test]
fn lines_without_end_at_hundreds_of_streams_stay_under_the_ceiling() {
    let server = serve(no_list(), stream("data: ", vec![b'x'; 64 << 10]));
    let report = run(&server.endpoint(), 700, "512M", "12s");
    let (peak, kinds) = outcome("endless lines", &report, 700);
    assert!(peak <= 512 * MIB, "{peak}");
    assert!(count(&kinds, "memory") > 0, "{kinds:?}");
    let cause = report.list("requests").iter().find(|r| r["error_kind"] == "memory");
    assert!(
        cause.is_some_and(|r| r["error"].as_str().is_some_and(|e| e.contains("--max-memory"))),
        "{cause:?}"
    );
}

#[test]
fn a_flood_of_chunks_stays_under_the_ceiling() {
    // Reasoning has no limit of its own.
    let event = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"x\"}}]}\n\n".repeat(1_000);
    let server = serve(no_list(), stream("", event));
    let report = run(&server.endpoint(), 64, "64M", "4s");
    let (peak, kinds) = outcome("flood of chunks", &report, 64);
    assert!(peak <= 64 * MIB, "{peak}");
    // How far it came within the time is the machine's.
    assert_eq!(count(&kinds, "memory") + count(&kinds, "timeout"), 64, "{kinds:?}");
}

#[test]
fn heads_without_end_and_a_model_list_without_end_stay_under_the_ceiling() {
    let head = Hostile { begins: b"HTTP/1.1 200 OK\r\nX-Filler: ".into(), goes_on: vec![b'x'; 16 << 10] };
    let list =
        Hostile { begins: b"HTTP/1.1 200 OK\r\n\r\n{\"data\":[1".into(), goes_on: b",1".repeat(8 << 10) };
    let report = run(&serve(list, head).endpoint(), 800, "128M", "10s");
    let (peak, kinds) = outcome("endless heads", &report, 800);
    assert!(peak <= 128 * MIB, "{peak}");
    // hyper looks at a head anew with each read: how far they came within the time is the machine's.
    let told = ["memory", "timeout", "malformed"].map(|kind| count(&kinds, kind));
    assert_eq!(told.iter().sum::<u64>(), 800, "{kinds:?}");
}

#[test]
fn as_many_requests_as_are_let_begin_take_no_more_than_was_reckoned() {
    let many: u64 = if many_files() >= 12_000 { 10_000 } else { 3_000 };
    let server = serve(no_list(), stream(": nothing yet\n", ""));
    // What fits, and no more.
    let max_memory = format!("{}M", (many * 28 * 8).div_ceil(1024 * 5));
    let report = run(&server.endpoint(), many, &max_memory, "3s");
    let (peak, kinds) = outcome(&format!("{many} under way of {max_memory}"), &report, many);
    let ceiling: u64 = max_memory.trim_end_matches('M').parse().expect("a number");
    assert!(peak <= ceiling * MIB, "{peak}");
    assert_eq!(count(&kinds, "memory"), 0, "{kinds:?}");
}

#[test]
fn what_can_not_fit_is_refused_before_anything_is_sent() {
    let refused = |args: &[&str]| {
        let ended = binary::run(&[&["--endpoint", "http://127.0.0.1:9", "--model", "m"], args].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("error: ")).expect("an error");
        (lines[at].to_owned(), lines.get(at + 1).copied().unwrap_or_default().to_owned())
    };
    let (error, remedy) = refused(&["--concurrency", "50000", "--requests", "50000"]);
    assert!(error.contains("50000 requests") && error.contains("--max-memory"), "{error}");
    assert!(remedy.contains("raise it to ") && remedy.contains("at a time"), "{remedy}");
    let (_, remedy) = refused(&["--max-memory", "1M"]);
    assert!(remedy.contains("64M"), "{remedy}");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("large.jsonl");
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(10 << 30).expect("it has holes");
    let path = path.to_str().expect("a plain name");
    for flag in ["--dataset", "--prompt-file"] {
        let (error, remedy) = refused(&[flag, path]);
        assert!(error.contains("larger than 128 MiB"), "{error}");
        assert!(remedy.contains("--max-memory"), "{remedy}");
    }
}
