//! The general transport: reqwest, for TLS, proxies and HTTP/2.
//!
//! Owns the client and whether a request is sent a second time. Called through `wire`.
//!
//! A server may close a kept-alive connection just when the next request goes out on it; reqwest sends the
//! request again by itself only where it had not begun to write it. Where it had, this module does it once, by the
//! rules of `direct`.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Request, Response};

use super::connects::{NoticeConnects, noticed};
use super::meter::Meter;
use super::wire::{Outgoing, WireError};
use crate::clock::Mono;
use crate::load::cause;
use crate::load::error::LoadError;
use crate::load::request::Trail;
use crate::plan::{Endpoint, HttpPlan};

/// How long the end of a complete answer's body is waited for, so that its connection can be used again.
const DRAIN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct General {
    /// Uses connections again.
    keeping: Client,
    /// Opens one for each request.
    fresh: Client,
    meter: Arc<Meter>,
}

impl General {
    /// A client for `endpoint`. Proxies of the environment hold, but not for a loopback endpoint. A plain
    /// http endpoint gets no CA certificates but `--cacert`: it needs none, and machines without any work.
    pub(super) fn new(
        plan: &HttpPlan,
        endpoint: &Endpoint,
        certificates: Vec<reqwest::Certificate>,
        connect_timeout: Duration,
        meter: Arc<Meter>,
    ) -> Result<Self, LoadError> {
        let client = |builder: ClientBuilder| {
            builder.build().map_err(|e| match &plan.cacert {
                Some(path) => LoadError::Cacert { path: path.clone(), why: cause::line(&e) },
                None => LoadError::Client { why: cause::line(&e) },
            })
        };
        let builder = || Self::builder(plan, endpoint, &certificates, connect_timeout, &meter);
        Ok(Self {
            keeping: client(builder().pool_max_idle_per_host(usize::MAX))?,
            fresh: client(builder().pool_max_idle_per_host(0))?,
            meter,
        })
    }

    fn builder(
        plan: &HttpPlan,
        endpoint: &Endpoint,
        certificates: &[reqwest::Certificate],
        connect_timeout: Duration,
        meter: &Arc<Meter>,
    ) -> ClientBuilder {
        let mut builder = Client::builder()
            .connect_timeout(connect_timeout)
            .connector_layer(NoticeConnects::new(Arc::clone(meter)))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .tls_danger_accept_invalid_certs(plan.insecure);
        builder = if endpoint.url().scheme() == "http" {
            builder.tls_certs_only(certificates.iter().cloned())
        } else {
            builder.tls_certs_merge(certificates.iter().cloned())
        };
        if endpoint.loopback_port().is_some() {
            builder = builder.no_proxy();
        }
        builder
    }

    pub(super) async fn send(
        &self,
        outgoing: Outgoing<'_>,
        trail: &mut Trail,
    ) -> Result<Response, WireError> {
        let build = || {
            let mut request = Request::new(outgoing.method.clone(), outgoing.url.clone());
            request.headers_mut().clone_from(&outgoing.headers);
            if !outgoing.body.is_empty() {
                *request.body_mut() = Some(outgoing.body.clone().into());
            }
            request
        };
        let from = Mono::now();
        if !self.meter.keeps_alive() {
            let (result, begun) = noticed(self.fresh.execute(build())).await;
            begun.tell(trail, from);
            return result.map_err(WireError::General);
        }
        let (result, begun) = noticed(self.keeping.execute(build())).await;
        begun.tell(trail, from);
        let opened = begun.any;
        if !opened {
            self.meter.reuse();
        }
        let sent = match result {
            Err(e) if !opened && cause::is_closed_before_response(&e) => {
                self.meter.resend(from);
                tracing::debug!(cause = cause::line(&e), "the server had ended the connection; sent again");
                let (result, begun) = noticed(self.fresh.execute(build())).await;
                begun.tell(trail, from);
                match result {
                    // A server that is gone: how it went is the cause.
                    Err(gone) if gone.is_connect() => Err(e),
                    sent => sent,
                }
            }
            result => result,
        };
        sent.map_err(WireError::General)
    }
}

/// Reads the rest of the body: its end makes the connection free for the next request.
pub(super) async fn finish(mut response: Response) {
    let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
    let _ = tokio::time::timeout(DRAIN, rest).await;
}
