//! Against servers of a thread each, which say what a test wants whatever the client is doing.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::Full;
use hyper::body::Bytes;

use super::channel::Channel;
use super::conn::Conn;
use super::reqwest_client::ReqwestClient;
use super::socket::Socket;
use super::*;
use crate::event::ChunkKind;
use crate::units::Nanos;

/// No test waits longer for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
pub(super) const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ab\"}}]}\n\n";
pub(super) const DONE: &str = "data: [DONE]\n\n";
pub(super) const LAST: &str = "0\r\n\r\n";

pub(super) fn piece(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

pub(super) fn whole() -> String {
    [CHUNKED, &piece(TEXT), &piece(DONE), LAST].concat()
}

/// The server's end of a connection.
pub(super) struct Peer(TcpStream);

impl Peer {
    pub(super) fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// The next request; `None` where there is none to come.
    pub(super) fn request(&mut self) -> Option<String> {
        let head = self.head()?;
        let length =
            head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).ok()?;
        Some(head + &String::from_utf8(body).unwrap())
    }

    fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        Some(String::from_utf8(head).unwrap())
    }

    pub(super) fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }
}

/// A server that does this with its listener, at this address.
fn serve_at<T: Send + 'static>(
    address: &str,
    script: impl FnOnce(TcpListener) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || script(listener)))
}

pub(super) fn serve<T: Send + 'static>(
    script: impl FnOnce(TcpListener) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    serve_at("127.0.0.1:0", script)
}

/// One connection, on which every request gets its answer; what they were.
fn answering(answers: Vec<String>) -> (u16, JoinHandle<Vec<String>>) {
    serve(move |listener| {
        let mut peer = Peer::accept(&listener);
        let mut requests = Vec::new();
        for answer in answers {
            let Some(request) = peer.request() else { break };
            requests.push(request);
            peer.say(&answer);
        }
        requests
    })
}

pub(super) fn plan(timeout_ms: u64) -> HttpPlan {
    HttpPlan {
        max_memory: 512 << 20,
        timeout: Nanos::from_millis(timeout_ms),
        headers: Vec::new(),
        api_key: None,
        cacert: None,
        insecure: false,
    }
}

/// A client that waits `timeout_ms` for an answer.
pub(super) struct Client {
    pub(super) http: Http,
    pub(super) endpoint: Endpoint,
    scheduled: Option<Mono>,
    next_id: u64,
}

impl Client {
    pub(super) fn new(endpoint: &str, plan: &HttpPlan) -> Self {
        let endpoint = Endpoint::parse(endpoint).unwrap();
        Self { http: Http::new(plan, &endpoint, "1a-2b").unwrap(), endpoint, scheduled: None, next_id: 0 }
    }

    pub(super) fn h1(port: u16) -> Self {
        let client = Self::new(&format!("127.0.0.1:{port}"), &plan(5_000));
        assert!(matches!(client.http.transport, Transport::H1(_)));
        client
    }

    /// Through reqwest, which a plain endpoint has only behind a proxy.
    pub(super) fn reqwest(port: u16) -> Self {
        let mut client = Self::h1(port);
        let stats = Arc::clone(&client.http.stats);
        let reqwest =
            ReqwestClient::new(&plan(5_000), &client.endpoint, None, CONNECT_TIMEOUT, stats).unwrap();
        client.http.transport = Transport::Reqwest(Box::new(reqwest));
        client
    }

    pub(super) async fn post(&mut self, body: impl Into<Vec<u8>>) -> RequestLog {
        let slot = Slot { id: self.next_id, warmup: false, scheduled: self.scheduled };
        self.next_id += 1;
        let url = self.endpoint.join("chat/completions");
        let (_keep, mut stop) = watch::channel(false);
        let exchange = self.http.exchange(&url, body.into(), slot, Asked::tokens(8), &mut stop);
        tokio::time::timeout(PATIENCE, exchange).await.expect("it ends in time")
    }

