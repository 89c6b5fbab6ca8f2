//! Against a small server on 127.0.0.1 that says exactly what a test wants and when.

use std::sync::{Arc, Mutex};

use super::*;
use crate::clock::Mono;
use crate::event::ChunkKind;
use crate::plan::{Endpoint, HttpPlan, PromptPlan, Secret};
use crate::units::Nanos;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const RUN_ID: &str = "1a-2b";
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does with one request.
#[derive(Clone)]
enum Act {
    Write(Vec<u8>),
    Pause(u64),
    /// Notes the time and writes.
    Emit(&'static str),
    /// Closes the connection.
    Close,
    /// Closes it with a reset.
    Reset,
    Hang,
    /// Nobody listens any more, and the connection is closed.
    Gone,
}

fn write(text: impl Into<String>) -> Act {
    Act::Write(text.into().into_bytes())
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const MODELS: &str = r#"{"object":"list","data":[{"id":"m"}]}"#;
const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ab\"}}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

fn http_chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn whole() -> Vec<Act> {
    vec![
        write(HEAD),
        write(http_chunk(TEXT) + &http_chunk(FINISH) + &http_chunk("data: [DONE]\n\n") + "0\r\n\r\n"),
    ]
}

fn sized(status: &str, kind: &str, body: &str) -> Vec<Act> {
    vec![write(format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))]
}

/// A server and what it saw.
struct Server {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
    emitted: Vec<Mono>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Request n, counted over all connections, is done to as `acts[n]` says; the last goes on.
    async fn start(acts: Vec<Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let gone = Arc::new(tokio::sync::Notify::new());
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = gone.notified() => return,
                };
                let Ok((stream, _)) = accepted else { return };
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, acts.clone(), Arc::clone(&shared), Arc::clone(&gone)));
            }
        });
        Self { port, seen, task }
    }

    fn plan(&self) -> LoadPlan {
        plan(self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    acts: Vec<Vec<Act>>,
    seen: Arc<Mutex<Seen>>,
    gone: Arc<tokio::sync::Notify>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let n = {
            let mut seen = seen.lock().unwrap();
            seen.requests.push(request);
            seen.requests.len() - 1
        };
        for act in acts.get(n).or(acts.last()).unwrap() {
            match act {
                Act::Write(bytes) => {
                    if stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                Act::Emit(data) => {
                    seen.lock().unwrap().emitted.push(Mono::now());
                    stream.write_all(http_chunk(data).as_bytes()).await.unwrap();
                }
                Act::Pause(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                Act::Close => return,
                Act::Reset => {
                    stream.set_zero_linger().unwrap();
                    return;
                }
                Act::Hang => tokio::time::sleep(PATIENCE).await,
                Act::Gone => {
                    gone.notify_one();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    return;
                }
            }
        }
    }
}

/// Head and body of the next request; `None` at the connection's end.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn plan(port: u16) -> LoadPlan {
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let plan = LoadPlan::to(endpoint);
    let http = HttpPlan { timeout: Nanos::from_millis(5_000), ..plan.http.clone() };
    LoadPlan { max_tokens: 8, prompts: PromptPlan::Text("why?".into()), http, ..plan }
}

/// Keeps all.
#[derive(Debug, Default)]
struct LoadLog {
    requests: Vec<RequestLog>,
    phases: Vec<PhaseLog>,
    calibrated: Option<Calibration>,
}

impl Receiver for LoadLog {
    fn calibrated(&mut self, by: Calibration) {
        self.calibrated = Some(by);
    }

    fn request(&mut self, log: RequestLog, _loaded: Loaded) {
        self.requests.push(log);
    }

    fn phase(&mut self, log: PhaseLog) -> Pin<Box<dyn Future<Output = ControlFlow<()>> + '_>> {
        self.phases.push(log);
        Box::pin(async { ControlFlow::Continue(()) })
    }
}

fn served_m() -> Served {
    Served { model: Some("m".to_owned()), ..Served::default() }
}

