//! A server whose truth is known: it streams by a script and logs when it wrote what.
//!
//! Owns one loopback listener and its threads, all of which end with it. Logs CLOCK_MONOTONIC right before
//! and right after each write(2) to a socket without Nagle's delay. Called by the tests that compare the
//! report with what really happened.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::monotonic_ns;
use crate::script::{MODEL, Step, What};

/// Nothing that a client or a test forgot keeps a thread for longer.
const LIMIT: Duration = Duration::from_secs(60);

/// How it answers a completion request.
#[derive(Debug, Clone)]
pub enum Answer {
    Stream(Vec<Step>),
    /// A status with a body, at once.
    Status(u16, String),
}

/// One completion request, as the server saw it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When the request had been read to its end.
    pub arrived_ns: u64,
    pub body: Value,
    /// The writes so far, in order.
    pub writes: Vec<Written>,
}

#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub has_token: bool,
    pub reasoning: bool,
    /// Right before and right after the write(2).
    pub before_ns: u64,
    pub after_ns: u64,
}

impl Exchange {
    pub fn tokens(&self) -> impl Iterator<Item = &Written> {
        self.writes.iter().filter(|written| written.has_token)
    }
}

/// Ends when dropped.
#[derive(Debug)]
pub struct TimedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    answer: Answer,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    exchanges: Vec<Exchange>,
    open: bool,
    ending: bool,
    /// To be shut when the server ends, so that no thread stays in a read.
    streams: Vec<TcpStream>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has failed the test already.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until `done` says so; false when it did not within the limit.
    fn wait_until(&self, limit: Duration, done: impl Fn(&State) -> bool) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, limit, |state| !done(state));
        let (state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        done(&state)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }
}

impl TimedServer {
    /// # Panics
    /// When loopback can't be listened on.
    #[must_use]
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { answer, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The completion requests so far.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.state().exchanges.clone()
    }

    /// # Panics
    /// When there are not `n` completion requests within a minute.
    pub fn wait_for_exchanges(&self, n: usize) {
        assert!(self.shared.wait_until(LIMIT, |state| state.exchanges.len() >= n), "no {n} requests came");
    }

    /// Lets every `Gate`, of now and later, be passed.
    pub fn open_gate(&self) {
        self.shared.change(|state| state.open = true);
    }
}