    /// Closes the idle ones.
    pub(super) fn forget_connections(&self) {
        if let Transport::H1(h1) = &self.http.transport {
            h1.forget();
        }
    }

    pub(super) fn connections(&self) -> u64 {
        self.http.client_log().connections_opened
    }
}

/// One request to a server that answers so, through the one and the other transport.
async fn both(answer: &str) -> [RequestLog; 2] {
    let (port, direct) = answering(vec![answer.to_owned()]);
    let first = Client::h1(port).post("{}").await;
    let (port, general) = answering(vec![answer.to_owned()]);
    let second = Client::reqwest(port).post("{}").await;
    direct.join().unwrap();
    general.join().unwrap();
    [first, second]
}

pub(super) fn times(log: &RequestLog) -> Vec<Mono> {
    log.chunks.iter().filter(|c| c.kind == ChunkKind::Content).map(|c| c.t).collect()
}

/// A client that is put aside for longer than a server pauses reads two pieces at once, and the kernel tells one
/// time for them: the machine's doing, so one attempt of five has to come out.
async fn once_in_five(mut attempt: impl AsyncFnMut() -> bool) {
    for _ in 0..5 {
        if attempt().await {
            return;
        }
    }
    panic!("it came out in none of five attempts");
}

/// The clocks of the two sides are one, but a stamp goes through CLOCK_REALTIME.
pub(super) const CONVERSION: Nanos = crate::clock::BothClocks::APART;

#[tokio::test]
async fn a_stamp_is_the_kernels_however_late_the_client_reads() {
    let (port, server) = serve(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.request().unwrap();
        peer.say(CHUNKED);
        let mut wrote = Vec::new();
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(100));
            let before = Mono::now();
            peer.say(&piece(TEXT));
            wrote.push((before, Mono::now()));
        }
        peer.say(&(piece(DONE) + LAST));
        wrote
    });
    let mut client = Client::h1(port);
    // Another task that holds the thread again and again.
    let busy = async {
        for _ in 0..15 {
            thread::sleep(Duration::from_millis(60));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (log, ()) = tokio::join!(client.post("{}"), busy);
    let wrote = server.join().unwrap();
    assert_eq!(log.failure, None);
    let times = times(&log);
    assert_eq!(times.len(), 5);
    let mut late = 0;
    for (t, (before, after)) in times.iter().zip(wrote) {
        assert!(t.plus(CONVERSION) >= before, "{t:?} not before {before:?}");
        // The packet is received while it is written, or right after by a soft interrupt.
        late += usize::from(*t > after.plus(Nanos::from_millis(5)));
    }
    assert!(late <= 1, "{late} of 5 stamps are later than the writing");
    let own = client.http.client_log();
    let lag = own.read_lag.unwrap();
    assert!(lag.max() > 20_000_000, "the reads were late: {}", lag.max());
    assert_eq!(own.unstamped_reads, 0);
}

#[tokio::test]
async fn each_piece_has_the_stamp_of_the_read_that_completed_it() {
    once_in_five(pieces_in_time).await;
}

/// Whether each was read before the next was written.
async fn pieces_in_time() -> bool {
    let (port, server) = serve(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.request().unwrap();
        let mut before = Vec::new();
        let mut say = |text: &str, pause_ms: u64| {
            thread::sleep(Duration::from_millis(pause_ms));
            before.push(Mono::now());
            peer.say(text);
        };
        let (text, cut) = (piece(TEXT), piece(TEXT));
        // The head with half an event; its other half with a whole one and the beginning of the next; the rest of
        // that alone; then two in quick succession.
        say(&format!("{CHUNKED}{}", &text[..20]), 0);
        say(&format!("{}{text}{}", &text[20..], &cut[..2]), 40);
        say(&cut[2..], 40);
        say(&text, 40);
        say(&text, 0);
        say(&(piece(DONE) + LAST), 40);
        before
    });
    let mut client = Client::h1(port);
    let log = client.post("{}").await;
    let before = server.join().unwrap();
    assert_eq!(log.failure, None);
    let times = times(&log);
    assert_eq!(times.len(), 5);
    assert!(times[0] == times[1], "they came together");
    let headers = log.headers.unwrap();
    let mut in_time = true;
    // Each after its writing began and before the next one did.
    for (t, from, to) in [
        (headers, 0, 1),
        (times[0], 1, 2),
        (times[2], 2, 3),
        (times[3], 3, 5),
        (times[4], 4, 5),
        (log.done, 5, 6),
    ] {
        assert!(t.plus(CONVERSION) >= before[from], "{from}: {t:?}, {before:?}");
        in_time &= before.get(to).is_none_or(|next| t < *next);
    }
    in_time
}

