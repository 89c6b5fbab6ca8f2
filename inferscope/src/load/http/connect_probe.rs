//! Whether a request opened a connection, and what that took.
//!
//! Owns a layer around reqwest's connector that notes, for the request whose task is running, that a
//! connection was begun and when it was there: reqwest itself does not tell whether it used a kept-alive one, and
//! only a request on such a one may be sent again. Used by `reqwest_client`.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::read_stats::ReadStats;
use crate::clock::Mono;
use crate::load::request::Trail;

tokio::task_local! {
    static BEGUN: Cell<Begun>;
}

/// What a request did about a connection. Where one was begun and then a kept one became free, it was begun,
/// although it was not used: the safe side.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Begun {
    pub(super) any: bool,
    /// From and to, of one that came about.
    opened: Option<(Mono, Mono)>,
}

impl Begun {
    /// Of a request whose turn came at `from`. Reqwest does not tell when it writes: at once, where it has a connection.
    pub(super) fn tell(self, trail: &mut Trail, from: Mono) {
        trail.connect = self.opened.map(|(from, to)| to.since(from));
        trail.written = trail.written.or(Some(self.opened.map_or(from, |(_, to)| to)));
    }
}

/// Runs `request` and tells what it did about a connection.
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

/// The connector, noticed.
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
            // Outside of a request (a connection that the pool opens on its own) there is nobody to tell.
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
