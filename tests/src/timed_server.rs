//! The in-process server with a script: it streams by it and logs when it wrote what.
//!
//! Owns the script's playing, its gate and the log, in CLOCK_MONOTONIC right before and right after each write(2).
//! Called by tests whose target is the test's own process, or that wait for what the server has seen; where many
//! streams have to be exact, the truth is the emitter's.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::monotonic_ns;
use crate::script::{MODEL, Step, What};
use crate::server::{Connection, Server};

/// Nothing that a test forgot keeps a thread for longer.
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
    shared: Arc<Shared>,
    server: Server,
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
        let shared = Arc::new(Shared { answer, state: Mutex::default(), changed: Condvar::new() });
        let server = Server::start({
            let shared = Arc::clone(&shared);
            move |connection| serve(connection, &shared)
        });
        Self { shared, server }
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
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
        // What waits in a script goes on, so that the server can end.
        self.shared.change(|state| state.ending = true);
    }
}

fn serve(connection: &mut Connection, shared: &Shared) -> io::Result<()> {
    const JSON: &str = "application/json";
    while let Some(request) = connection.request()? {
        let arrived = (Instant::now(), monotonic_ns());
        match request.path.as_str() {
            "/v1/models" => {
                let models = json!({"object": "list", "data": [{"id": MODEL, "object": "model"}]});
                connection.respond(200, JSON, models.to_string().as_bytes())?;
            }
            "/v1/chat/completions" => {
                let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
                let exchange = Exchange { arrived_ns: arrived.1, body, writes: Vec::new() };
                let index = shared.change(|state| {
                    state.exchanges.push(exchange);
                    state.exchanges.len() - 1
                });
                match &shared.answer {
                    Answer::Status(status, body) => connection.respond(*status, JSON, body.as_bytes())?,
                    Answer::Stream(steps) => play(connection, steps, arrived.0, shared, index)?,
                }
            }
            _ => connection.respond(404, JSON, br#"{"error": {"message": "no such path"}}"#)?,
        }
        if request.is_last() {
            break;
        }
    }
    Ok(())
}

/// Plays the script by absolute times, so that a late step delays none after it.
fn play(
    connection: &mut Connection,
    steps: &[Step],
    arrived: Instant,
    shared: &Shared,
    index: usize,
) -> io::Result<()> {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send(HEAD)?;
    let mut due = arrived;
    for step in steps {
        due += step.after;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match (&step.what, step.what.data()) {
            (what, Some(data)) => {
                let framed = [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
                let before_ns = monotonic_ns();
                // The socket's buffer takes it at once, so this is one write(2).
                connection.send(&framed)?;
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
            (_, None) => return connection.break_off(),
        }
    }
    connection.send(b"0\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client;
    use crate::script;

    const ASK: (&str, &str) = ("POST", "/v1/chat/completions");

    fn ask(server: &TimedServer) -> io::Result<client::Answered> {
        client::request(server.server.port(), ASK.0, ASK.1, "{\"n\": 1}")
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
        let (port, started) = (stalled.server.port(), Instant::now());
        let asked = std::thread::spawn(move || client::request(port, ASK.0, ASK.1, ""));
        stalled.wait_for_exchanges(1);
        drop(stalled);
        assert!(asked.join().is_ok() && started.elapsed() < LIMIT);
    }
}