#[tokio::test]
async fn a_connection_is_used_again_and_requests_carry_their_id() {
    for general in [false, true] {
        let (port, server) = answering(vec![whole(); 3]);
        let mut client = if general { Client::reqwest(port) } else { Client::h1(port) };
        for _ in 0..3 {
            assert_eq!(client.post("{\"a\":1}").await.failure, None);
        }
        assert_eq!(client.connections(), 1);
        let requests = server.join().unwrap();
        for (n, request) in requests.iter().enumerate() {
            assert!(request.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{request}");
            assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
            let lower = request.to_ascii_lowercase();
            assert!(lower.contains(&format!("\r\nx-request-id: inferscope-1a-2b-{n}\r\n")), "{request}");
            assert!(lower.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{request}");
        }
        let own = client.http.client_log();
        assert_eq!(own.read_lag.is_none(), general, "only sockets of one's own give stamps");
        assert_eq!(own.unstamped_reads > 0, general);
    }
}

#[tokio::test]
async fn headers_of_the_user_win() {
    let (port, server) = answering(vec![whole()]);
    let mut plan = plan(5_000);
    plan.headers = vec![("X-Request-ID".into(), "mine".into()), ("Host".into(), "other.example".into())];
    let mut client = Client::new(&format!("http://127.0.0.1:{port}/api"), &plan);
    assert_eq!(client.post("{}").await.failure, None);
    let request = server.join().unwrap()[0].to_ascii_lowercase();
    assert!(request.starts_with("post /api/v1/chat/completions "), "{request}");
    assert!(request.contains("x-request-id: mine\r\n") && !request.contains("inferscope-"), "{request}");
    assert!(request.contains("host: other.example\r\n") && !request.contains("127.0.0.1"), "{request}");
}

#[tokio::test]
async fn answers_framed_in_every_way_are_read() {
    let events = format!("{TEXT}{DONE}");
    for answer in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{events}", events.len()),
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{events}"),
        format!("HTTP/1.0 200 OK\r\n\r\n{events}"),
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{}", whole()),
        // Trailers, an extension, and a size in upper case with zeros before it.
        format!("{CHUNKED}00{:X};a=b\r\n{TEXT}\r\n{}0\r\nx-sum: 1\r\n\r\n", TEXT.len(), piece(DONE)),
        // No [DONE], but an end of the connection.
        format!("HTTP/1.1 200 OK\r\n\r\n{}", TEXT.replace("}}]", "},\"finish_reason\":\"stop\"}]")),
    ] {
        for log in both(&answer).await {
            assert_eq!((log.failure, log.chunks.len()), (None, 1), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_answer_ends_is_not_used_again() {
    let events = format!("{TEXT}{DONE}");
    for head in [
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", events.len()),
        format!("HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n", events.len()),
    ] {
        let answer = head + &events;
        let (port, server) = serve(move |listener| {
            // Left open by a server that said it would close.
            let mut open = Vec::new();
            for _ in 0..2 {
                let mut peer = Peer::accept(&listener);
                peer.request().unwrap();
                peer.say(&answer);
                open.push(peer);
            }
            open
        });
        let mut client = Client::h1(port);
        for _ in 0..2 {
            assert_eq!(client.post("{}").await.failure, None);
        }
        assert_eq!(client.connections(), 2);
        drop(server.join().unwrap());
    }
}

/// A connection that has had one answer and is idle, and the server's end of it.
async fn idle() -> (Conn, Peer, ReadStats) {
    let (port, server) = serve(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.request().unwrap();
        peer.say(&whole());
        peer
    });
    let stats = ReadStats::new(Budget::of(512 << 20));
    let socket = Socket::connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let mut conn = Conn::new(Channel::plain(socket), &stats).await.unwrap();
    let mut body = conn.send(request(), &stats, &mut SendTimes::default()).await.unwrap().into_body();
    while conn.piece(&mut body, &stats).await.unwrap().is_some() {}
    assert!(conn.settle() && conn.is_quiet());
    (conn, server.join().unwrap(), stats)
}

fn request() -> hyper::Request<Full<Bytes>> {
    let mut request = hyper::Request::new(Full::new("{}".into()));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert("host", HeaderValue::from_static("x"));
    request
}

/// A connection with a server like llama.cpp's: it answers one request, says that it sends no more, reads on for a
/// moment, and closes. How many connections came.
fn lingering(answers: usize) -> (u16, JoinHandle<usize>) {
    serve(move |listener| {
        let mut connections = Vec::new();
        for _ in 0..answers {
            let mut peer = Peer::accept(&listener);
            peer.request().unwrap();
            peer.say(&whole());
            connections.push(thread::spawn(move || {
                // The next request is on its way by then, and is acknowledged.
                thread::sleep(Duration::from_millis(30));
                peer.0.shutdown(std::net::Shutdown::Write).unwrap();
                peer.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                let _ = std::io::copy(&mut peer.0, &mut std::io::sink());
            }));
        }
        let n = connections.len();
        connections.into_iter().for_each(|c| c.join().unwrap());
        n
    })
}

#[tokio::test]
async fn no_request_fails_at_a_server_that_ends_each_connection_after_its_answer() {
    for general in [false, true] {
        let (port, server) = lingering(6);
        let mut client = if general { Client::reqwest(port) } else { Client::h1(port) };
        for n in 0..6 {
            let log = client.post("{}").await;
            assert_eq!(log.failure, None, "{n}");
            let took = log.done.since(log.sent);
            // What reqwest sends again goes over a connection that it does not keep.
            let again = n == 1 || n == if general { 3 } else { 2 };
            assert_eq!(took >= Nanos::from_millis(25), again, "{n}: the first sending counts: {took:?}");
        }
        let resent = client.http.resent();
        assert_eq!((resent.requests, resent.kept_alive), (2, false), "after the second none is used again");
        assert!(resent.longest >= Nanos::from_millis(25), "{resent:?}");
        assert_eq!(server.join().unwrap(), 6);
        assert_eq!(client.connections(), 6);
    }
}

#[tokio::test]
async fn an_idle_connection_on_which_something_came_is_not_used() {
    let (port, server) = serve(|listener| {
        let mut first = Peer::accept(&listener);
        first.request().unwrap();
        first.say(&whole());
        thread::sleep(Duration::from_millis(30));
        first.say("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n");
        let mut second = Peer::accept(&listener);
        second.request().unwrap();
        second.say(&whole());
    });
    let mut client = Client::h1(port);
    assert_eq!(client.post("{}").await.failure, None);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.post("{}").await.failure, None);
    assert_eq!((client.connections(), client.http.resent().requests), (2, 0));
    server.join().unwrap();
}

#[tokio::test]
async fn the_set_up_of_a_connection_is_in_an_open_loops_latency_and_in_no_closed_ones() {
    for (general, scheduled) in [(false, false), (true, false), (false, true)] {
        let (port, server) = serve(|listener| {
            // One connection may wait to be accepted: what the next one sends is dropped, and sent again after a second.
            // SAFETY: the descriptor is the listener's.
            assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) }, 0);
            let waiting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            thread::sleep(Duration::from_millis(300));
            drop(Peer::accept(&listener));
            drop(waiting);
            let mut peer = Peer::accept(&listener);
            for _ in 0..2 {
                peer.request().unwrap();
                peer.say(&whole());
            }
        });
        let mut client = if general { Client::reqwest(port) } else { Client::h1(port) };
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Mono::now();
        client.scheduled = scheduled.then_some(begun);
        let first = client.post("{}").await;
        client.scheduled = None;
        let second = client.post("{}").await;
        server.join().unwrap();
        let case = format!("general {general}, scheduled {scheduled}: {first:?}");
        assert_eq!((&first.failure, &second.failure), (&None, &None));
        let set_up = Nanos::from_millis(600);
        assert!(first.connect.unwrap() > set_up, "{case}");
        assert!(first.written.unwrap().since(first.sent) >= first.connect.unwrap(), "{case}");
        assert!(first.sent >= begun && first.sent.since(begun) < Nanos::from_millis(200), "{case}");
        assert_eq!(first.done.since(first.waited_from()) > set_up, scheduled, "{case}");
        let times = times(&first);
        assert_eq!(times[0].since(first.waited_from()) > set_up, scheduled, "{case}");
        // On the open connection there is no set-up.
        assert_eq!(second.connect, None);
        assert!(second.written.unwrap() >= second.sent, "{second:?}");
    }
}

