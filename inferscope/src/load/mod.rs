//! The load: requests go out, what comes back is stamped.
//!
//! Owns the driving of the server: which requests are sent when (`schedule`), what is in them and what
//! their answers come to (`request`, over `sse` and `interpret`), and the HTTP beneath (`http`). Never
//! observes the server's processes, computes no statistics, prints nothing. Called by `run`, which owns
//! the runtime and the signal; a current-thread runtime is enough and disturbs least.
//!
//! ```text
//! plan ─ schedule ─▶ request::body ─▶ http ─ stamped reads ─▶ request::RequestState ─▶ RequestLog
//!                                                              └ sse ─▶ interpret
//! ```

mod cause;
mod connects;
mod error;
mod http;
mod interpret;
mod models;
mod request;
mod said;
mod schedule;
mod sse;

use std::time::Duration;

use tokio::sync::watch;

pub use error::LoadError;
pub use http::Resent;

use crate::clock::Mono;
use crate::event::{FailureKind, LoadLog, RequestLog};
use crate::plan::{Api, LoadPlan};

/// Longest wait for the model list: it is the question whether anybody is there.
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest model list read; aggregators list thousands.
const MODELS_BYTES: usize = 8 << 20;

/// Drives one endpoint as one plan says.
#[derive(Debug)]
pub struct Driver {
    plan: LoadPlan,
    http: http::Http,
}

impl Driver {
    /// Sets up the client; connects to nothing.
    ///
    /// # Errors
    /// A CA file, header or key that can't be used, or no TLS set-up for an https endpoint.
    pub fn new(plan: &LoadPlan) -> Result<Self, LoadError> {
        Ok(Self { http: http::Http::new(&plan.http, &plan.endpoint)?, plan: plan.clone() })
    }

    /// Asks the server for its models, which also shows that it can be reached, and tells which one to
    /// ask for. `None`: the server doesn't say and the user didn't; the request then names none.
    ///
    /// # Errors
    /// The server can't be reached or refuses, or the model is not served, or there are several.
    pub async fn resolve_model(&self) -> Result<Option<String>, LoadError> {
        let asked = self.plan.model.as_deref();
        let url = self.plan.endpoint.join("models");
        let got = self.http.get(&url, MODELS_TIMEOUT, MODELS_BYTES).await.map_err(|failure| {
            let remedy = match (failure.kind, url.scheme()) {
                (FailureKind::Malformed, _) => {
                    "what listens there does not speak HTTP; look at the port of --endpoint"
                }
                (_, "https") => {
                    "check that the server is up and that --endpoint is right; \
                     for a certificate of your own pass --cacert F or --insecure"
                }
                _ => "check that the server is up and that the host and port of --endpoint are right",
            };
            LoadError::Unreachable { url: url.to_string(), cause: self.http.scrub(&failure.message), remedy }
        })?;
        let said = || said::in_body(&got.body).map(|said| self.http.scrub(&said));
        let status = got.status;
        match status {
            200..=299 => match models::parse(&got.body) {
                Some(served) => models::choose(asked, &served),
                // The user names the model, so the list is not needed; the first request will tell.
                None if asked.is_some() => Ok(asked.map(str::to_owned)),
                None => {
                    let excerpt = self.http.scrub(&said::excerpt(&got.body));
                    Err(LoadError::NoModelList { url: url.to_string(), excerpt })
                }
            },
            // A server without a model list.
            404 | 405 | 501 => Ok(asked.map(str::to_owned)),
            401 | 403 if self.sends_credentials() => Err(LoadError::KeyRefused { status, said: said() }),
            401 | 403 => Err(LoadError::NoKey { status, said: said() }),
            300..=399 => Err(LoadError::Redirects {
                url: url.to_string(),
                to: got.location.unwrap_or_else(|| "a place that it does not name".to_owned()),
            }),
            _ => {
                let remedy = match status {
                    503 => "the server may still be loading its model; wait until it is ready",
                    500.. => "look at the server's log",
                    _ => "look at --endpoint, --api-key-env and -H",
                };
                Err(LoadError::Status { url: url.to_string(), status, said: said(), remedy })
            }
        }
    }

    /// Sends everything, one request after another, and hands each finished one to `progress`.
    ///
    /// Warm-up requests come first; one that fails is logged and the rest goes on. Every request of the
    /// plan is tried, with two exceptions: none is begun after the plan's duration, and after three
    /// connections in a row that could not be made the rest is not sent, so that a dead server takes
    /// bounded time. When `stop` becomes true, the request under way ends as
    /// [`FailureKind::Interrupted`] with what it had received, and no other is sent.
    pub async fn run(
        &self,
        model: Option<&str>,
        stop: watch::Receiver<bool>,
        progress: &mut dyn FnMut(&RequestLog),
    ) -> LoadLog {
        let mut stop = stop;
        let mut schedule = schedule::Schedule::new(&self.plan);
        let mut log = LoadLog::default();
        while !*stop.borrow() {
            let Some(slot) = schedule.next(Mono::now()) else { break };
            let request = self.one(slot, model, &mut stop).await;
            schedule.ended(&request);
            progress(&request);
            log.requests.push(request);
        }
        log
    }

    /// Requests that had to be sent a second time, because the server had closed the kept-alive
    /// connection before it took them.
    #[must_use]
    pub fn resent(&self) -> Resent {
        self.http.resent()
    }

    async fn one(
        &self,
        slot: request::Slot,
        model: Option<&str>,
        stop: &mut watch::Receiver<bool>,
    ) -> RequestLog {
        let path = match self.plan.api {
            Api::Chat => "chat/completions",
            Api::Completions => "completions",
        };
        let body = request::body(&self.plan, model, slot.id).to_string().into_bytes();
        let url = self.plan.endpoint.join(path);
        self.http.exchange(&url, body, slot, self.plan.max_tokens, stop).await
    }

    fn sends_credentials(&self) -> bool {
        let http = &self.plan.http;
        http.api_key.is_some()
            || http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    }
}

#[cfg(test)]
mod tests;
