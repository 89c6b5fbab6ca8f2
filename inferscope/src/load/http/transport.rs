//! The transport of a client, one of two, and its responses.
//!
//! Owns the dispatch to one of the two. `h1` speaks HTTP/1 over its own sockets with the kernel's
//! stamps. `reqwest_client` goes through a proxy, with stamps of the time of reading. Used by `http`.

use hyper::body::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::error::TransportError;
use super::h1::{self, H1};
use super::outgoing::Outgoing;
use super::read_stats::Stamp;
use super::reqwest_client::{self, ReqwestClient};
use crate::load::request::SendTimes;

#[derive(Debug)]
pub(super) enum Transport {
    H1(H1),
    Reqwest(Box<ReqwestClient>),
}

impl Transport {
    /// Sends the request, and sends it again if a kept-alive connection turns out to be closed.
    pub(super) async fn send(
        &self,
        request: Outgoing<'_>,
        send_times: &mut SendTimes,
    ) -> Result<TransportResponse, TransportError> {
        match self {
            Self::H1(h1) => h1.send(request, send_times).await.map(|a| TransportResponse::H1(Box::new(a))),
            Self::Reqwest(reqwest) => reqwest.send(request, send_times).await.map(TransportResponse::Reqwest),
        }
    }
}

/// A response whose head was read.
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

    /// The receive time of the head. Call it before the first piece.
    pub(super) fn head_stamp(&self) -> Stamp {
        match self {
            Self::H1(answer) => answer.stamp(),
            Self::Reqwest(_) => Stamp::unstamped(),
        }
    }

    /// The next piece of the body and its receive time. `None`: the body has ended.
    pub(super) async fn piece(&mut self) -> Result<Option<(Bytes, Stamp)>, TransportError> {
        match self {
            Self::H1(answer) => answer.piece().await,
            Self::Reqwest(answer) => {
                let piece = answer.response.chunk().await.map_err(TransportError::Reqwest)?;
                Ok(piece.map(|bytes| (bytes, Stamp::unstamped())))
            }
        }
    }

    /// Ends a complete response: frees the connection for the next request.
    pub(super) async fn finish(self) {
        match self {
            Self::H1(answer) => answer.finish().await,
            Self::Reqwest(answer) => answer.finish().await,
        }
    }
}
