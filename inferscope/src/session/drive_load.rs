//! The load within a run: driven to its end, and judged as a whole.
//!
//! Owns the progress of the requests, the way from a stop signal to the driver, and the verdict that nothing
//! came of it. Never sends anything itself (`load` does). Called by `session::drive`.

use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::RunError;
use super::host;
use super::output::Sink;
use super::progress::Progress;
use crate::aggregate::load::LoadTotals;
use crate::aggregate::{Aggregates, Snapshot};
use crate::clock::Mono;
use crate::event::{Calibration, Event, FailureKind, LoadEvent, Loaded, PhaseLog, RequestLog};
use crate::figures::load::saturation;
use crate::hub::Sender;
use crate::load::{Driver, LoadError, ModelDoubt, Receiver, Served};
use crate::observe::Edges;
use crate::observe::Marker;
use crate::plan::LoadPlan;

use crate::units::Nanos;
use crate::verdict::doubt::{Doubt, DoubtCode, DoubtLevel};

/// Below this, sending twice changes no latency that anybody acts on.
const RESENT_MATTERS: Nanos = Nanos::from_millis(1);

/// How long the load waits for a collector that is far behind: its own lateness is measured and said, what is lost is not.
const ROOM_LIMIT: Duration = Duration::from_millis(50);

/// What a reader should know of the sending.
pub(super) fn said_of(driver: &Driver) -> Vec<Doubt> {
    let resent = driver.resent();
    let level = if resent.longest < RESENT_MATTERS { DoubtLevel::ForTheRecord } else { DoubtLevel::Warn };
    let resent = (resent.requests > 0).then(|| Doubt {
        level,
        code: DoubtCode::RequestsResent,
        message: format!(
            "{} requests went out on a kept-alive connection that the server ended without a byte of an answer, and were \
             sent once more: their latencies count from the first sending, which is {:.2} ms of them at most",
            resent.requests,
            resent.longest.as_secs_f64() * 1e3
        ),
    });
    let not_kept = (!driver.resent().kept_alive).then(|| Doubt {
        level: DoubtLevel::ForTheRecord,
        code: DoubtCode::ConnectionsNotReused,
        message: "the server ends connections after an answer without saying so: after the second time each request \
                  opened a connection of its own"
            .to_owned(),
    });
    let proxy = driver.proxy_used().map(|proxy| Doubt {
        level: DoubtLevel::Warn,
        code: DoubtCode::ProxyUsed,
        message: format!(
            "the requests went through the proxy {proxy}: what it takes and how it buffers is in every latency (NO_PROXY \
             names hosts that are reached without)"
        ),
    });
    let unchecked = driver.is_unchecked().then(|| Doubt {
        level: DoubtLevel::Warn,
        code: DoubtCode::InsecureTls,
        message: "the server's certificate was not checked (--insecure): whoever answered may be another"
            .to_owned(),
    });
    let lowered = driver.lowered_in_flight().map(|most| Doubt {
        level: DoubtLevel::Warn,
        code: DoubtCode::InFlightLowered,
        message: format!(
            "at most {most} requests were under way at a time, as more do not fit into --max-memory: what was due beyond \
             waited"
        ),
    });
    let passed_over = driver.passed_over();
    let passed_over = (passed_over > 0).then(|| Doubt {
        level: DoubtLevel::ForTheRecord,
        code: DoubtCode::EntriesPassedOver,
        message: format!("{passed_over} entries of the data set hold no question and were not sent"),
    });
    let replayed = driver.replays().then(|| match driver.trace_in_seconds() {
        Some(rate) => Doubt {
            level: DoubtLevel::Warn,
            code: DoubtCode::TraceInSeconds,
            message: format!(
                "the trace's timestamps were taken for milliseconds, as Mooncake's are: {rate:.0} requests a second; they \
                 look like seconds, so multiply them by 1,000"
            ),
        },
        None => Doubt {
            level: DoubtLevel::ForTheRecord,
            code: DoubtCode::TraceInMilliseconds,
            message: "the trace's timestamps were taken for milliseconds, as Mooncake's are".to_owned(),
        },
    });
    [resent, not_kept, proxy, unchecked, lowered, passed_over, replayed].into_iter().flatten().collect()
}

/// That the server's list does not vouch for the model.
pub(super) fn doubt_of(server: &Served, sink: &Sink<'_>) -> Option<Doubt> {
    let (code, message) = match server.doubt.as_ref()? {
        ModelDoubt::NotListed(why) => (DoubtCode::ModelNotListed, why.clone()),
        ModelDoubt::NoList(why) => {
            (DoubtCode::NoModelList, format!("the server gave no list of its models: {why}"))
        }
    };
    sink.warn_now(&message);
    Some(Doubt { level: DoubtLevel::Warn, code, message })
}

/// What a load is driven with.
pub(super) struct Drive<'a> {
    pub(super) driver: &'a Driver,
    pub(super) plan: &'a LoadPlan,
    pub(super) server: &'a Served,
    pub(super) events: &'a Sender<Aggregates>,
    pub(super) progress: Progress,
    /// Where the devices' poll hears of the ends of windows.
    pub(super) edges: Edges,
    /// Where the processes are observed.
    pub(super) marker: Option<Marker>,
}

