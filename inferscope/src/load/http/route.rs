//! The way to the endpoint: directly, or through a proxy.
//!
//! Owns the choice between the two transports. Opens no connection. Called by `http` once.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use rustls::pki_types::ServerName;

use super::error_chain;
use super::h1::{H1, Secure};
use super::read_stats::ReadStats;
use super::reqwest_client::ReqwestClient;
use super::tls;
use super::transport::Transport;
use crate::load::error::LoadError;
use crate::plan::{Endpoint, HttpPlan};

/// The transport to the endpoint: HTTP/1, or reqwest if a proxy of the environment applies by reqwest's rules; then its
/// URL.
pub(super) fn transport(
    plan: &HttpPlan,
    endpoint: &Endpoint,
    connect_timeout: Duration,
    stats: &Arc<ReadStats>,
) -> Result<(Transport, Option<String>), LoadError> {
    let url = endpoint.url();
    let client = |why: String| LoadError::Client { why };
    let tls = if url.scheme() == "https" {
        Some(tls::config(plan)?)
    } else {
        // An unusable file is reported although a plain endpoint needs no certificate.
        tls::certificates(plan)?;
        None
    };
    let stats = Arc::clone(stats);
    if let Some(proxy) = proxy(endpoint) {
        let client = ReqwestClient::new(plan, endpoint, tls, connect_timeout, stats)?;
        return Ok((Transport::Reqwest(Box::new(client)), Some(proxy)));
    }
    let address = endpoint.address().ok_or_else(|| client("the endpoint has no host and port".to_owned()))?;
    let tls = tls.map(|mut config| {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(address.0.clone()).map_err(|e| client(error_chain::line(&e)))?;
        Ok(Secure { config: Arc::new(config), name })
    });
    Ok((Transport::H1(H1::new(address, tls.transpose()?, connect_timeout, stats)), None))
}

/// The proxy for requests to `endpoint`, without user and password.
fn proxy(endpoint: &Endpoint) -> Option<String> {
    if endpoint.loopback_port().is_some() {
        return None;
    }
    let uri = endpoint.url().as_str().parse().ok()?;
    let by = Matcher::from_system().intercept(&uri)?;
    let by = by.uri();
    let port = by.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{}{port}", by.scheme_str().unwrap_or("http"), by.host().unwrap_or("?")))
}