/// Runs the plan; nothing stops it.
async fn run(plan: &LoadPlan) -> (LoadLog, u64) {
    let (_keep, stop) = watch::channel(false);
    let driver = Driver::new(plan, RUN_ID).unwrap();
    let mut log = LoadLog::default();
    tokio::time::timeout(PATIENCE, driver.run(&served_m(), stop, &mut log)).await.unwrap().unwrap();
    (log, driver.resent().requests)
}

/// The failure of the one request to a server that does this.
async fn failure(acts: Vec<Act>) -> (FailureKind, String) {
    let server = Server::start(vec![acts]).await;
    let (log, _) = run(&server.plan()).await;
    let failure = log.requests[0].failure.clone().expect("it fails");
    (failure.kind, failure.message)
}

#[tokio::test]
async fn stamps_are_close_to_the_times_of_writing() {
    let mut acts = vec![write(HEAD)];
    for _ in 0..10 {
        acts.extend([Act::Pause(5), Act::Emit(TEXT)]);
    }
    acts.push(write(http_chunk(FINISH) + &http_chunk("data: [DONE]\n\n") + "0\r\n\r\n"));
    let server = Server::start(vec![acts]).await;
    let (log, _) = run(&server.plan()).await;
    let request = &log.requests[0];
    assert_eq!(request.failure, None);
    let stamps: Vec<Mono> =
        request.chunks.iter().filter(|c| c.kind == ChunkKind::Content).map(|c| c.t).collect();
    let emitted = server.seen.lock().unwrap().emitted.clone();
    assert_eq!((stamps.len(), emitted.len()), (10, 10));
    let mut late: Vec<u64> = stamps.iter().zip(&emitted).map(|(got, wrote)| got.since(*wrote).0).collect();
    assert!(stamps.iter().zip(&emitted).all(|(got, wrote)| got >= wrote), "never before the writing");
    late.sort_unstable();
    // The median: one descheduling by a busy machine is not the client's.
    assert!(late[5] < 1_000_000, "{late:?} ns after the writing");
    let (headers, done) = (request.headers.unwrap(), request.done);
    assert!(request.sent < headers && headers <= stamps[0] && stamps[9] <= done);
}

#[tokio::test]
async fn requests_go_out_in_order_on_one_connection_as_asked() {
    let server = Server::start(vec![whole()]).await;
    let mut plan = LoadPlan { warmup: 1, requests: Some(2), ..server.plan() };
    plan.http.api_key = Some(Secret::new("sk-hunter2".into()));
    plan.http.headers = vec![("X-Team".into(), "a".into()), ("X-Team".into(), "b".into())];
    let (log, resent) = run(&plan).await;
    let seen: Vec<_> = log.requests.iter().map(|r| (r.id, r.warmup, r.failure.is_none())).collect();
    assert_eq!((seen, resent), (vec![(0, true, true), (1, false, true), (2, false, true)], 0));
    assert_eq!(server.seen.lock().unwrap().connections, 1);
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
    let lower = request.to_ascii_lowercase();
    for header in
        ["authorization: bearer sk-hunter2", "x-team: a", "x-team: b", "content-type: application/json"]
    {
        assert!(lower.contains(&format!("{header}\r\n")), "{request}");
    }
    assert!(!lower.contains("accept-encoding"), "{request}");
    assert!(request.contains("\"stream\":true") && request.contains("\"model\":\"m\""), "{request}");
}

#[tokio::test]
async fn a_header_given_by_hand_replaces_the_key() {
    let server = Server::start(vec![whole()]).await;
    let mut plan = server.plan();
    plan.http.api_key = Some(Secret::new("sk-hunter2".into()));
    plan.http.headers = vec![("Authorization".into(), "Basic eHg=".into())];
    run(&plan).await;
    let request = server.requests()[0].clone();
    assert!(request.contains("authorization: Basic eHg=") && !request.contains("sk-hunter2"), "{request}");
}

