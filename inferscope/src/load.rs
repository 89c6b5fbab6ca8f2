//! The load: requests go out, what comes back is stamped.
//!
//! Owns the driving of the server: which requests are sent when (`phase`, over `schedule`), what is in them
//! (`prompt_source`, over `prompts`) and what their answers come to (`request`, over `sse` and `interpret`), and the
//! HTTP beneath (`http`). Never observes the server's processes, computes no statistics, prints nothing. Called by
//! `session`, which owns the runtime and the signal; a current-thread runtime is enough and disturbs least.
//!
//! ```text
//! plan ─ phase ─ schedule ─▶ ask ─▶ http ─ stamped reads ─▶ request::RequestState ─▶ RequestLog
//!                                                           └ sse ─▶ interpret
//! ```

mod budget;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod in_flight;
mod interpret;
mod limit;
mod models;
mod phase;
mod prompt_source;
mod prompts;
mod request;
mod schedule;
mod server_message;
mod sse;
mod timer;

use std::ops::ControlFlow;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;

pub use error::LoadError;
pub use http::Resent;

use crate::clock::Mono;
use crate::event::{Calibration, Chunk, ClientLog, FailureKind, Loaded, PhaseLog, RequestLog};
use crate::plan::{LoadPlan, Shape};

use phase::PhaseContext;
use prompts::Prompts;
use timer::Timer;

/// Longest wait for the model list: it is the question whether anybody is there.
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest model list read; aggregators list thousands, in some hundred bytes each.
const MODELS_BYTES: u64 = 4 << 20;
/// Of the ceiling of memory, as a divisor, what a model list may take: parsed it is up to 30 times as large.
const MODELS_PART: u64 = 128;

/// Takes what a load gives, while it runs.
pub trait Receiver {
    /// Prompts are made to a length that the server counted.
    fn calibrated(&mut self, by: Calibration);
    /// The load is full from now on, up to `until` where that is known ahead.
    fn full(&mut self, _until: Option<Mono>) {}
    /// A request is about to be sent.
    fn sent(&mut self, _t: Mono, _warmup: bool) {}
    /// A request has ended; `loaded` is as far as it is known by now.
    fn request(&mut self, log: RequestLog, loaded: Loaded);
    /// The load begins, or ends, to be applied now: what it costs is to be read at this moment.
    fn edge(&mut self) {}
    /// A phase has ended, and all of its requests have been handed over. `Break` leaves out the steps that
    /// would follow. Nothing is under way meanwhile.
    fn phase(&mut self, log: PhaseLog) -> Pin<Box<dyn Future<Output = ControlFlow<()>> + '_>>;
}

/// What is known of the server before the first request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// The model to ask for. `None`: the server doesn't say and the user didn't; the requests then name none.
    pub model: Option<String>,
    /// Why the model may be none of its own.
    pub doubt: Option<ModelDoubt>,
    /// It takes the wish for usage with each chunk.
    usage_with_each_chunk: bool,
}

/// What the server's model list leaves open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelDoubt {
    NotListed(String),
    NoList(String),
}

/// Drives one endpoint as one plan says.
#[derive(Debug)]
pub struct Driver {
    plan: LoadPlan,
    http: http::Http,
    prompts: Prompts,
    /// `max_in_flight`, where it was lowered.
    lowered: Option<u32>,
}

/// What is to be under way at once fits into the memory, as far as can be said ahead: an open loop has fewer at a time,
/// which is told.
///
/// # Errors
/// A closed loop has more.
fn within_memory(plan: &mut LoadPlan, prompts: &Prompts) -> Result<Option<u32>, LoadError> {
    let max_memory = plan.http.max_memory;
    let chunks = request::chunks_ahead(Some(plan.max_tokens.into()), 1) * size_of::<Chunk>();
    let body_bytes = prompts.get(0).plain().len() as u64;
    let each = budget::of_request(body_bytes, chunks as u64);
    let fit = budget::fit(max_memory, each);
    for step in &plan.steps {
        if let Shape::Closed { concurrency } = *step
            && u64::from(concurrency) > fit
        {
            let needed_mib = budget::needed(concurrency.into(), each).div_ceil(1 << 20);
            return Err(LoadError::Memory { concurrency, needed_mib, max_mib: max_memory >> 20, fit });
        }
    }
    let fit = u32::try_from(fit.max(1)).unwrap_or(u32::MAX);
    let is_open = plan.steps.iter().any(|step| !matches!(step, Shape::Closed { .. }));
    let lowered = (is_open && fit < plan.max_in_flight).then_some(fit);
    plan.max_in_flight = plan.max_in_flight.min(fit);
    Ok(lowered)
}

impl Driver {
    /// Sets up the client and reads the prompts; connects to nothing. `run_id` goes out with each request.
    ///
    /// # Errors
    /// A prompt file, CA file, header or key that can't be used, or no TLS set-up for an https endpoint.
    pub fn new(plan: &LoadPlan, run_id: &str) -> Result<Self, LoadError> {
        let http = http::Http::new(&plan.http, &plan.endpoint, run_id)?;
        let (prompts, mut plan) = (prompt_source::prompts(plan)?, plan.clone());
        let lowered = within_memory(&mut plan, &prompts)?;
        Ok(Self { http, prompts, plan, lowered })
    }

    /// Requests under way at most, where that is fewer than was asked for, as more do not fit into the memory.
    #[must_use]
    pub const fn lowered_in_flight(&self) -> Option<u32> {
        self.lowered
    }