#[tokio::test]
async fn a_finished_request_does_not_wait_for_the_bodys_end_but_its_connection_does() {
    once_in_five(ends_beside_requests).await;
}

/// Whether the first request was quick and its connection there for the second.
async fn ends_beside_requests() -> bool {
    let (finished, has_finished) = std::sync::mpsc::channel();
    let (port, server) = serve(move |listener| {
        let mut peer = Peer::accept(&listener);
        peer.request().unwrap();
        peer.say(&[CHUNKED, &piece(TEXT), &piece(DONE)].concat());
        has_finished.recv().unwrap();
        peer.0.write_all(LAST.as_bytes()).ok()?;
        peer.request()?;
        // And here it never comes.
        peer.say(&[CHUNKED, &piece(TEXT), &piece(DONE)].concat());
        let end = peer.request();
        let mut next = Peer::accept(&listener);
        next.request().unwrap();
        next.say(&whole());
        Some(end)
    });
    let mut client = Client::h1(port);
    let begin = Mono::now();
    assert_eq!(client.post("{}").await.failure, None);
    let quick = Mono::now().since(begin) < Nanos::from_millis(90);
    tokio::time::sleep(Duration::from_millis(40)).await;
    finished.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    if client.post("{}").await.failure.is_some() || client.connections() != 1 {
        return false;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(client.post("{}").await.failure, None);
    assert_eq!(client.connections(), 2);
    assert_eq!(server.join().unwrap(), Some(None), "the connection without an end was closed");
    quick
}

#[tokio::test]
async fn behind_a_proxy_too_a_finished_request_does_not_wait_for_the_bodys_end() {
    let (port, server) = serve(|listener| {
        let mut peer = Peer::accept(&listener);
        for _ in 0..3 {
            peer.request().unwrap();
            peer.say(&[CHUNKED, &piece(TEXT), &piece(DONE)].concat());
            thread::sleep(Duration::from_millis(150));
            peer.say(LAST);
        }
    });
    let mut client = Client::reqwest(port);
    let mut quickest = Nanos(u64::MAX);
    for _ in 0..3 {
        let begun = Mono::now();
        assert_eq!(client.post("{}").await.failure, None);
        quickest = quickest.min(Mono::now().since(begun));
        // Its connection is there for the next one.
        tokio::time::sleep(Duration::from_millis(220)).await;
    }
    assert!(quickest < Nanos::from_millis(100), "{quickest:?}");
    assert_eq!(client.connections(), 1);
    server.join().unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_sent_counts() {
    let (port, server) = serve(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.head().unwrap();
        let said = r#"{"error":"too long"}"#;
        peer.say(&format!(
            "HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{said}",
            said.len()
        ));
        // Unread bytes make the closing a reset.
    });
    let log = Client::h1(port).post(vec![b' '; 16 << 20]).await;
    assert_eq!(log.http_status, Some(413), "{:?}", log.failure);
    assert_eq!(log.failure.unwrap().message, "HTTP 413: too long");
    server.join().unwrap();
}

#[tokio::test]
async fn a_large_request_is_sent_while_the_server_reads_it() {
    let (port, server) = answering(vec![whole()]);
    let body = "x".repeat(3 << 20);
    assert_eq!(Client::h1(port).post(body.clone()).await.failure, None);
    assert!(server.join().unwrap()[0].ends_with(&body));
}

#[tokio::test]
async fn a_server_that_sends_no_more_may_still_be_read_from() {
    let (port, server) = serve(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.request().unwrap();
        peer.say(&format!("HTTP/1.1 200 OK\r\n\r\n{TEXT}"));
        peer.0.shutdown(std::net::Shutdown::Write).unwrap();
        peer.request()
    });
    let log = Client::h1(port).post("{}").await;
    assert_eq!(log.failure.unwrap().kind, FailureKind::Disconnect, "neither [DONE] nor a finish_reason");
    assert_eq!((server.join().unwrap(), log.chunks.len()), (None, 1));
}