#[tokio::test]
async fn malformed_answers_are_failures_with_their_cause() {
    use FailureKind::{Disconnect, Empty, Malformed, ServerError};
    let stream = |data: &[&str]| {
        let body: String = data.iter().map(|d| http_chunk(d)).collect();
        vec![write(format!("{HEAD}{body}0\r\n\r\n"))]
    };
    let long = format!("data: {}", "x".repeat(1 << 21));
    let cases: Vec<(Vec<Act>, FailureKind, &str)> = vec![
        (vec![write("SSH-2.0-OpenSSH_9.2\r\n"), Act::Close], Malformed, ""),
        (vec![Act::Close], Disconnect, "connection closed before message completed"),
        (vec![Act::Reset], Disconnect, "connection reset"),
        (vec![write("HTTP/1.1 200 OK\r\ncont"), Act::Close], Disconnect, ""),
        (vec![write(HEAD), write(http_chunk(TEXT)), Act::Close], Disconnect, ""),
        (
            vec![write(HEAD), write(http_chunk(TEXT)), Act::Pause(50), Act::Reset],
            Disconnect,
            "connection reset",
        ),
        (vec![write(HEAD), write(http_chunk(TEXT) + "zz\r\n"), Act::Close], Malformed, "chunk"),
        (
            vec![write("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n"), write(TEXT), Act::Close],
            Disconnect,
            "",
        ),
        (stream(&[TEXT]), Disconnect, "without a finish_reason or [DONE]"),
        (stream(&[]), Empty, "no body"),
        (stream(&["data: garbage\n\n"]), Malformed, "garbage"),
        (
            stream(&[TEXT, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"]),
            ServerError,
            "out of memory",
        ),
        (stream(&[&long]), Malformed, "a line of the stream is longer"),
        (stream(&[FINISH, "data: [DONE]\n\n"]), Empty, "no generated token"),
        (sized("200 OK", "text/html", "<html>hi"), Malformed, "no event stream: <html>hi"),
        (
            sized("200 OK", "application/json", r#"{"choices":[{"message":{"content":"hi"}}]}"#),
            Malformed,
            "one JSON document instead of a stream",
        ),
        (
            vec![write("HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nxx")],
            Malformed,
            "encoded (br)",
        ),
    ];
    for (i, (acts, kind, said)) in cases.into_iter().enumerate() {
        let (got, message) = failure(acts).await;
        assert!(
            got == kind && message.contains(said) && !message.contains('\n'),
            "case {i}: {got:?}, {message}"
        );
    }
}

#[tokio::test]
async fn a_status_other_than_2xx_fails_with_the_servers_message() {
    for (status, kind, body, message) in [
        (
            "404 Not Found",
            "application/json",
            r#"{"error":{"message":"model x does not exist"}}"#,
            "HTTP 404: model x does not exist",
        ),
        (
            "422 Unprocessable Entity",
            "application/json",
            r#"{"detail":[{"loc":["body"],"msg":"bad"}]}"#,
            "HTTP 422: body: bad",
        ),
        ("500 Internal Server Error", "text/plain", "boom\nTraceback", "HTTP 500: boom"),
        ("502 Bad Gateway", "text/html", "<html><title>nginx is sad</title>", "HTTP 502: nginx is sad"),
        ("503 Service Unavailable", "text/plain", "", "HTTP 503 (Service Unavailable)"),
    ] {
        assert_eq!(failure(sized(status, kind, body)).await, (FailureKind::Status, message.to_owned()));
    }
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://u:p@example.org/v1/x?key=1\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(failure(vec![write(redirect)]).await.1, "HTTP 307: redirects to https://example.org/v1/x");
    let endless = vec![write("HTTP/1.1 400 Bad Request\r\n\r\n"), write("x".repeat(1 << 20)), Act::Hang];
    let (kind, message) = failure(endless).await;
    assert!(kind == FailureKind::Status && message.starts_with("HTTP 400: xxx"), "{message}");
}

#[tokio::test]
async fn a_message_does_not_repeat_the_key() {
    let said = r#"{"error":{"message":"key sk-hunter2 or token tok-hunter3 is wrong"}}"#;
    let server = Server::start(vec![sized("401 Unauthorized", "application/json", said)]).await;
    let mut plan = server.plan();
    plan.http.api_key = Some(Secret::new("sk-hunter2".into()));
    plan.http.headers = vec![("X-Auth".into(), "Bearer tok-hunter3".into())];
    let (log, _) = run(&plan).await;
    assert_eq!(log.requests[0].failure.as_ref().unwrap().message, "HTTP 401: key *** or token *** is wrong");
    let error = Driver::new(&plan, RUN_ID).unwrap().meet().await.unwrap_err().to_string();
    assert!(error.contains("key ***") && !error.contains("hunter"), "{error}");
    plan.http.api_key = Some(Secret::new("sk-\nhunter2".into()));
    let error = Driver::new(&plan, RUN_ID).unwrap_err();
    assert!(error == LoadError::ApiKey && error.is_usage() && !error.to_string().contains("hunter"));
}

/// A port that nothing listens on.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_refused_connection_says_so_and_three_end_the_load() {
    let plan = LoadPlan { warmup: 1, requests: Some(100), ..plan(closed_port().await) };
    let (log, _) = run(&plan).await;
    assert_eq!(log.requests.len(), 3);
    let refused = Some((FailureKind::Connect, "connection refused".to_owned()));
    assert!(log.requests.iter().all(|r| r.failure.clone().map(|f| (f.kind, f.message)) == refused));
    assert!(log.requests.iter().all(|r| r.done >= r.sent && r.headers.is_none()));
    let error = Driver::new(&plan, RUN_ID).unwrap().meet().await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("can't reach http://127.0.0.1:")
            && said.contains("/v1/models: connection refused\n  "),
        "{said}"
    );
}

#[tokio::test]
async fn a_timeout_counts_to_the_last_byte_and_keeps_what_came() {
    for (acts, chunks, said) in [
        (vec![Act::Hang], 0, "no answer within 200ms"),
        (vec![write(HEAD), write(http_chunk(TEXT)), Act::Hang], 1, "no complete answer within 200ms"),
    ] {
        let server = Server::start(vec![acts]).await;
        let mut plan = server.plan();
        plan.http.timeout = Nanos::from_millis(200);
        let (log, _) = run(&plan).await;
        let request = &log.requests[0];
        let failure = request.failure.clone().unwrap();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Timeout, said));
        assert_eq!(request.chunks.len(), chunks);
        let took = request.done.since(request.sent);
        assert!(took >= Nanos::from_millis(200) && took < Nanos::from_millis(2_000), "{took:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_complete_does_not_wait_for_the_bodys_end() {
    let acts = vec![write(HEAD), write(http_chunk(TEXT) + &http_chunk("data: [DONE]\n\n")), Act::Hang];
    let server = Server::start(vec![acts]).await;
    let begin = Mono::now();
    let (log, _) = run(&server.plan()).await;
    let request = &log.requests[0];
    assert_eq!(request.failure, None);
    assert!(Mono::now().since(begin) < Nanos::from_millis(2_000), "nor does the next request");
    assert!(request.done.since(request.sent) < Nanos::from_millis(200), "{request:?}");
}

#[tokio::test]
async fn a_stop_ends_the_request_under_way_and_sends_no_other() {
    let server = Server::start(vec![whole(), vec![write(HEAD), write(http_chunk(TEXT)), Act::Hang]]).await;
    let plan = LoadPlan { requests: Some(10), ..server.plan() };
    let driver = Driver::new(&plan, RUN_ID).unwrap();
    let (send, stop) = watch::channel(false);
    let begin = Mono::now();
    let stopper = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        send.send(true).unwrap();
    };
    let mut log = LoadLog::default();
    let nothing_known = Served::default();
    let load = driver.run(&nothing_known, stop.clone(), &mut log);
    tokio::time::timeout(PATIENCE, async { tokio::join!(load, stopper) }).await.unwrap().0.unwrap();
    assert_eq!(log.requests.len(), 2);
    assert_eq!(log.requests[0].failure, None);
    let last = &log.requests[1];
    assert_eq!((last.failure.as_ref().unwrap().kind, last.chunks.len()), (FailureKind::Interrupted, 1));
    assert!(Mono::now().since(begin) < Nanos::from_millis(3_000));
    let mut none = LoadLog::default();
    driver.run(&Served::default(), stop, &mut none).await.unwrap();
    assert!(none.requests.is_empty() && none.phases.is_empty(), "stopped before it began");
}

