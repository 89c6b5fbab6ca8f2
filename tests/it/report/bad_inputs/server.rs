//! Servers that answer what no server should, byte by byte.
//!
//! One listener serves all of them: the first folder of the path names the answer.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use inferscope_tests::server::{self, Connection};

use super::case::Case;

const AREA: &str = "server";
const OK: i32 = 0;
const NOTHING: i32 = 3;

const MODELS: &str = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What is sent for the list of models and for a completion; then the connection ends.
struct Answers {
    name: &'static str,
    models: Vec<u8>,
    completion: Vec<u8>,
    code: i32,
    or: Option<i32>,
}

pub(crate) struct Server {
    server: server::Server,
    answers: Arc<HashMap<&'static str, Answers>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let answers: Arc<HashMap<_, _>> = Arc::new(all().into_iter().map(|a| (a.name, a)).collect());
        let shared = Arc::clone(&answers);
        Self { server: server::Server::start(move |connection| serve(connection, &shared)), answers }
    }

    fn endpoint(&self, name: &str) -> String {
        format!("{}/{name}", self.server.endpoint())
    }

    pub(crate) fn good(&self) -> String {
        self.endpoint("good")
    }
}

fn serve(connection: &mut Connection, answers: &HashMap<&'static str, Answers>) -> io::Result<()> {
    let Some(request) = connection.request()? else { return Ok(()) };
    let name = request.path.split('/').nth(1).unwrap_or_default();
    let Some(answers) = answers.get(name) else { return Ok(()) };
    connection.send(if request.method == "GET" { &answers.models } else { &answers.completion })?;
    connection.finish()
}

fn answer(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [head.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body.as_ref()].concat()
}

/// To the connection's end.
fn stream(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("HTTP/1.1 200 OK\nContent-Type: text/event-stream\nConnection: close", body)
}

fn json(status: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = body.as_ref().len();
    answer(
        &format!(
            "HTTP/1.1 {status}\nContent-Type: application/json\nContent-Length: {length}\nConnection: close"
        ),
        body,
    )
}