#[tokio::test]
async fn heads_without_measure_fail_and_do_not_hang() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(600 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(20_000));
    for head in [huge, many] {
        let (port, server) = serve(move |listener| {
            let mut peer = Peer::accept(&listener);
            peer.request().unwrap();
            let _ = peer.0.write_all(head.as_bytes());
        });
        let failure = Client::h1(port).post("{}").await.failure.unwrap();
        assert_eq!(failure.kind, FailureKind::Malformed, "{}", failure.message);
        server.join().unwrap();
    }
    // Each line comes in time, the end never does.
    let (port, server) = serve(|listener| {
        let mut peer = Peer::accept(&listener);
        peer.request().unwrap();
        peer.say("HTTP/1.1 200 OK\r\n");
        while peer.0.write_all(b"x: y\r\n").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut client = Client::new(&format!("127.0.0.1:{port}"), &plan(300));
    let failure = client.post("{}").await.failure.unwrap();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Timeout, "no answer within 300ms"));
    server.join().unwrap();
}

#[tokio::test]
async fn a_server_that_never_pauses_leaves_others_their_time() {
    let (mut conn, mut peer, stats) = idle().await;
    let server = thread::spawn(move || {
        peer.request().unwrap();
        peer.say(CHUNKED);
        peer.say(&(piece("0123456789").repeat(100_000) + LAST));
    });
    let mut body = conn.send(request(), &stats, &mut SendTimes::default()).await.unwrap().into_body();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bytes = std::cell::Cell::new(0);
    let mut reading = std::pin::pin!(async {
        while let Some(piece) = conn.piece(&mut body, &stats).await.unwrap() {
            bytes.set(bytes.get() + piece.0.len());
        }
    });
    // What one turn reads is bounded, and it asks for the next one itself.
    let mut once = std::pin::pin!(unconstrained(reading.as_mut()));
    let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(once.as_mut().poll(cx).is_pending()));
    assert!(pending.await && (1000..8 * 4096).contains(&bytes.get()), "{} bytes at once", bytes.get());
    tokio::time::timeout(PATIENCE, reading).await.expect("it goes on");
    assert_eq!(bytes.get(), 1_000_000);
    server.join().unwrap();
}