#[tokio::test]
async fn a_stop_whose_sender_is_gone_stops_nothing() {
    let server = Server::start(vec![whole()]).await;
    let (_, stop) = watch::channel(false);
    let mut log = LoadLog::default();
    Driver::new(&server.plan(), RUN_ID).unwrap().run(&Served::default(), stop, &mut log).await.unwrap();
    assert_eq!(log.requests[0].failure, None);
}

#[tokio::test]
async fn a_failed_warmup_does_not_end_the_load() {
    let server = Server::start(vec![sized("500 Internal Server Error", "text/plain", "x"), whole()]).await;
    let (log, _) = run(&LoadPlan { warmup: 1, requests: Some(1), ..server.plan() }).await;
    let seen: Vec<_> = log.requests.iter().map(|r| (r.warmup, r.failure.is_none())).collect();
    assert_eq!(seen, [(true, false), (false, true)]);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_between_requests_costs_no_request() {
    // Closed with the answer, which is seen before the next request; and closed when that has come, without
    // reading it, or what looks like that.
    let with_answer: Vec<Act> = whole().into_iter().chain([Act::Close]).collect();
    for (acts, again) in [(vec![with_answer], 0), (vec![whole(), vec![Act::Reset], whole()], 1)] {
        let server = Server::start(acts).await;
        let (log, resent) = run(&LoadPlan { requests: Some(3), ..server.plan() }).await;
        assert!(log.requests.iter().all(|r| r.failure.is_none()), "{:?}", log.requests);
        assert_eq!(resent, again);
    }
}

#[tokio::test]
async fn a_request_is_sent_again_once_at_most_and_only_where_a_used_connection_gave_no_byte() {
    use FailureKind::Disconnect;
    for (acts, failed, requests, again) in [
        // Fresh connections.
        (vec![vec![Act::Close]], true, 2, 0),
        (vec![vec![Act::Reset]], true, 2, 0),
        // Used before, and the second connection ends the same way.
        (vec![whole(), vec![Act::Reset]], true, 3, 1),
        (vec![whole(), vec![Act::Close]], true, 3, 1),
        // The server read the request and closed, at once or after a while.
        (vec![whole(), vec![Act::Close], whole()], false, 3, 1),
        (vec![whole(), vec![Act::Pause(400), Act::Close], whole()], false, 3, 1),
        (vec![whole(), vec![Act::Pause(400), Act::Reset], whole()], false, 3, 1),
        // What was answered was not lost.
        (vec![whole(), vec![write("HTTP/1.1 200 OK\r\n"), Act::Pause(20), Act::Reset], whole()], true, 2, 0),
    ] {
        let server = Server::start(acts).await;
        let (log, resent) = run(&LoadPlan { requests: Some(2), ..server.plan() }).await;
        let last = log.requests[1].failure.as_ref().map(|f| f.kind);
        assert_eq!((last, server.requests().len(), resent), (failed.then_some(Disconnect), requests, again));
    }
}

#[tokio::test]
async fn a_server_that_dies_with_requests_on_used_connections_is_told_by_that() {
    let server = Server::start(vec![whole(), vec![Act::Gone]]).await;
    let (log, resent) = run(&LoadPlan { requests: Some(2), ..server.plan() }).await;
    let failure = log.requests[1].failure.clone().unwrap();
    assert_eq!((failure.kind, resent), (FailureKind::Disconnect, 1), "{}", failure.message);
}

async fn resolved(acts: Vec<Act>, asked: Option<&str>) -> Result<Option<String>, LoadError> {
    let server = Server::start(vec![acts]).await;
    let plan = LoadPlan { model: asked.map(String::from), ..server.plan() };
    let driver = Driver::new(&plan, RUN_ID).unwrap();
    let result = driver.meet().await.or_else(|e| driver.without_list(e)).map(|server| server.model);
    assert!(server.requests()[0].starts_with("GET /v1/models HTTP/1.1\r\n"));
    result
}

#[tokio::test]
async fn the_model_is_asked_of_the_server() {
    let json = |body: &str| sized("200 OK", "application/json", body);
    assert_eq!(resolved(json(MODELS), None).await, Ok(Some("m".into())));
    assert_eq!(resolved(json(MODELS), Some("m")).await, Ok(Some("m".into())));
    // Short names, adapters and gateways answer to what they don't list.
    assert_eq!(resolved(json(MODELS), Some("x")).await, Ok(Some("x".into())));
    for status in ["404 Not Found", "405 Method Not Allowed", "501 Not Implemented"] {
        assert_eq!(resolved(sized(status, "text/plain", "no"), None).await, Ok(None));
        assert_eq!(resolved(sized(status, "text/plain", "no"), Some("x")).await, Ok(Some("x".into())));
    }
    for acts in [
        json("hello"),
        sized("401 Unauthorized", "text/plain", "no"),
        sized("500 Internal Server Error", "text/plain", "no"),
        sized("403 Forbidden", "text/plain", "no"),
    ] {
        assert_eq!(resolved(acts, Some("x")).await, Ok(Some("x".into())));
    }
    // Who is not there has no list either.
    assert!(resolved(vec![Act::Close], Some("x")).await.is_err());
}

#[tokio::test]
async fn a_server_that_can_not_be_driven_is_an_error_with_a_remedy() {
    for (acts, said) in [
        (
            sized("401 Unauthorized", "application/json", r#"{"error":"who?"}"#),
            "(HTTP 401: who?): none was sent\n  set OPENAI_API_KEY",
        ),
        (
            sized("503 Service Unavailable", "application/json", r#"{"error":{"message":"Loading model"}}"#),
            "answered HTTP 503: Loading model\n  the server may still be loading",
        ),
        (
            sized("200 OK", "text/html", "<html>"),
            "something other than a model list: <html>\n  look at --endpoint",
        ),
        (
            vec![write("HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n")],
            "/login\n  give the place",
        ),
        (vec![write("+OK POP3 ready\r\n"), Act::Close], "\n  what listens there does not speak HTTP"),
        (vec![Act::Close], "\n  check that the server is up"),
    ] {
        let error = resolved(acts, None).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said) && text.lines().count() == 2 && !error.is_usage(), "{text}");
    }
    let server = Server::start(vec![vec![Act::Hang]]).await;
    let mut plan = server.plan();
    plan.http.timeout = Nanos::from_millis(100);
    let error = Driver::new(&plan, RUN_ID).unwrap().meet().await.unwrap_err().to_string();
    assert!(error.contains("no answer within 100ms\n  "), "{error}");
}

#[tokio::test]
async fn a_ca_file_that_can_not_be_used_is_named() {
    let mut plan = plan(1);
    for (path, why) in
        [("/nowhere/ca.pem", "No such file or directory\n"), ("/dev/null", "holds no certificate")]
    {
        plan.http.cacert = Some(path.into());
        let error = Driver::new(&plan, RUN_ID).unwrap_err();
        let text = error.to_string();
        assert!(error.is_usage() && text.contains(path) && text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn an_https_endpoint_that_speaks_plain_http_says_what_to_do() {
    let server = Server::start(vec![whole()]).await;
    let mut plan = server.plan();
    plan.endpoint = Endpoint::parse(&format!("https://127.0.0.1:{}", server.port)).unwrap();
    plan.http.insecure = true;
    let error = Driver::new(&plan, RUN_ID).unwrap().meet().await.unwrap_err().to_string();
    assert!(error.starts_with("can't reach https://") && error.contains("--insecure"), "{error}");
}
