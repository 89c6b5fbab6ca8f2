//! HTTP: the thin shell around the sans-IO state of a request.
//!
//! Owns the headers and limits of requests, and hands each read of a response to the state with its stamp. Decides
//! nothing about the meaning of a response (`request` does). Called by the driver.
//!
//! Connections are kept alive and reused. `h1` and `reqwest_client` define which requests are sent twice; `route`
//! chooses between the two.

mod channel;
mod clock_map;
mod conn;
mod connect_probe;
mod decode;
mod error;
mod error_chain;
mod h1;
mod headers;
mod outgoing;
mod pipe;
mod pool;
mod read_stats;
mod reqwest_client;
mod response;
mod route;
mod socket;
mod stall_detector;
mod timestamping_guard;
mod tls;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use tokio::sync::watch;
use tokio::task::coop::unconstrained;

use super::budget::{self, Budget, Charge, NoRoom};
use super::error::LoadError;
use super::request::{End, RequestState, SendTimes, Slot, Wanted};
use crate::clock::Mono;
use crate::event::{Asked, ClientLog, Failure, FailureKind, MemoryHold, RequestLog};
use crate::plan::{Endpoint, HttpPlan};

use error::TransportError;
use outgoing::Outgoing;
use read_stats::ReadStats;
pub use read_stats::Resent;
use response::{ERROR_BODY_BYTES, body, decoder, location, read, status_failure};
use transport::Transport;

/// Memory of a decoder: a window of 32 KiB with its tables, and one expanded step.
const DECODER_BYTES: u64 = 320 << 10;
/// Longest time to open a connection, TLS included. A shorter limit of the request wins.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter secrets are words that messages contain by chance.
const SECRET_BYTES: usize = 6;

/// The header that identifies a request in the server's own records.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Debug)]
pub(super) struct Http {
    transport: Transport,
    /// The proxy in between.
    proxy: Option<String>,
    /// Any certificate of the server is accepted.
    unchecked: bool,
    /// The headers of every request. reqwest's default headers would keep one value for each name.
    headers: HeaderMap,
    /// The run's id, a part of each request's id. `None`: the user gives the header.
    run_id: Option<String>,
    timeout: Duration,
    /// Values that no message may contain.
    secrets: Vec<String>,
    stats: Arc<ReadStats>,
}