#[tokio::test]
async fn events_of_a_compressed_stream_are_stamped_as_they_come() {
    once_in_five(decoded_in_time).await;
}

/// Whether each event was there before the next was written.
async fn decoded_in_time() -> bool {
    let mut in_time = true;
    for coding in ["gzip", "deflate"] {
        let (port, server) = serve(move |listener| {
            let mut peer = Peer::accept(&listener);
            let request = peer.request().unwrap().to_ascii_lowercase();
            assert!(!request.contains("accept-encoding"), "{request}");
            peer.say(&CHUNKED.replace("\r\n\r\n", &format!("\r\ncontent-encoding: {coding}\r\n\r\n")));
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
            let mut before = Vec::new();
            for event in [TEXT, TEXT, TEXT, DONE] {
                let flushed = if coding == "gzip" {
                    gzip.write_all(event.as_bytes()).and_then(|()| gzip.flush()).unwrap();
                    std::mem::take(gzip.get_mut())
                } else {
                    zlib.write_all(event.as_bytes()).and_then(|()| zlib.flush()).unwrap();
                    std::mem::take(zlib.get_mut())
                };
                let piece = [format!("{:x}\r\n", flushed.len()).as_bytes(), &flushed, b"\r\n"].concat();
                before.push(Mono::now());
                peer.0.write_all(&piece).unwrap();
                thread::sleep(Duration::from_millis(30));
            }
            peer.say(LAST);
            before
        });
        let log = Client::h1(port).post("{}").await;
        let before = server.join().unwrap();
        assert_eq!(log.failure, None);
        let times = times(&log);
        assert_eq!(times.len(), 3);
        for (n, t) in times.iter().enumerate() {
            assert!(t.plus(CONVERSION) >= before[n], "{coding}: {times:?}, {before:?}");
            in_time &= *t < before[n + 1];
        }
    }
    in_time
}

