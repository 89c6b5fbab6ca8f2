//! Whether a request opened a connection.
//!
//! Owns a layer around reqwest's connector that notes, for the request whose task is running, that a
//! connection was begun: reqwest itself does not tell whether it used a kept-alive one, and only a
//! request on such a one may be sent again. Used by `general`.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::meter::Meter;

tokio::task_local! {
    static BEGUN: Cell<bool>;
}

/// Runs `request` and tells whether a connection was begun for it. Where one was begun and then a kept
/// one became free, the answer is yes, although it was not used: the safe side.
pub(super) async fn noticed<F: Future>(request: F) -> (F::Output, bool) {
    BEGUN
        .scope(Cell::new(false), async {
            let output = request.await;
            (output, BEGUN.with(Cell::get))
        })
        .await
}

#[derive(Debug, Clone)]
pub(super) struct NoticeConnects {
    meter: Arc<Meter>,
}

impl NoticeConnects {
    pub(super) const fn new(meter: Arc<Meter>) -> Self {
        Self { meter }
    }
}

impl<S> tower_layer::Layer<S> for NoticeConnects {
    type Service = Noticing<S>;
    fn layer(&self, inner: S) -> Noticing<S> {
        Noticing { inner, meter: Arc::clone(&self.meter) }
    }
}

/// The connector, noticed.
#[derive(Debug, Clone)]
pub(super) struct Noticing<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<R, S: tower_service::Service<R>> tower_service::Service<R> for Noticing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: R) -> Self::Future {
        self.meter.connection();
        // Outside of a request (a connection that the pool opens on its own) there is nobody to tell.
        let _ = BEGUN.try_with(|begun| begun.set(true));
        self.inner.call(to)
    }
}
