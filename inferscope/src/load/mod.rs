//! The client's side: sends the load and stamps what comes back.
//!
//! Owns the requests, their schedule and every stamp of a streamed chunk. Never looks at the server's
//! host (`observe` does) and computes no figure (`analysis` does). Driven by `run` on a current-thread
//! runtime.
//!
//! `sse` and `interpret` understand the stream, `request` turns reads into a log, all without I/O;
//! `http` is the thin shell that sends, reads and stamps.

mod http;
mod interpret;
mod models;
mod request;
mod said;
mod sse;

use tokio::sync::watch;

use crate::clock::Mono;
use crate::event::{FailureKind, LoadLog, RequestLog};
use crate::plan::LoadPlan;

/// So many refused connections in a row mean that the server is gone: the rest is not sent.
const REFUSED_IN_A_ROW: u32 = 3;

/// Why nothing can be sent. One line, then the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the HTTP client can't be set up: {0}\n  check --cacert and the system's certificates")]
    Client(String),
    #[error("can't read the CA certificate {path}: {why}\n  give --cacert a PEM file")]
    CaCert { path: String, why: String },
    #[error("can't reach {endpoint}: {why}\n  start the server, or correct --endpoint")]
    Unreachable { endpoint: String, why: String },
    #[error(
        "{endpoint} refuses the key (HTTP {status}): {why}\n  set the variable that --api-key-env names, or pass -H"
    )]
    Unauthorized { endpoint: String, status: u16, why: String },
    #[error(
        "{endpoint} does not list its models (HTTP {status}): {why}\n  pass --model NAME if the server is right, or correct --endpoint"
    )]
    Models { endpoint: String, status: u16, why: String },
    #[error("{endpoint} does not answer as an OpenAI-compatible server: {why}\n  correct --endpoint")]
    NotOpenAi { endpoint: String, why: String },
    #[error("model '{asked}' is not served here\n  pass --model with one of: {served}")]
    ModelNotServed { asked: String, served: String },
    #[error("the server has {count} models\n  choose one with --model: {served}")]
    ManyModels { count: usize, served: String },
}

/// A client for one endpoint.
pub struct Driver {
    plan: LoadPlan,
    client: http::Client,
}

impl Driver {
    /// # Errors
    /// The HTTP client can't be built, or the CA certificate can't be read.
    pub fn new(plan: &LoadPlan) -> Result<Self, LoadError> {
        Ok(Self { plan: plan.clone(), client: http::Client::new(plan)? })
    }

    /// The model to ask for; also proves that the endpoint can be reached. `None` where the server
    /// lists none and none was named: the request then goes without.
    ///
    /// # Errors
    /// [`LoadError`]
    pub async fn resolve_model(&self) -> Result<Option<String>, LoadError> {
        let listed = self.client.list_models(&self.plan).await?;
        models::choose(self.plan.model.as_deref(), listed)
    }

    /// Sends the warm-up and then the measured requests, one after another, until they are done, the
    /// duration is over or `stop` turns true. Each request that was sent is in the log.
    pub async fn run(
        &self,
        model: Option<&str>,
        mut stop: watch::Receiver<bool>,
        progress: &mut dyn FnMut(&RequestLog),
    ) -> LoadLog {
        let total = self.plan.warmup.saturating_add(self.plan.requests);
        let mut log = LoadLog::default();
        let mut measured_since: Option<Mono> = None;
        let mut refused = 0;
        for id in 0..total {
            let warmup = id < self.plan.warmup;
            let now = Mono::now();
            if !warmup {
                let since = *measured_since.get_or_insert(now);
                if self.plan.duration.is_some_and(|limit| now.since(since) >= limit) {
                    break;
                }
            }
            if *stop.borrow() || refused >= REFUSED_IN_A_ROW {
                break;
            }
            let request = self.client.send(&self.plan, model, id, warmup, &mut stop).await;
            let connect_failed = request.failure.as_ref().is_some_and(|f| f.kind == FailureKind::Connect);
            refused = if connect_failed { refused + 1 } else { 0 };
            progress(&request);
            log.requests.push(request);
        }
        log
    }
}