#[tokio::test]
async fn compressed_answers_that_are_none_or_swell_fail() {
    let sized = |coding: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b'x'; 8 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    for (answer, said) in [
        (sized("gzip", b"data: [DONE]\n\n"), "the answer is not encoded as it says"),
        (sized("br", b"xx"), "the answer is encoded (br), which was not asked for"),
        (sized("gzip", &bomb), "a line of the stream is longer than"),
    ] {
        let (port, server) = serve(move |listener| {
            let mut peer = Peer::accept(&listener);
            peer.request().unwrap();
            // Whether the client reads it all is its affair.
            let _ = peer.0.write_all(&answer);
        });
        let failure = Client::h1(port).post("{}").await.failure.unwrap();
        assert_eq!(failure.kind, FailureKind::Malformed, "{}", failure.message);
        assert!(failure.message.starts_with(said), "{}", failure.message);
        server.join().unwrap();
    }
}

#[tokio::test]
async fn every_address_of_the_host_is_tried() {
    for (at, name) in [("[::1]:0", "[::1]"), ("127.0.0.1:0", "localhost")] {
        let (port, server) = serve_at(at, |listener| {
            let mut peer = Peer::accept(&listener);
            let request = peer.request().unwrap();
            peer.say(&whole());
            request
        });
        let mut client = Client::new(&format!("http://{name}:{port}"), &plan(5_000));
        assert_eq!(client.post("{}").await.failure, None);
        let request = server.join().unwrap();
        assert!(request.contains(&format!("host: {name}:{port}\r\n")), "{request}");
    }
    let mut client = Client::new("http://no-such-host.invalid:1", &plan(5_000));
    assert_eq!(client.post("{}").await.failure.unwrap().kind, FailureKind::Connect);
}

#[tokio::test]
async fn a_log_stays_charged_until_nobody_holds_it() {
    for mut client in [Client::h1 as fn(u16) -> Client, Client::reqwest].map(|of| {
        let (port, _) = answering(vec![whole()]);
        of(port)
    }) {
        let log = client.post("{}").await;
        assert!(log.failure.is_none() && log.bytes() >= 24, "{log:?}");
        let (bytes, budget) = (log.bytes(), Arc::clone(client.http.stats.budget()));
        let queued = budget.used();
        let copy = log.clone();
        drop(log);
        assert_eq!(budget.used(), queued, "a copy of it waits");
        drop(copy);
        assert_eq!(queued - budget.used(), bytes);
    }
}
