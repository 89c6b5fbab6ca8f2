//! Whether a request opened a connection, and how long that took.
//!
//! Owns a layer around reqwest's connector. The layer notes, for the request of the running task, when a connection was
//! begun and when it was open. Reqwest does not report whether it used a kept-alive connection, and only a request on
//! such a connection may be sent again. Used by `reqwest_client`.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::read_stats::ReadStats;
use crate::clock::Mono;
use crate::load::request::SendTimes;

tokio::task_local! {
    static BEGUN: Cell<Begun>;
}

/// The connection activity of one request. A request that began a connection and then used a kept one counts as having
/// begun one: this is the safe side.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Begun {
    pub(super) any: bool,
    /// Begin and end of a successful connection attempt.
    opened: Option<(Mono, Mono)>,
}

impl Begun {
    /// Fills in `send_times`. Reqwest does not report when it writes: with an open connection it writes at once, that is at
    /// `from`.
    pub(super) fn record(self, send_times: &mut SendTimes, from: Mono) {
        send_times.connect = self.opened.map(|(from, to)| to.since(from));
        send_times.written = send_times.written.or(Some(self.opened.map_or(from, |(_, to)| to)));
    }
}

/// Runs `request` and returns what it did about a connection.
pub(super) async fn noticed<F: Future>(request: F) -> (F::Output, Begun) {
    BEGUN
        .scope(Cell::default(), async {
            let output = request.await;
            (output, BEGUN.with(Cell::get))
        })
        .await
}

#[derive(Debug, Clone)]
pub(super) struct ConnectProbeLayer {
    stats: Arc<ReadStats>,
}

impl ConnectProbeLayer {
    pub(super) const fn new(stats: Arc<ReadStats>) -> Self {
        Self { stats }
    }
}

impl<S> tower_layer::Layer<S> for ConnectProbeLayer {
    type Service = ConnectProbe<S>;
    fn layer(&self, inner: S) -> ConnectProbe<S> {
        ConnectProbe { inner, stats: Arc::clone(&self.stats) }
    }
}

/// The connector with the probe around it.
#[derive(Debug, Clone)]
pub(super) struct ConnectProbe<S> {
    inner: S,
    stats: Arc<ReadStats>,
}

impl<R, S: tower_service::Service<R>> tower_service::Service<R> for ConnectProbe<S>
where
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: R) -> Self::Future {
        self.stats.connection();
        let note = |opened| {
            // The pool may open a connection outside of a request. Nobody waits for that one.
            let _ = BEGUN.try_with(|begun| begun.set(Begun { any: true, opened }));
        };
        note(None);
        let from = Mono::now();
        let connecting = self.inner.call(to);
        Box::pin(async move {
            let connected = connecting.await;
            if connected.is_ok() {
                note(Some((from, Mono::now())));
            }
            connected
        })
    }
}
