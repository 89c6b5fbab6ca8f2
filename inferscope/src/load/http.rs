//! HTTP: the thin shell around the sans-IO state.
//!
//! Owns the client, the connections and the stamps: the clock is read at once when a read returns, then
//! its bytes are parsed. Decides nothing about an answer's meaning (`request` does). Called by the
//! driver.
//!
//! Connections are kept alive and used again. A server may close one just when the next request goes
//! out on it; reqwest sends the request again by itself only where it had not begun to write it. Where
//! it had, this module does it once: on a kept-alive connection, closed before a response came and
//! within [`STALE_WITHIN`], on a fresh one. Nothing else is sent twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Response, Url};
use tokio::sync::watch;

use super::cause;
use super::connects::{NoticeConnects, noticed};
use super::error::LoadError;
use super::request::{End, RequestState, Slot, Wanted};
use super::said;
use crate::clock::Mono;
use crate::event::{Failure, FailureKind, RequestLog};
use crate::plan::{Endpoint, HttpPlan};
use crate::units::Nanos;

/// Requests that were sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resent {
    pub requests: u64,
    /// The most that a first sending added to the times of its request.
    pub longest: Nanos,
}

/// Most of an error answer's body that is looked at.
const ERROR_BODY_BYTES: usize = 64 << 10;
/// Longest time for a connection, TLS included; the request's own limit where that is shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a complete answer's body is waited for, so that its connection can be used again.
const DRAIN: Duration = Duration::from_millis(250);
/// A connection that the server had closed fails within a round trip. Later it is the server that gave up
/// on a request that it had, and to send that again would hide it.
const STALE_WITHIN: Nanos = Nanos::from_millis(250);
/// Shorter secrets are words that messages hold by chance.
const SECRET_BYTES: usize = 6;

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    /// Of every request. reqwest's default headers would keep one value a name.
    headers: HeaderMap,
    timeout: Duration,
    /// Values that no message may repeat.
    secrets: Vec<String>,
    resent: AtomicU64,
    /// The longest that a sending which had to be repeated took, in nanoseconds.
    resent_after: AtomicU64,
}

