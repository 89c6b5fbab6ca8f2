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
mod error;
mod gauge;
mod http;
mod interpret;
mod models;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by the driver next"))]
mod prompts;
mod request;
mod said;
mod schedule;
mod sse;
mod timer;

use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use tokio::sync::watch;

pub use error::LoadError;
pub use http::Resent;

use crate::clock::Mono;
use crate::event::{ClientLog, FailureKind, PhaseLog, RequestLog};
use crate::plan::{Api, LoadPlan, PromptPlan, Shape};
use crate::units::Nanos;

use gauge::Gauge;
use request::Slot;
use schedule::{Next, Phase, Schedule, Turn};
use timer::Timer;

/// Longest wait for the model list: it is the question whether anybody is there.
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest model list read; aggregators list thousands.
const MODELS_BYTES: usize = 8 << 20;

/// How often the loop looks how late its own timer is.
const BEAT: Nanos = Nanos::from_millis(20);
/// A timer that is later than this is not told exactly.
const MOST_LAG_NS: u64 = 60_000_000_000;

/// Takes what a load gives, while it runs.
pub trait Receiver {
    /// A request has ended.
    fn request(&mut self, log: RequestLog);
    /// A phase has ended, and all of its requests have been handed over. `Break` leaves out the steps that
    /// would follow.
    fn phase(&mut self, log: PhaseLog) -> ControlFlow<()>;
}

/// What is known of the server before the first request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// The model to ask for. `None`: the server doesn't say and the user didn't; the requests then name none.
    pub model: Option<String>,
    /// It takes the wish for usage with each chunk.
    usage_with_each_chunk: bool,
}

/// Drives one endpoint as one plan says.
#[derive(Debug)]
pub struct Driver {
    plan: LoadPlan,
    http: http::Http,
}

impl Driver {
    /// Sets up the client; connects to nothing. `run_id` goes out with each request.
    ///
    /// # Errors
    /// A CA file, header or key that can't be used, or no TLS set-up for an https endpoint.
    pub fn new(plan: &LoadPlan, run_id: &str) -> Result<Self, LoadError> {
        Ok(Self { http: http::Http::new(&plan.http, &plan.endpoint, run_id)?, plan: plan.clone() })
    }

