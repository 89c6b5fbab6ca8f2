//! The load within a run: driven to its end, and judged as a whole.
//!
//! Owns the progress of the requests, the way from a stop signal to the driver, and the verdict that nothing
//! came of it. Never sends anything itself (`load` does). Called by `run` and `run::exec`.

use super::RunError;
use super::output::Progress;
use crate::event::{FailureKind, LoadLog, RequestLog};
use crate::load::{Driver, Resent};
use crate::report::model::{Level, Validity};
use crate::units::Nanos;

/// Below this, sending twice changes no latency that anybody acts on.
const RESENT_MATTERS: Nanos = Nanos::from_millis(1);

pub(super) fn said_of(resent: Resent) -> Option<Validity> {
    let message = format!(
        "{} requests met a connection that the server had just closed and were sent once more: that is in their \
         times, {:.2} ms at most",
        resent.requests,
        resent.longest.as_secs_f64() * 1e3
    );
    let level = if resent.longest < RESENT_MATTERS { Level::Ok } else { Level::Warn };
    (resent.requests > 0).then(|| Validity { level, code: "requests_resent".to_owned(), message })
}

/// Sends the load until it is done or `stop` says so; whether it was stopped.
pub(super) async fn drive(
    driver: &Driver,
    model: Option<&str>,
    mut progress: Progress,
    stop: impl Future<Output = ()>,
) -> (LoadLog, bool) {
    let (tell, stopped) = tokio::sync::watch::channel(false);
    let mut on_request = |request: &RequestLog| progress.advance(request);
    let mut interrupted = false;
    let log = {
        let load = driver.run(model, stopped, &mut on_request);
        tokio::pin!(load);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                log = &mut load => break log,
                () = &mut stop, if !interrupted => {}
            }
            interrupted = true;
            let _ = tell.send(true);
        }
    };
    progress.end();
    (log, interrupted)
}

/// The error of a load of which no measured request succeeded.
pub(super) fn all_failed(log: &LoadLog) -> Option<RunError> {
    let measured = || log.requests.iter().filter(|r| !r.warmup);
    if measured().any(|r| r.failure.is_none()) {
        return None;
    }
    let of = |r: &RequestLog| r.failure.clone();
    let failure = measured().find_map(of).or_else(|| log.requests.iter().find_map(of));
    let remedy = match failure.as_ref().map(|f| f.kind) {
        Some(FailureKind::Timeout) => "raise --timeout, or see what keeps the server",
        Some(FailureKind::Connect) => "start the server, or correct --endpoint",
        Some(FailureKind::Status | FailureKind::ServerError) => {
            "correct what the server names, or see its log; -o FILE keeps the report"
        }
        Some(FailureKind::Malformed | FailureKind::Empty) => {
            "check that --endpoint and --api are an OpenAI-compatible server's; -o FILE keeps the report"
        }
        _ => "see the server's log; -o FILE keeps the report",
    };
    let example = failure.map_or_else(|| "none was sent".to_owned(), |f| f.message);
    Some(RunError::AllFailed { failed: measured().count(), example, remedy })
}
