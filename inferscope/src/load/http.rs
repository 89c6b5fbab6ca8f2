//! Sends, reads, stamps.
//!
//! Owns the HTTP client. Each read is stamped before anything looks into it. Never follows a redirect
//! (it would be another server that is measured) and uses no proxy for this machine. Called by `load`.

use std::error::Error as _;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Response};
use tokio::sync::watch;

use super::request::{self, RequestState};
use super::{LoadError, models, said};
use crate::clock::Mono;
use crate::event::{FailureKind, RequestLog};
use crate::plan::LoadPlan;
use crate::units::Nanos;

/// Of an error's body.
const ERROR_BODY_BYTES: usize = 64 * 1024;
/// A list of models takes no longer from a server that works.
const MODELS_TIMEOUT: Nanos = Nanos::from_millis(10_000);

pub(super) struct Client {
    inner: reqwest::Client,
    headers: HeaderMap,
}

impl Client {
    pub(super) fn new(plan: &LoadPlan) -> Result<Self, LoadError> {
        let setup = |e: &dyn std::error::Error| LoadError::Client(said::one_line(&e.to_string()));
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("inferscope/", env!("CARGO_PKG_VERSION")));
        if plan.endpoint.loopback_port().is_some() {
            builder = builder.no_proxy();
        }
        if plan.http.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if let Some(path) = &plan.http.cacert {
            let error = |why: String| LoadError::CaCert { path: path.display().to_string(), why };
            let pem = std::fs::read(path).map_err(|e| error(e.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| error(e.to_string()))?;
            if certificates.is_empty() {
                return Err(error("it holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let mut headers = HeaderMap::new();
        if let Some(key) = &plan.http.api_key {
            // The error must not show the value.
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal()))
                .map_err(|_| LoadError::Client("the API key holds a control character".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        for (name, value) in &plan.http.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| setup(&e))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| LoadError::Client(format!("header {name} has a value that can't be sent")))?;
            headers.insert(name, value);
        }
        Ok(Self { inner: builder.build().map_err(|e| setup(&e))?, headers })
    }

    /// The served models; `None` where the server has no such list.
    pub(super) async fn list_models(&self, plan: &LoadPlan) -> Result<Option<Vec<String>>, LoadError> {
        let endpoint = plan.endpoint.to_string();
        let unreachable =
            |e: &reqwest::Error| LoadError::Unreachable { endpoint: endpoint.clone(), why: cause(e) };
        let answer = self
            .inner
            .get(plan.endpoint.join("models"))
            .headers(self.headers.clone())
            .timeout(plan.http.timeout.min(MODELS_TIMEOUT).to_duration())
            .send()
            .await
            .map_err(|e| unreachable(&e))?;
        let status = answer.status();
        let body = head_of(answer).await;
        if matches!(status.as_u16(), 404 | 405 | 501) {
            return Ok(None);
        }
        let why = || said::in_body(&body).unwrap_or_else(|| "without a message".to_owned());
        if matches!(status.as_u16(), 401 | 403) {
            return Err(LoadError::Unauthorized { endpoint, status: status.as_u16(), why: why() });
        }
        if !status.is_success() {
            // A server that was told what to serve need not list it.
            return match plan.model {
                Some(_) => Ok(None),
                None => Err(LoadError::Models { endpoint, status: status.as_u16(), why: why() }),
            };
        }
        let ids = serde_json::from_slice(&body).ok().as_ref().and_then(models::ids);
        ids.map(Some).ok_or_else(|| LoadError::NotOpenAi {
            endpoint,
            why: format!("its list of models reads '{}'", said::excerpt(&body)),
        })
    }

    /// Sends one request and reads its answer to the end, the timeout or `stop`.
    pub(super) async fn send(
        &self,
        plan: &LoadPlan,
        model: Option<&str>,
        id: u64,
        warmup: bool,
        stop: &mut watch::Receiver<bool>,
    ) -> RequestLog {
        let body = request::body(plan, model).to_string();
        let request = self
            .inner
            .post(plan.endpoint.join(request::path(plan.api)))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream")
            .headers(self.headers.clone())
            .body(body);
        let sent = Mono::now();
        let mut state = RequestState::new(plan, id, warmup, sent);
        let limit = plan.http.timeout;
        tokio::select! {
            biased;
            () = exchange(request, &mut state) => {}
            () = tokio::time::sleep(limit.to_duration()) => {
                let said = format!("no complete answer within {}", humantime::format_duration(limit.to_duration()));
                state.fail(FailureKind::Timeout, said);
            }
            () = stopped(stop) => state.fail(FailureKind::Interrupted, "interrupted".to_owned()),
        }
        state.end(Mono::now())
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|s| *s).await.is_err() {
        // Nobody can stop it any more.
        std::future::pending::<()>().await;
    }
}

async fn exchange(request: reqwest::RequestBuilder, state: &mut RequestState) {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(e) => {
            let kind = if e.is_connect() { FailureKind::Connect } else { FailureKind::Disconnect };
            return state.fail(kind, cause(&e));
        }
    };
    let t = Mono::now();
    let status = response.status();
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.trim_start().starts_with("application/json"));
    state.headers(t, status.as_u16(), is_json);
    if !status.is_success() {
        let body = head_of(response).await;
        let said = said::in_body(&body).unwrap_or_else(|| "without a message".to_owned());
        return state.fail(FailureKind::Status, format!("HTTP {}: {said}", status.as_u16()));
    }
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                let t = Mono::now();
                if state.read(t, &bytes).is_break() {
                    break;
                }
            }
            Ok(None) => return,
            Err(e) => return state.fail(FailureKind::Disconnect, cause(&e)),
        }
    }
    // After [DONE] only the end of the body is left; taking it lets the connection be used again.
    if !state.failed() {
        while let Ok(Some(_)) = response.chunk().await {}
    }
}

async fn head_of(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        let room = ERROR_BODY_BYTES.saturating_sub(body.len());
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() >= ERROR_BODY_BYTES {
            break;
        }
    }
    body
}

/// The innermost reason: "connection refused" rather than "error sending request for url".
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it gave no answer in time".to_owned();
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    let text = said::one_line(&text);
    // "Connection refused (os error 111)"
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
