//! The transport through reqwest, for requests that go through a proxy.
//!
//! Owns the client and the decision to send a request a second time. Called through `transport`.
//!
//! A server may close a kept-alive connection just when the next request goes out on it. Reqwest sends the request
//! again only if it had not begun to write it. If it had, this module sends it again once, by the rules of `h1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Request, Response};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::connect_probe::{ConnectProbeLayer, noticed};
use super::error::TransportError;
use super::error_chain;
use super::outgoing::Outgoing;
use super::pool::{LATE_END, MOST_LATE, PROMPT_END};
use super::read_stats::ReadStats;
use crate::clock::Mono;
use crate::load::error::LoadError;
use crate::load::request::SendTimes;
use crate::plan::{Endpoint, HttpPlan};

#[derive(Debug)]
pub(super) struct ReqwestClient {
    /// The client that reuses connections.
    keeping: Client,
    /// The client that opens a connection for each request.
    fresh: Client,
    stats: Arc<ReadStats>,
    /// Responses whose end of body is awaited beside the requests.
    late: Arc<AtomicUsize>,
}

/// A response whose head was read.
#[derive(Debug)]
pub(super) struct ReqwestResponse {
    pub(super) response: Response,
    late: Arc<AtomicUsize>,
}

impl ReqwestResponse {
    /// Reads the rest of the body, by the rules of `pool`. Its end frees the connection for the next request.
    pub(super) async fn finish(self) {
        let Self { mut response, late } = self;
        let mut rest = Box::pin(async move { while let Ok(Some(_)) = response.chunk().await {} });
        if timeout(PROMPT_END, &mut rest).await.is_ok() {
            return;
        }
        if late.fetch_add(1, Ordering::Relaxed) < MOST_LATE {
            tokio::spawn(async move {
                let _ = timeout(LATE_END, rest).await;
                late.fetch_sub(1, Ordering::Relaxed);
            });
        } else {
            late.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl ReqwestClient {
    /// A client for `endpoint`. It uses the environment's proxies, except for a loopback endpoint. `tls` is for an
    /// https endpoint; a plain one needs none and works on machines without certificates.
    pub(super) fn new(
        plan: &HttpPlan,
        endpoint: &Endpoint,
        tls: Option<ClientConfig>,
        connect_timeout: Duration,
        stats: Arc<ReadStats>,
    ) -> Result<Self, LoadError> {
        let client = |builder: ClientBuilder| {
            builder.build().map_err(|e| match &plan.cacert {
                Some(path) => LoadError::Cacert { path: path.clone(), why: error_chain::line(&e) },
                None => LoadError::Client { why: error_chain::line(&e) },
            })
        };
        let builder = || Self::builder(endpoint, tls.clone(), connect_timeout, &stats);
        Ok(Self {
            keeping: client(builder().pool_max_idle_per_host(usize::MAX))?,
            fresh: client(builder().pool_max_idle_per_host(0))?,
            stats,
            late: Arc::default(),
        })
    }

    fn builder(
        endpoint: &Endpoint,
        tls: Option<ClientConfig>,
        connect_timeout: Duration,
        stats: &Arc<ReadStats>,
    ) -> ClientBuilder {
        let mut builder = Client::builder()
            .connect_timeout(connect_timeout)
            .connector_layer(ConnectProbeLayer::new(Arc::clone(stats)))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true);
        builder = match tls {
            Some(tls) => builder.tls_backend_preconfigured(tls),
            None => builder.tls_certs_only([]),
        };
        if endpoint.loopback_port().is_some() {
            builder = builder.no_proxy();
        }
        builder
    }

    pub(super) async fn send(
        &self,
        outgoing: Outgoing<'_>,
        send_times: &mut SendTimes,
    ) -> Result<ReqwestResponse, TransportError> {
        let build = || {
            let mut request = Request::new(outgoing.method.clone(), outgoing.url.clone());
            request.headers_mut().clone_from(&outgoing.headers);
            if !outgoing.body.is_empty() {
                *request.body_mut() = Some(outgoing.body.clone().into());
            }
            request
        };
        let from = Mono::now();
        if !self.stats.keeps_alive() {
            let (result, begun) = noticed(self.fresh.execute(build())).await;
            begun.record(send_times, from);
            return self.answer(result);
        }
        let (result, begun) = noticed(self.keeping.execute(build())).await;
        begun.record(send_times, from);
        let opened = begun.any;
        if !opened {
            self.stats.reuse();
        }
        let sent = match result {
            Err(e) if !opened && error_chain::is_closed_before_response(&e) => {
                self.stats.resend(from);
                tracing::debug!(
                    cause = error_chain::line(&e),
                    "the server had ended the connection; sent again"
                );
                let (result, begun) = noticed(self.fresh.execute(build())).await;
                begun.record(send_times, from);
                match result {
                    // The server is gone. The error of this attempt is the cause.
                    Err(gone) if gone.is_connect() => Err(e),
                    sent => sent,
                }
            }
            result => result,
        };
        self.answer(sent)
    }

    fn answer(&self, sent: reqwest::Result<Response>) -> Result<ReqwestResponse, TransportError> {
        let response = sent.map_err(TransportError::Reqwest)?;
        Ok(ReqwestResponse { response, late: Arc::clone(&self.late) })
    }
}