impl Drop for TimedServer {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.ending = true;
            for stream in &state.streams {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { break };
            let ending = shared.change(|state| {
                state.streams.extend(stream.try_clone());
                state.ending
            });
            if ending {
                break;
            }
            scope.spawn(move || {
                // A client may go away at any time.
                let _ = serve(&stream, shared);
                // The other handle would keep it open.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
}

fn serve(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut unread = Vec::new();
    while let Some(Request { path, body, last }) = read_request(&mut stream, &mut unread)? {
        let arrived = (Instant::now(), monotonic_ns());
        match path.as_str() {
            "/v1/models" => {
                let models = json!({"object": "list", "data": [{"id": MODEL, "object": "model"}]});
                respond(&mut stream, 200, &models.to_string())?;
            }
            "/v1/chat/completions" => {
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let exchange = Exchange { arrived_ns: arrived.1, body, writes: Vec::new() };
                let index = shared.change(|state| {
                    state.exchanges.push(exchange);
                    state.exchanges.len() - 1
                });
                match &shared.answer {
                    Answer::Status(status, body) => respond(&mut stream, *status, body)?,
                    Answer::Stream(steps) => play(&mut stream, steps, arrived.0, shared, index)?,
                }
            }
            _ => respond(&mut stream, 404, r#"{"error": {"message": "no such path"}}"#)?,
        }
        if last {
            break;
        }
    }
    Ok(())
}

/// Plays the script by absolute times, so that a late step delays none after it.
fn play(
    stream: &mut &TcpStream,
    steps: &[Step],
    arrived: Instant,
    shared: &Shared,
    index: usize,
) -> io::Result<()> {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(HEAD)?;
    let mut due = arrived;
    for step in steps {
        due += step.after;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match (&step.what, step.what.data()) {
            (what, Some(data)) => {
                let framed = [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
                let before_ns = monotonic_ns();
                // The socket's buffer takes it at once, so this is one write(2).
                stream.write_all(&framed)?;
                let after_ns = monotonic_ns();
                let (has_token, reasoning) = (what.has_token(), matches!(what, What::Reasoning(_)));
                let written = Written { has_token, reasoning, before_ns, after_ns };
                shared.change(|state| state.exchanges[index].writes.push(written));
            }
            (What::Gate, None) => {
                shared.wait_until(LIMIT, |state| state.open || state.ending);
                due = Instant::now();
            }
            (What::Stall, None) => {
                shared.wait_until(LIMIT, |state| state.ending);
            }
            (_, None) => {
                stream.shutdown(std::net::Shutdown::Both)?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
    stream.write_all(b"0\r\n\r\n")
}

fn respond(stream: &mut &TcpStream, status: u16, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

struct Request {
    path: String,
    body: Vec<u8>,
    /// The client wants the connection closed afterwards.
    last: bool,
}

/// The next request; `None` when the client is done.
fn read_request(stream: &mut &TcpStream, unread: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let head_end = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if !read_more(stream, unread)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8(unread[..head_end].to_vec()).map_err(|_| malformed())?;
    let path = head.split(' ').nth(1).ok_or_else(malformed)?.to_owned();
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        headers.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim()))
    };
    let length: Option<usize> = header("content-length").and_then(|length| length.parse().ok());
    let last = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let end = head_end + length.unwrap_or(0);
    while unread.len() < end {
        if !read_more(stream, unread)? {
            return Err(malformed());
        }
    }
    let body = unread[head_end..end].to_vec();
    unread.drain(..end);
    Ok(Some(Request { path, body, last }))
}

fn read_more(stream: &mut &TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 8 << 10];
    let n = stream.read(&mut buffer)?;
    bytes.extend_from_slice(&buffer[..n]);
    Ok(n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client;
    use crate::script;

    const ASK: (&str, &str) = ("POST", "/v1/chat/completions");

    fn ask(server: &TimedServer) -> io::Result<client::Answered> {
        client::request(server.address.port(), ASK.0, ASK.1, "{\"n\": 1}")
    }

    #[test]
    fn every_write_is_logged_at_its_time() {
        let server = TimedServer::start(Answer::Stream(script::steady(5, 20, 10)));
        let before = monotonic_ns();
        assert_eq!(ask(&server).unwrap().events().len(), 7);
        let [exchange] = &server.exchanges()[..] else { panic!("one request was sent") };
        assert_eq!(exchange.body["n"], 1);
        assert_eq!(exchange.tokens().count(), 5);
        assert!(exchange.arrived_ns >= before);
        for (index, written) in exchange.tokens().enumerate() {
            let due = exchange.arrived_ns + (20 + 10 * index as u64) * 1_000_000;
            assert!(
                written.before_ns >= due && written.after_ns >= written.before_ns,
                "{index}: {written:?}"
            );
        }
        assert!(exchange.writes.iter().all(|written| written.after_ns <= monotonic_ns()));
    }

    #[test]
    fn a_gate_holds_until_it_is_opened() {
        let steps =
            [vec![script::content(0), script::after_ms(0, What::Gate)], script::ending(None)].concat();
        let server = TimedServer::start(Answer::Stream(steps));
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| ask(&server).unwrap());
            server.wait_for_exchanges(1);
            server.open_gate();
            assert_eq!(answer.join().unwrap().events().len(), 2);
        });
    }

    #[test]
    fn broken_streams_break_and_stalled_ones_end_with_the_server() {
        let of =
            |what| TimedServer::start(Answer::Stream(vec![script::content(0), script::after_ms(0, what)]));
        let answer = ask(&of(What::Disconnect)).unwrap();
        assert!(!answer.body.ends_with("0\r\n\r\n"), "{answer:?}");
        let stalled = of(What::Stall);
        let (port, started) = (stalled.address.port(), Instant::now());
        let asked = std::thread::spawn(move || client::request(port, ASK.0, ASK.1, ""));
        stalled.wait_for_exchanges(1);
        drop(stalled);
        assert!(asked.join().is_ok() && started.elapsed() < LIMIT);
    }
}