/// The response of a plain GET.
#[derive(Debug)]
pub(super) struct GetResponse {
    pub(super) status: u16,
    /// The target of a redirect, without its query.
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Http {
    /// A client for `endpoint`. The id of a request is made of `run_id` and the request's number.
    pub(super) fn new(plan: &HttpPlan, endpoint: &Endpoint, run_id: &str) -> Result<Self, LoadError> {
        let timeout = plan.timeout.to_duration();
        let stats = Arc::new(ReadStats::new(Budget::of(plan.max_memory)));
        let key = plan.api_key.iter().map(|k| k.reveal().to_owned());
        let values = plan.headers.iter().flat_map(|(_, value)| {
            // `Bearer x`: the scheme is no secret. What follows it is one, also by itself.
            let token = value.split_once(' ').map(|(_, token)| token.trim().to_owned());
            std::iter::once(value.clone()).chain(token)
        });
        let secrets = key.chain(values).filter(|s| s.len() >= SECRET_BYTES).collect();
        let headers = headers::of(plan)?;
        let (transport, proxy) = route::transport(plan, endpoint, timeout.min(CONNECT_TIMEOUT), &stats)?;
        Ok(Self {
            transport,
            proxy,
            unchecked: plan.insecure && endpoint.url().scheme() == "https",
            run_id: (!headers.contains_key(REQUEST_ID)).then(|| run_id.to_owned()),
            headers,
            timeout,
            secrets,
            stats,
        })
    }

    /// The requests that were sent a second time because the server ended the connection instead of answering.
    pub(super) fn resent(&self) -> Resent {
        self.stats.resent()
    }

    /// The proxy that requests went through.
    pub(super) fn proxy_used(&self) -> Option<&str> {
        self.proxy.as_deref().filter(|_| self.stats.log().connections_opened > 0)
    }

    /// Any certificate was accepted.
    pub(super) const fn is_unchecked(&self) -> bool {
        self.unchecked
    }

    /// Updates the memory budget from the process's memory.
    pub(super) fn look_at_memory(&self) {
        self.stats.budget().look();
    }

    /// The loop runs, and must run again by `due` at the latest.
    pub(super) fn turn(&self, now: Mono, due: Option<Mono>) {
        self.stats.turn(now, due);
    }

    /// The client's log about itself so far.
    pub(super) fn client_log(&self) -> ClientLog {
        self.stats.log()
    }

    /// Sends one request and reads its response to the end, to the time limit, or until `stop` is true.
    pub(super) async fn exchange(
        &self,
        url: &Url,
        body: Vec<u8>,
        slot: Slot,
        asked: Asked,
        stop: &mut watch::Receiver<bool>,
    ) -> RequestLog {
        let own_bytes = budget::of_request(body.len() as u64, 0);
        let mut request = self.request(Method::POST, url);
        request.body = body.into();
        if let Some(run_id) = &self.run_id {
            let id = HeaderValue::try_from(format!("inferscope-{run_id}-{}", slot.id));
            request.headers.insert(REQUEST_ID, id.expect("a run's id is plain text"));
        }
        let mut state = RequestState::new(slot, Mono::now(), asked);
        let interrupted = |why: &str| Failure { kind: FailureKind::Interrupted, message: why.to_owned() };
        // The response comes before the reasons to give up: what has arrived counts.
        let mut held = None;
        let exchange = async {
            let charge = self.stats.budget().charge(own_bytes.saturating_add(state.room()));
            let held = match charge {
                Ok(charge) => held.insert(HeldMemory { charge, own_bytes }),
                Err(e) => return End::Failed(no_room(e)),
            };
            tokio::select! {
                biased;
                end = self.answer(request, &mut state, held) => end,
                () = stopped(stop) => End::Failed(interrupted("interrupted")),
                () = tokio::time::sleep(self.timeout) => End::Failed(Failure {
                    kind: FailureKind::Timeout,
                    message: String::new(),
                }),
            }
        };
        // One task polls all requests under way, and tokio's budget belongs to a task. With more than some hundred
        // requests the budget would turn the rest away, and they would be polled again for nothing.
        let end = unconstrained(exchange).await;
        let t = Mono::now();
        let has_headers = state.has_headers();
        let mut log = state.finish(t, end);
        log.client_stalls = self.stats.stalls_since(log.waited_from().min(log.sent));
        if let Some(failure) = &mut log.failure {
            if failure.kind == FailureKind::Timeout && failure.message.is_empty() {
                let what = if has_headers { "no complete answer" } else { "no answer" };
                failure.message = format!("{what} within {}", humantime::format_duration(self.timeout));
            }
            failure.message = self.scrub(&failure.message);
        }
        // The log waits for the collector.
        log.memory = held.map(|held| MemoryHold::new(held.charge.settle(log.bytes()))).unwrap_or_default();
        log
    }

    fn request<'a>(&self, method: Method, url: &'a Url) -> Outgoing<'a> {
        Outgoing { method, url, headers: self.headers.clone(), body: Default::default() }
    }

    async fn answer(&self, request: Outgoing<'_>, state: &mut RequestState, held: &mut HeldMemory) -> End {
        let url = request.url;
        let mut answer = match self.transport.send(request, state.send_times()).await {
            Ok(answer) => answer,
            Err(e) => return End::Failed(self.failure(&e)),
        };
        state.headers(answer.head_stamp().t, answer.status().as_u16());
        if !answer.status().is_success() {
            if let Err(e) = held.holds(ERROR_BODY_BYTES as u64) {
                return End::Failed(no_room(e));
            }
            return End::Failed(status_failure(answer, url).await);
        }
        let mut decoder = match decoder(&answer) {
            Ok(decoder) => decoder,
            Err(failure) => return End::Failed(failure),
        };
        let mut last = None;
        loop {
            let (bytes, stamp) = match answer.piece().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(e) => return End::Failed(self.failure(&e)),
            };
            // One read may return several pieces.
            if last.replace(stamp) != Some(stamp) {
                self.stats.read(stamp);
                state.stamped(stamp.lag.is_some());
            }
            match read(&mut decoder, stamp.t, &bytes, state) {
                Ok(Wanted::More) => {
                    let decoding = if decoder.is_some() { DECODER_BYTES } else { 0 };
                    if let Err(e) = held.holds(state.room() + decoding) {
                        return End::Failed(no_room(e));
                    }
                }
                Ok(Wanted::NoMore) => {
                    answer.finish().await;
                    return End::Eof;
                }
                Ok(Wanted::Failed) => return End::Eof,
                Err(failure) => return End::Failed(failure),
            }
        }
        answer.finish().await;
        End::Eof
    }

    fn failure(&self, error: &TransportError) -> Failure {
        let mut failure = error::failure(error);
        let connecting = match error {
            TransportError::ConnectTimeout => true,
            TransportError::Reqwest(e) => e.is_connect() && e.is_timeout(),
            _ => false,
        };
        if connecting {
            let limit = humantime::format_duration(self.timeout.min(CONNECT_TIMEOUT));
            failure.message = format!("no connection within {limit}");
        }
        failure
    }

    /// Makes a GET request within `limit` and reads at most `most` bytes of the body.
    pub(super) async fn get(&self, url: &Url, limit: Duration, most: usize) -> Result<GetResponse, Failure> {
        let read = async {
            let request = self.request(Method::GET, url);
            let sent = self.transport.send(request, &mut SendTimes::default()).await;
            let answer = sent.map_err(|e| self.failure(&e))?;
            let status = answer.status().as_u16();
            let location = location(&answer, url);
            let body = body(answer, most).await.map_err(|e| self.failure(&e))?;
            Ok(GetResponse { status, location, body })
        };
        let limit = limit.min(self.timeout);
        tokio::time::timeout(limit, read).await.unwrap_or_else(|_| {
            let message = format!("no answer within {}", humantime::format_duration(limit));
            Err(Failure { kind: FailureKind::Timeout, message })
        })
    }

    /// Removes keys and header values from a server's message: servers repeat what they were sent.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// The budget that a request holds.
struct HeldMemory {
    charge: Charge,
    /// The request's own bytes, independent of the response.
    own_bytes: u64,
}

impl HeldMemory {
    fn holds(&mut self, bytes: u64) -> Result<(), NoRoom> {
        self.charge.holds(self.own_bytes.saturating_add(bytes))
    }
}

fn no_room(error: NoRoom) -> Failure {
    Failure { kind: FailureKind::Memory, message: error.to_string() }
}

/// Resolves when `stop` becomes true; never if its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_cost;