fn all() -> Vec<Answers> {
    let good = || stream([TOKEN, FINISH, DONE].concat());
    let models = || json("200 OK", MODELS);
    let mut all = vec![Answers { name: "good", models: models(), completion: good(), code: OK, or: None }];
    let mut completion = |name, completion: Vec<u8>, code| {
        all.push(Answers { name, models: models(), completion, code, or: None });
    };
    let event = |data: &str| stream(format!("data: {data}\n\n{DONE}"));
    let after = |data: &str| stream(format!("{TOKEN}data: {data}\n\n{FINISH}{DONE}"));

    for (name, bytes) in [
        ("nothing", &b""[..]),
        ("one-byte", b"H"),
        ("half-a-line", b"HTTP/1.1 20"),
        ("no-version", b"HTTP 200 OK\r\n\r\n"),
        ("http-9", b"HTTP/9.9 200 OK\r\n\r\n"),
        ("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("tls-alert", b"\x15\x03\x03\x00\x02\x02\x46"),
        ("status-99", b"HTTP/1.1 99 X\r\n\r\n"),
        ("status-1000", b"HTTP/1.1 1000 X\r\n\r\n"),
        ("status-text", b"HTTP/1.1 OK 200\r\n\r\n"),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("smtp", b"220 mail ESMTP\r\n"),
        ("redis", b"-ERR unknown command\r\n"),
        ("zeros", &[0; 4096]),
        ("ff", &[0xff; 4096]),
        ("only-lines", b"\r\n\r\n\r\n\r\n"),
        ("header-no-colon", b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n"),
        ("header-space", b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n"),
        ("header-nul", b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n"),
        ("lengths-two", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ("length-text", b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello"),
        ("length-huge", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx"),
        ("coding-unknown", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: bogus\r\n\r\nx"),
        ("chunk-no-size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n"),
        ("chunk-minus", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n"),
        ("chunk-cut", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhel"),
        ("chunk-overflow", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("205", b"HTTP/1.1 205 Reset Content\r\n\r\n"),
        ("206", b"HTTP/1.1 206 Partial\r\nContent-Length: 0\r\n\r\n"),
        ("304", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ] {
        completion(name, bytes.to_vec(), NOTHING);
    }
    for (name, status) in [
        ("300", "300 Many"),
        ("301", "301 Moved\nLocation: /good"),
        ("302-nowhere", "302 Found"),
        ("307-file", "307 T\nLocation: file:///etc/passwd"),
        ("308-bidi", "308 P\nLocation: http://\u{202e}x/"),
        ("400", "400 Bad"),
        ("401", "401 No"),
        ("402", "402 Pay"),
        ("403", "403 No"),
        ("404", "404 Gone"),
        ("405", "405 No"),
        ("408", "408 Late"),
        ("409", "409 No"),
        ("411", "411 No"),
        ("413", "413 Big"),
        ("414", "414 Long"),
        ("415", "415 No"),
        ("418", "418 Teapot"),
        ("422", "422 No"),
        ("425", "425 Early"),
        ("429", "429 Slow\nRetry-After: never"),
        ("431", "431 Big"),
        ("451", "451 Law"),
        ("500", "500 Oh"),
        ("501", "501 No"),
        ("502", "502 Gate"),
        ("503", "503 Busy"),
        ("504", "504 Late"),
        ("507", "507 Full"),
        ("599", "599 X"),
        ("999", "999 X"),
    ] {
        completion(name, json(status, "{\"error\":{\"message\":\"said \u{1b}[31m\u{202e}\"}}"), NOTHING);
    }
    for (name, body) in [
        ("error-empty", ""),
        ("error-html", "<html><script>alert(1)</script>"),
        ("error-null", "null"),
        ("error-number", "5"),
        ("error-list", "[1]"),
        ("error-type", "{\"error\":5}"),
        ("error-deep", "{\"error\":{\"error\":{\"error\":{}}}}"),
        ("error-esc", "\u{1b}]0;x\u{7}\u{9b}31m"),
        ("error-bidi", "\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{61c}"),
    ] {
        completion(name, json("500 Oh", body), NOTHING);
    }
    // Without a token of text there is nothing to time.
    for (name, data) in [
        ("data-empty", ""),
        ("data-null", "null"),
        ("data-number", "5"),
        ("data-string", "\"x\""),
        ("data-list", "[]"),
        ("data-true", "true"),
        ("data-cut", "{\"choices\":[{"),
        ("data-nan", "{\"choices\":NaN}"),
        ("no-choices", "{}"),
        ("choices-null", "{\"choices\":null}"),
        ("choices-number", "{\"choices\":1}"),
        ("choices-string", "{\"choices\":\"a\"}"),
        ("choice-null", "{\"choices\":[null]}"),
        ("choice-number", "{\"choices\":[5]}"),
        ("delta-null", "{\"choices\":[{\"delta\":null}]}"),
        ("delta-list", "{\"choices\":[{\"delta\":[]}]}"),
        ("content-null", "{\"choices\":[{\"delta\":{\"content\":null}}]}"),
        ("content-empty", "{\"choices\":[{\"delta\":{\"content\":\"\"}}]}"),
        ("error-in-event", "{\"error\":\"\u{1b}[2J no memory\"}"),
        ("error-object", "{\"error\":{\"code\":-1,\"message\":null}}"),
        ("object-only", "{\"object\":\"chat.completion.chunk\"}"),
    ] {
        completion(name, event(data), NOTHING);
    }
    // Beside a token none of these costs the token.
    for (name, data) in [
        ("usage-null", "{\"choices\":[],\"usage\":null}"),
        ("usage-empty", "{\"choices\":[],\"usage\":{}}"),
        ("usage-text", "{\"choices\":[],\"usage\":\"3\"}"),
        ("usage-minus", "{\"choices\":[],\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":-1}}"),
        ("usage-float", "{\"choices\":[],\"usage\":{\"completion_tokens\":1.5}}"),
        (
            "usage-huge",
            "{\"choices\":[],\"usage\":{\"prompt_tokens\":18446744073709551615,\"completion_tokens\":18446744073709551615}}",
        ),
        ("usage-zero", "{\"choices\":[],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}"),
        ("usage-beyond", "{\"choices\":[],\"usage\":{\"completion_tokens\":1e400}}"),
        ("index-minus", "{\"choices\":[{\"index\":-1,\"delta\":{\"content\":\"b\"}}]}"),
        ("index-huge", "{\"choices\":[{\"index\":4294967296,\"delta\":{\"content\":\"b\"}}]}"),
        ("finish-number", "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":5}]}"),
        ("finish-esc", "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"\\u001b[31m\\u202e\"}]}"),
        ("twice-the-name", "{\"choices\":[],\"choices\":[]}"),
        ("content-surrogate", "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ud800\"}}]}"),
    ] {
        all.push(Answers { name, models: models(), completion: after(data), code: OK, or: Some(NOTHING) });
    }
    for (name, bytes, code) in [
        ("lines-cr", [TOKEN, FINISH, DONE].concat().replace('\n', "\r"), OK),
        ("lines-crlf", [TOKEN, FINISH, DONE].concat().replace('\n', "\r\n"), OK),
        ("comments", format!(": hi\n\n:\n\n{TOKEN}: ping\n\n{FINISH}{DONE}"), OK),
        ("bom", format!("\u{feff}{TOKEN}{FINISH}{DONE}"), OK),
        ("fields-unknown", format!("event: x\nid: 5\nretry: -1\nbogus: y\n{TOKEN}{FINISH}{DONE}"), OK),
        ("no-space", [TOKEN, FINISH, DONE].concat().replace("data: ", "data:"), OK),
        ("after-done", format!("{TOKEN}{FINISH}{DONE}{TOKEN}{TOKEN}"), OK),
        ("done-only", DONE.to_owned(), NOTHING),
        ("no-lines", "x".repeat(100_000), NOTHING),
        ("finish-only", format!("{FINISH}{DONE}"), NOTHING),
        ("token-only", TOKEN.to_owned(), NOTHING),
        ("done-twice", format!("{TOKEN}{FINISH}{DONE}{DONE}"), OK),
        (
            "data-lines",
            format!(
                "data: {{\"choices\":\ndata: [{{\"index\":0,\"delta\":{{\"content\":\"a\"}}}}]}}\n\n{FINISH}{DONE}"
            ),
            OK,
        ),
        ("one-document", r#"{"choices":[{"message":{"content":"a"}}]}"#.to_owned(), NOTHING),
    ] {
        all.push(Answers { name, models: models(), completion: stream(bytes), code, or: None });
    }
    // The list of models. Where it names none, the server is asked without a name.
    for (name, bytes, code) in [
        ("list-empty", json("200 OK", r#"{"data":[]}"#), OK),
        ("list-null", json("200 OK", "null"), NOTHING),
        ("list-number", json("200 OK", "7"), NOTHING),
        ("list-type", json("200 OK", r#"{"data":5}"#), NOTHING),
        ("list-ids", json("200 OK", r#"{"data":[{"id":5}]}"#), OK),
        ("list-two", json("200 OK", r#"{"data":[{"id":"a"},{"id":"b"}]}"#), NOTHING),
        ("list-html", answer("HTTP/1.1 200 OK\nConnection: close", "<html>"), NOTHING),
        ("list-404", json("404 No", "{}"), OK),
        ("list-500", json("500 No", "{}"), NOTHING),
        ("list-cut", answer("HTTP/1.1 200 OK\nContent-Length: 500", "{\"data\":["), NOTHING),
        ("list-nothing", Vec::new(), NOTHING),
        ("list-garbage", vec![0xff; 512], NOTHING),
        ("list-deep", json("200 OK", "[".repeat(100_000)), NOTHING),
        ("list-401", json("401 No", r#"{"error":"key \u001b[31m"}"#), NOTHING),
        ("list-name-esc", json("200 OK", "{\"data\":[{\"id\":\"m\\u001b]0;x\\u0007\\u202e\\u009b\"}]}"), OK),
        ("list-name-empty", json("200 OK", r#"{"data":[{"id":""}]}"#), OK),
        (
            "list-redirect",
            answer("HTTP/1.1 302 Found\nLocation: http://127.0.0.1:1/\nContent-Length: 0", ""),
            NOTHING,
        ),
        (
            "list-gzip",
            answer("HTTP/1.1 200 OK\nContent-Encoding: gzip\nConnection: close", "not gzip"),
            NOTHING,
        ),
    ] {
        all.push(Answers { name, models: bytes, completion: good(), code, or: None });
    }
    all
}

pub(crate) fn cases(server: &Server) -> Vec<Case> {
    let mut names: Vec<_> = server.answers.values().collect();
    names.sort_by_key(|answers| answers.name);
    let case = |answers: &Answers| {
        let endpoint = server.endpoint(answers.name);
        let args =
            ["--endpoint", &endpoint, "--tracker", "proc", "--gpu", "off", "--quiet", "--timeout", "3s"];
        let case = Case::new(AREA, answers.name, args, answers.code);
        answers.or.map_or_else(|| Case::new(AREA, answers.name, args, answers.code), |code| case.or(code))
    };
    names.into_iter().map(case).collect()
}