    /// Asks the server for its models, which also shows that it can be reached, and tells which one to
    /// ask for.
    ///
    /// # Errors
    /// The server can't be reached or refuses, or no model was named and there are several.
    pub async fn meet(&self) -> Result<Served, LoadError> {
        let asked = self.plan.model.as_deref();
        let url = self.plan.endpoint.join("models");
        let most = MODELS_BYTES.min(self.plan.http.max_memory / MODELS_PART);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let got = self.http.get(&url, MODELS_TIMEOUT, most).await.map_err(|failure| {
            let remedy = match (failure.kind, url.scheme()) {
                (FailureKind::ClientLimit, _) => "the server has not been asked",
                (FailureKind::Malformed, _) => {
                    "what listens there does not speak HTTP; look at the port of --endpoint"
                }
                (FailureKind::Certificate, _) => {
                    "pass the server's certificate, or its CA's, with --cacert F; or renew it, or use the name that it \
                     is for; --insecure takes any"
                }
                (_, "https") => {
                    "check that the server is up and that --endpoint is right; \
                     for a certificate of your own pass --cacert F or --insecure"
                }
                _ => "check that the server is up and that the host and port of --endpoint are right",
            };
            LoadError::Unreachable {
                url: url.to_string(),
                cause: self.http.scrub(&failure.message),
                remedy,
                silent: failure.kind == FailureKind::Timeout,
            }
        })?;
        let said = || server_message::in_body(&got.body).map(|said| self.http.scrub(&said));
        let status = got.status;
        match status {
            200..=299 => match models::parse(&got.body) {
                Some(served) => {
                    let (model, doubt) = models::choose(asked, &served)?;
                    Ok(Served {
                        model,
                        doubt: doubt.map(ModelDoubt::NotListed),
                        usage_with_each_chunk: models::gives_usage_with_each_chunk(&got.body),
                    })
                }
                None => {
                    let excerpt = self.http.scrub(&server_message::excerpt(&got.body));
                    Err(LoadError::NoModelList { url: url.to_string(), excerpt })
                }
            },
            // A server without a model list.
            404 | 405 | 501 => Ok(Served { model: asked.map(str::to_owned), ..Served::default() }),
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

    /// Goes on without a model list, where the user named the model: the first request will tell.
    ///
    /// # Errors
    /// `error`, where it is about more than the list, or no model was named.
    pub fn without_list(&self, error: LoadError) -> Result<Served, LoadError> {
        let model = self.plan.model.clone().filter(|_| error.is_of_the_list());
        let Some(model) = model else { return Err(error) };
        let why = error.to_string();
        let why = why.lines().next().unwrap_or_default().to_owned();
        Ok(Served { model: Some(model), doubt: Some(ModelDoubt::NoList(why)), ..Served::default() })
    }

    /// Sends everything, phase by phase, and hands what comes of it to `receiver`.
    ///
    /// A request that fails is handed over and the rest goes on. Every request of the plan is tried, with two
    /// exceptions: none is begun after the plan's duration, and after three connections in a row that could
    /// not be made the phase's rest is not sent, so that a dead server takes bounded time. When `stop` becomes
    /// true, the requests under way end as [`FailureKind::Interrupted`] with what they had received, and no
    /// other is sent.
    ///
    /// # Errors
    /// No timer is to be had.
    pub async fn run(
        &self,
        server: &Served,
        stop: watch::Receiver<bool>,
        receiver: &mut dyn Receiver,
    ) -> Result<(), LoadError> {
        let made = self.calibrate(server, &stop, receiver).await;
        let prompts = made.as_ref().unwrap_or(&self.prompts);
        let mut ids = 0;
        let mut timer = Timer::new().map_err(|e| LoadError::Client { why: e.to_string() })?;
        for (step, shape) in self.plan.steps.iter().enumerate() {
            let mut go_on = ControlFlow::Continue(());
            for repetition in 0..self.plan.repeat {
                if *stop.borrow() {
                    return Ok(());
                }
                let context = PhaseContext { step, repetition, shape: *shape, server, prompts };
                let log = self.phase(context, &mut ids, &mut timer, stop.clone(), receiver).await?;
                go_on = receiver.phase(log).await;
            }
            if go_on.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Requests that had to be sent a second time, because the server ended the kept-alive connection without a
    /// byte of an answer.
    #[must_use]
    pub fn resent(&self) -> Resent {
        self.http.resent()
    }

    /// The proxy that requests went through.
    #[must_use]
    pub fn proxy_used(&self) -> Option<&str> {
        self.http.proxy_used()
    }

    /// Whether the server's certificate was not checked (`--insecure`).
    #[must_use]
    pub const fn is_unchecked(&self) -> bool {
        self.http.is_unchecked()
    }

    /// Entries of the data set that are not sent, because they hold no question.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.prompts.passed_over()
    }

    /// Requests a second of a trace, where its times look like seconds.
    #[must_use]
    pub fn trace_in_seconds(&self) -> Option<f64> {
        self.prompts.looks_like_seconds().filter(|_| self.plan.steps.contains(&Shape::Trace))
    }

    /// Whether a trace is replayed.
    #[must_use]
    pub fn replays(&self) -> bool {
        self.plan.steps.contains(&Shape::Trace) && self.prompts.timed().is_some()
    }

    /// What the client tells of itself so far.
    #[must_use]
    pub fn client_log(&self) -> ClientLog {
        self.http.client_log()
    }

    fn sends_credentials(&self) -> bool {
        let http = &self.plan.http;
        http.api_key.is_some()
            || http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    }
}

#[cfg(test)]
mod tests;