    /// Asks the server for its models, which also shows that it can be reached, and tells which one to
    /// ask for.
    ///
    /// # Errors
    /// The server can't be reached or refuses, or the model is not served, or there are several.
    pub async fn meet(&self) -> Result<Served, LoadError> {
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
                Some(served) => Ok(Served {
                    model: models::choose(asked, &served)?,
                    usage_with_each_chunk: models::gives_usage_with_each_chunk(&got.body),
                }),
                // The user names the model, so the list is not needed; the first request will tell.
                None if asked.is_some() => {
                    Ok(Served { model: asked.map(str::to_owned), ..Served::default() })
                }
                None => {
                    let excerpt = self.http.scrub(&said::excerpt(&got.body));
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
        let mut ids = 0;
        let mut timer = Timer::new().map_err(|e| LoadError::Client { why: e.to_string() })?;
        for (step, shape) in self.plan.steps.iter().enumerate() {
            let mut go_on = ControlFlow::Continue(());
            for repetition in 0..self.plan.repeat {
                if *stop.borrow() {
                    return Ok(());
                }
                let place = Place { step, repetition, shape: *shape, server };
                let log = self.phase(place, &mut ids, &mut timer, stop.clone(), receiver).await?;
                go_on = receiver.phase(log);
            }
            if go_on.is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn phase(
        &self,
        place: Place<'_>,
        ids: &mut u64,
        timer: &mut Timer,
        mut stop: watch::Receiver<bool>,
        receiver: &mut dyn Receiver,
    ) -> Result<PhaseLog, LoadError> {
        let started = Mono::now();
        let cpu_before = thread_cpu();
        let mut schedule = Schedule::new(self.plan_of(place));
        let mut gauge = Gauge::new(started);
        let mut lag = Histogram::new_with_bounds(1, MOST_LAG_NS, 3).expect("these are bounds that it takes");
        let mut under_way = FuturesUnordered::new();
        let (mut measured, mut last_sent) = (0, started);
        let mut beat = started.plus(BEAT);
        loop {
            let mut due = None;
            let mut over = *stop.borrow();
            while !over {
                let now = Mono::now();
                match schedule.next(now, u32::try_from(under_way.len()).unwrap_or(u32::MAX)) {
                    Next::Now(turn) => {
                        if !turn.warmup {
                            measured += 1;
                            gauge.set(now, measured);
                            last_sent = now;
                        }
                        under_way.push(self.one(turn, *ids, place, stop.clone()));
                        *ids += 1;
                    }
                    Next::At(t) => {
                        due = Some(t);
                        break;
                    }
                    Next::AfterOne => break,
                    Next::Over => over = true,
                }
            }
            if under_way.is_empty() && (over || due.is_none()) {
                break;
            }
            let wake = due.map_or(beat, |due| due.min(beat));
            // What has arrived is read before anything else is begun.
            tokio::select! {
                biased;
                Some(log) = under_way.next() => {
                    if !log.warmup {
                        measured -= 1;
                        gauge.set(log.done, measured);
                    }
                    schedule.ended(&log);
                    receiver.request(log);
                }
                woken = timer.until(wake) => {
                    woken.map_err(|e| LoadError::Client { why: e.to_string() })?;
                    let now = Mono::now();
                    if now >= beat {
                        lag.saturating_record(now.since(beat).0.max(1));
                        beat = now.plus(BEAT);
                    }
                }
                _ = stop.changed(), if !over => {}
            }
        }
        let ended = Mono::now();
        Ok(PhaseLog {
            step: place.step,
            repetition: place.repetition,
            started,
            measured_from: schedule.measured_from(),
            sent_all: last_sent,
            ended,
            measured_sent: schedule.sent(),
            in_flight: gauge.finish(ended),
            thread_cpu: thread_cpu().saturating_sub(cpu_before),
            timer_lag: lag,
            prompts_again: 0,
        })
    }

    fn plan_of(&self, place: Place<'_>) -> Phase {
        let plan = &self.plan;
        let shape = match place.shape {
            Shape::Trace => Shape::Closed { concurrency: 1 },
            shape => shape,
        };
        Phase {
            shape,
            warmup: plan.warmup,
            requests: plan.requests.or(plan.duration.is_none().then_some(1)),
            duration: plan.duration,
            ramp_up: plan.ramp_up,
            max_in_flight: plan.max_in_flight,
            // Other arrivals in each repetition, or there would be nothing to repeat.
            seed: plan.load_seed ^ (u64::from(place.repetition) << 32),
            offsets: Vec::new(),
        }
    }

    /// Requests that had to be sent a second time, because the server had closed the kept-alive
    /// connection before it took them.
    #[must_use]
    pub fn resent(&self) -> Resent {
        self.http.resent()
    }

    /// What the client tells of itself so far.
    #[must_use]
    pub fn client_log(&self) -> ClientLog {
        self.http.client_log()
    }

    async fn one(
        &self,
        turn: Turn,
        id: u64,
        place: Place<'_>,
        mut stop: watch::Receiver<bool>,
    ) -> RequestLog {
        let path = match self.plan.api {
            Api::Chat => "chat/completions",
            Api::Completions => "completions",
        };
        let text = match &self.plan.prompts {
            PromptPlan::Text(text) => text.clone(),
            _ => String::new(),
        };
        let max_tokens = self.plan.max_tokens;
        let prompt = match self.plan.api {
            Api::Chat => serde_json::json!([{"role": "user", "content": text}]),
            Api::Completions => text.into(),
        };
        let Served { model, usage_with_each_chunk } = place.server;
        let ask = request::Ask {
            model: model.as_deref(),
            prompt,
            max_tokens,
            usage_with_each_chunk: *usage_with_each_chunk,
        };
        let body = request::body(&self.plan, ask).to_string().into_bytes();
        let url = self.plan.endpoint.join(path);
        let slot = Slot { id, warmup: turn.warmup, scheduled: turn.scheduled };
        self.http.exchange(&url, body, slot, max_tokens, &mut stop).await
    }

    fn sends_credentials(&self) -> bool {
        let http = &self.plan.http;
        http.api_key.is_some()
            || http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    }
}

/// Which phase it is.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    step: usize,
    repetition: u32,
    shape: Shape,
    server: &'a Served,
}

fn thread_cpu() -> Nanos {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Nanos(t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests;