/// A response of a plain GET.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    /// Where a redirect leads, without its query.
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Http {
    /// A client for `endpoint`. Proxies of the environment hold, but not for a loopback endpoint. A plain
    /// http endpoint gets no CA certificates but `--cacert`: it needs none, and machines without any work.
    pub(super) fn new(plan: &HttpPlan, endpoint: &Endpoint) -> Result<Self, LoadError> {
        let timeout = plan.timeout.to_duration();
        let mut builder = Client::builder()
            .connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .connector_layer(NoticeConnects)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::MAX)
            .tls_danger_accept_invalid_certs(plan.insecure);
        let certificates = certificates(plan)?;
        builder = if endpoint.url().scheme() == "http" {
            builder.tls_certs_only(certificates)
        } else {
            builder.tls_certs_merge(certificates)
        };
        if endpoint.loopback_port().is_some() {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| match &plan.cacert {
            Some(path) => LoadError::Cacert { path: path.clone(), why: cause::line(&e) },
            None => LoadError::Client { why: cause::line(&e) },
        })?;
        let key = plan.api_key.iter().map(|k| k.reveal().to_owned());
        let values = plan.headers.iter().flat_map(|(_, value)| {
            // `Bearer x`: the scheme is no secret, what follows is one also by itself.
            let token = value.split_once(' ').map(|(_, token)| token.trim().to_owned());
            std::iter::once(value.clone()).chain(token)
        });
        let secrets = key.chain(values).filter(|s| s.len() >= SECRET_BYTES).collect();
        Ok(Self {
            client,
            headers: headers(plan)?,
            timeout,
            secrets,
            resent: AtomicU64::new(0),
            resent_after: AtomicU64::new(0),
        })
    }

    /// Requests that were sent a second time, because the server had closed the connection.
    pub(super) fn resent(&self) -> Resent {
        Resent {
            requests: self.resent.load(Ordering::Relaxed),
            longest: Nanos(self.resent_after.load(Ordering::Relaxed)),
        }
    }

    /// Sends one request and reads its answer to the end, to the time limit, or until `stop` is true.
    pub(super) async fn exchange(
        &self,
        url: &Url,
        body: Vec<u8>,
        slot: Slot,
        max_tokens: u32,
        stop: &mut watch::Receiver<bool>,
    ) -> RequestLog {
        let mut request = self.request(Method::POST, url);
        *request.body_mut() = Some(body.into());
        let mut state = RequestState::new(slot, Mono::now(), max_tokens);
        let interrupted = |why: &str| Failure { kind: FailureKind::Interrupted, message: why.to_owned() };
        // Read before the reasons to give up: what has arrived counts.
        let end = tokio::select! {
            biased;
            end = self.answer(request, &mut state) => end,
            () = stopped(stop) => End::Failed(interrupted("interrupted")),
            () = tokio::time::sleep(self.timeout) => End::Failed(Failure {
                kind: FailureKind::Timeout,
                message: String::new(),
            }),
        };
        let t = Mono::now();
        let has_headers = state.has_headers();
        let mut log = state.finish(t, end);
        if let Some(failure) = &mut log.failure {
            if failure.kind == FailureKind::Timeout && failure.message.is_empty() {
                let what = if has_headers { "no complete answer" } else { "no answer" };
                failure.message = format!("{what} within {}", humantime::format_duration(self.timeout));
            }
            failure.message = self.scrub(&failure.message);
        }
        log
    }

    fn request(&self, method: Method, url: &Url) -> Request {
        let mut request = Request::new(method, url.clone());
        request.headers_mut().clone_from(&self.headers);
        request
    }

    async fn answer(&self, request: Request, state: &mut RequestState) -> End {
        let mut response = match self.send(request).await {
            Ok(response) => response,
            Err(e) => return End::Failed(self.failure(&e)),
        };
        state.headers(Mono::now(), response.status().as_u16());
        if !response.status().is_success() {
            return End::Failed(status_failure(response).await);
        }
        if let Some(coding) = response.headers().get(header::CONTENT_ENCODING).filter(|c| *c != "identity") {
            let coding = said::excerpt(coding.as_bytes());
            let message = format!("the answer is encoded ({coding}), which was not asked for");
            return End::Failed(Failure { kind: FailureKind::Malformed, message });
        }
        loop {
            let read = response.chunk().await;
            let t = Mono::now();
            match read {
                Ok(Some(bytes)) => match state.read(t, &bytes) {
                    Wanted::More => {}
                    Wanted::NoMore => break,
                    Wanted::Failed => return End::Eof,
                },
                Ok(None) => return End::Eof,
                Err(e) => return End::Failed(self.failure(&e)),
            }
        }
        // The end of the body makes the connection free for the next request.
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        let _ = tokio::time::timeout(DRAIN, rest).await;
        End::Eof
    }

    /// Sends, and once more where the kept-alive connection turned out to be closed.
    async fn send(&self, request: Request) -> Result<Response, reqwest::Error> {
        let again = request.try_clone();
        let from = Mono::now();
        let (result, opened) = noticed(self.client.execute(request)).await;
        match (result, again) {
            (Err(e), Some(again))
                if !opened
                    && cause::is_closed_before_response(&e)
                    && Mono::now().since(from) < STALE_WITHIN =>
            {
                self.resent_after.fetch_max(Mono::now().since(from).0, Ordering::Relaxed);
                self.resent.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(cause = cause::line(&e), "the server had closed the connection; sent again");
                self.client.execute(again).await
            }
            (result, _) => result,
        }
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        let mut failure = cause::failure(error);
        if failure.kind == FailureKind::Connect && error.is_timeout() {
            let limit = humantime::format_duration(self.timeout.min(CONNECT_TIMEOUT));
            failure.message = format!("no connection within {limit}");
        }
        failure
    }

    /// A GET within `limit`, at most `most` bytes of its body.
    pub(super) async fn get(&self, url: &Url, limit: Duration, most: usize) -> Result<Got, Failure> {
        let read = async {
            let request = self.request(Method::GET, url);
            let response = self.send(request).await.map_err(|e| self.failure(&e))?;
            let status = response.status().as_u16();
            let location = location(&response);
            let body = body(response, most).await.map_err(|e| self.failure(&e))?;
            Ok(Got { status, location, body })
        };
        let limit = limit.min(self.timeout);
        tokio::time::timeout(limit, read).await.unwrap_or_else(|_| {
            let message = format!("no answer within {}", humantime::format_duration(limit));
            Err(Failure { kind: FailureKind::Timeout, message })
        })
    }

    /// Servers repeat what they were sent; keys and header values are taken out of their words.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Resolves when `stop` becomes true; never where its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn status_failure(response: Response) -> Failure {
    let status = response.status();
    let location = location(&response);
    // A body that breaks off is as good as its beginning.
    let said = match body(response, ERROR_BODY_BYTES).await {
        Ok(body) => said::in_body(&body),
        Err(_) => None,
    };
    let name = status.canonical_reason().unwrap_or("no reason given");
    let message = match (location, said) {
        (Some(to), _) if status.is_redirection() => format!("HTTP {}: redirects to {to}", status.as_u16()),
        (_, Some(said)) => format!("HTTP {}: {said}", status.as_u16()),
        (_, None) => format!("HTTP {} ({name})", status.as_u16()),
    };
    Failure { kind: FailureKind::Status, message }
}

/// The first `most` bytes of the body.
async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await? {
        body.extend_from_slice(&bytes[..bytes.len().min(most - body.len())]);
        if body.len() >= most {
            break;
        }
    }
    Ok(body)
}

/// Where the response redirects to; what may hold a secret (user, query) is left out.
fn location(response: &Response) -> Option<String> {
    let to = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut url = response.url().join(to).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(said::one_line(url.as_str()))
}

fn headers(plan: &HttpPlan) -> Result<HeaderMap, LoadError> {
    let mut map = HeaderMap::new();
    map.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    map.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("inferscope/", env!("CARGO_PKG_VERSION"))),
    );
    if let Some(key) = &plan.api_key {
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", key.reveal())).map_err(|_| LoadError::ApiKey)?;
        value.set_sensitive(true);
        map.insert(header::AUTHORIZATION, value);
    }
    // What was given by hand replaces what is ours, and adds to itself.
    let mut own: Vec<HeaderName> = map.keys().cloned().collect();
    for (name, value) in &plan.headers {
        let error = || LoadError::Header { name: name.clone() };
        let header_name = HeaderName::try_from(name.as_str()).map_err(|_| error())?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| error())?;
        value.set_sensitive(true);
        if let Some(at) = own.iter().position(|n| *n == header_name) {
            own.swap_remove(at);
            map.insert(header_name, value);
        } else {
            map.append(header_name, value);
        }
    }
    Ok(map)
}

fn certificates(plan: &HttpPlan) -> Result<Vec<reqwest::Certificate>, LoadError> {
    let Some(path) = &plan.cacert else { return Ok(Vec::new()) };
    let error = |why: String| LoadError::Cacert { path: path.clone(), why };
    let pem = std::fs::read(path).map_err(|e| error(cause::line(&e)))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| error(cause::line(&e)))?;
    if certificates.is_empty() {
        return Err(error("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}