/// Sends on what comes, while it comes.
struct Outlet<'a> {
    events: &'a Sender<Aggregates>,
    plan: &'a LoadPlan,
    progress: &'a mut Progress,
    edges: Edges,
    marker: Option<Marker>,
}

impl Outlet<'_> {
    /// For an event without which figures are wrong.
    fn send(&self, event: LoadEvent) {
        self.events.send_within(Event::Load(event), ROOM_LIMIT);
    }

    /// A phase has ended: whether the next would show nothing.
    async fn judge(&mut self) -> ControlFlow<()> {
        // Without a collector there is nobody who could use the rest.
        let Some(Snapshot { load: Some(load), .. }) = self.events.snapshot().await else {
            return ControlFlow::Break(());
        };
        let over = saturation::ends_sweep(self.plan, &load.steps);
        self.progress.phase(&load.live.last_phase, over.map(|why| why.to_string()).as_deref());
        if over.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Receiver for Outlet<'_> {
    fn edge(&mut self) {
        if let Some(marker) = &self.marker {
            marker.mark();
        }
    }

    fn calibrated(&mut self, by: Calibration) {
        self.send(LoadEvent::Calibrated(by));
    }

    fn full(&mut self, until: Option<Mono>) {
        self.edges.mark();
        if let Some(until) = until {
            self.edges.mark_at(until);
        }
    }

    fn sent(&mut self, t: Mono, warmup: bool) {
        self.send(LoadEvent::Sent { t, warmup });
    }

    fn request(&mut self, log: RequestLog, loaded: Loaded) {
        self.send(LoadEvent::Request { log: Box::new(log), loaded });
    }

    fn phase(&mut self, log: PhaseLog) -> Pin<Box<dyn Future<Output = ControlFlow<()>> + '_>> {
        self.edges.mark();
        self.send(LoadEvent::Phase(Box::new(log)));
        Box::pin(self.judge())
    }
}

/// Sends the load until it is done or `stop` says so.
///
/// # Errors
/// The load could not begin, or it panicked: what it had sent by then is with the collector.
pub(super) async fn drive(drive: Drive<'_>, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let Drive { driver, plan, server, events, mut progress, edges, marker } = drive;
    host::look_at_threads();
    let (tell, stopped) = tokio::sync::watch::channel(false);
    let mut interrupted = false;
    let mut outlet = Outlet { events, plan, progress: &mut progress, edges, marker };
    outlet.send(LoadEvent::Began { t: Mono::now(), model: server.model.clone() });
    let result = {
        let load = caught(driver.run(server, stopped, &mut outlet));
        tokio::pin!(load);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                // Who was stopped before sends nothing.
                biased;
                () = &mut stop, if !interrupted => {}
                result = &mut load => break result,
            }
            interrupted = true;
            let _ = tell.send(true);
        }
    };
    host::look_at_threads();
    let (client, resent) = (Box::new(driver.client_log()), driver.resent().requests);
    outlet.send(LoadEvent::Ended { client, resent });
    // Nothing is drawn from here on: the report comes.
    drop(progress);
    result
}

/// What panics in it has been told on standard error, and the rest of the run goes on.
async fn caught(load: impl Future<Output = Result<(), LoadError>>) -> Result<(), RunError> {
    Ok(AssertUnwindSafe(load).catch_unwind().await.map_err(|_| RunError::LoadPanicked)??)
}

/// The error of a load of which no measured request succeeded.
pub(super) fn all_failed(load: &LoadTotals) -> Option<RunError> {
    if load.any_ok() {
        return None;
    }
    // By time: a server that ends is told by those whom it left first, not by those who came later.
    let failures = load.failures();
    let failure = failures.first();
    let remedy = match failure.and_then(|f| f.kind) {
        Some(FailureKind::Disconnect) => {
            "the server ended, or cut the connection, while it answered: see its log; -o FILE keeps the report"
        }
        Some(FailureKind::Timeout) => "raise --timeout, or see what keeps the server",
        Some(FailureKind::Memory) => {
            "raise --max-memory, or ask for fewer requests at a time; -o FILE keeps the report"
        }
        Some(FailureKind::ClientLimit) => "the server has not been asked; -o FILE keeps the report",
        Some(FailureKind::Certificate) => "pass it, or its CA's, with --cacert F; --insecure takes any",
        Some(FailureKind::Connect) => "start the server, or correct --endpoint",
        Some(FailureKind::Status) if failure.is_some_and(|f| matches!(f.http_status, Some(401 | 403))) => {
            "set OPENAI_API_KEY, or name the variable that holds the key with --api-key-env"
        }
        Some(FailureKind::Status | FailureKind::ServerError) => {
            "correct what the server names, or see its log; -o FILE keeps the report"
        }
        Some(FailureKind::Malformed | FailureKind::Empty) => {
            "check that --endpoint and --api are an OpenAI-compatible server's; -o FILE keeps the report"
        }
        _ => "see the server's log; -o FILE keeps the report",
    };
    let example = match &failures[..] {
        [] => "none was sent".to_owned(),
        [only] => only.example.clone(),
        [first, later @ ..] => {
            let later: Vec<String> = later.iter().map(|f| format!("{} × {}", f.count, f.example)).collect();
            format!("first {} × {}; then {}", first.count, first.example, later.join(", "))
        }
    };
    Some(RunError::AllFailed { failed: load.failed(), example, remedy })
}
