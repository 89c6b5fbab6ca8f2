//! What both transports give: a request on its way, an answer that arrives, what goes wrong in between.
//!
//! Owns the choice of the transport and the vocabulary. `h1` speaks HTTP/1 over its own sockets, with
//! the kernel's stamps; `reqwest_client` is reqwest, for proxies, with the stamps of the reading.
//! Used by `http`.

use std::io;

use hyper::body::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};

use super::h1::{self, H1};
use super::read_stats::Stamp;
use super::reqwest_client::{self, ReqwestClient};
use crate::load::budget::NoRoom;
use crate::load::limit::Limit;
use crate::load::request::Trail;

/// A request in the terms of both.
#[derive(Debug, Clone)]
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What went wrong on the connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::load) enum TransportError {
    #[error(transparent)]
    Reqwest(reqwest::Error),
    /// No connection came about.
    #[error(transparent)]
    Connect(io::Error),
    /// TLS did not come about.
    #[error(transparent)]
    Tls(io::Error),
    /// Nor can one, by a limit of this machine's.
    #[error(transparent)]
    Limit(Limit),
    #[error(transparent)]
    NoRoom(NoRoom),
    #[error("no connection within the time for it")]
    ConnectTimeout,
    #[error(transparent)]
    Http(hyper::Error),
}

#[derive(Debug)]
pub(super) enum Transport {
    H1(H1),
    Reqwest(Box<ReqwestClient>),
}

impl Transport {
    /// Sends, and once more where a kept-alive connection turned out to have been closed.
    pub(super) async fn send(
        &self,
        request: Outgoing<'_>,
        trail: &mut Trail,
    ) -> Result<TransportResponse, TransportError> {
        match self {
            Self::H1(h1) => h1.send(request, trail).await.map(|a| TransportResponse::H1(Box::new(a))),
            Self::Reqwest(reqwest) => reqwest.send(request, trail).await.map(TransportResponse::Reqwest),
        }
    }
}

/// An answer whose head was read.
#[derive(Debug)]
pub(super) enum TransportResponse {
    H1(Box<h1::H1Response>),
    Reqwest(reqwest_client::ReqwestResponse),
}

impl TransportResponse {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::H1(answer) => answer.head().status,
            Self::Reqwest(answer) => answer.response.status(),
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::H1(answer) => &answer.head().headers,
            Self::Reqwest(answer) => answer.response.headers(),
        }
    }

    /// When what was handed out last was received; asked for right after it was handed out.
    pub(super) fn stamp(&self) -> Stamp {
        match self {
            Self::H1(answer) => answer.stamp(),
            Self::Reqwest(_) => Stamp::unstamped(),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, TransportError> {
        match self {
            Self::H1(answer) => answer.piece().await,
            Self::Reqwest(answer) => answer.response.chunk().await.map_err(TransportError::Reqwest),
        }
    }

    /// Everything that was wanted has come: makes the connection free for the next request.
    pub(super) async fn finish(self) {
        match self {
            Self::H1(answer) => answer.finish().await,
            Self::Reqwest(answer) => answer.finish().await,
        }
    }
}
