//! What both transports give: a request on its way, an answer that arrives, what goes wrong in between.
//!
//! Owns the choice of the transport and the vocabulary. `direct` speaks HTTP/1 over its own sockets, with
//! the kernel's stamps; `general` is reqwest, for proxies, with the stamps of the reading.
//! Used by `http`.

use std::io;

use hyper::body::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};

use super::direct::{self, Direct};
use super::general::{self, General};
use super::meter::Stamp;
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
pub(in crate::load) enum WireError {
    #[error(transparent)]
    General(reqwest::Error),
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
    Direct(Direct),
    General(Box<General>),
}

impl Transport {
    /// Sends, and once more where a kept-alive connection turned out to have been closed.
    pub(super) async fn send(&self, request: Outgoing<'_>, trail: &mut Trail) -> Result<Answer, WireError> {
        match self {
            Self::Direct(direct) => direct.send(request, trail).await.map(|a| Answer::Direct(Box::new(a))),
            Self::General(general) => general.send(request, trail).await.map(Answer::General),
        }
    }
}

/// An answer whose head was read.
#[derive(Debug)]
pub(super) enum Answer {
    Direct(Box<direct::Answer>),
    General(general::Answer),
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Direct(answer) => answer.head().status,
            Self::General(answer) => answer.response.status(),
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Direct(answer) => &answer.head().headers,
            Self::General(answer) => answer.response.headers(),
        }
    }

    /// When what was handed out last was received; asked for right after it was handed out.
    pub(super) fn stamp(&self) -> Stamp {
        match self {
            Self::Direct(answer) => answer.stamp(),
            Self::General(_) => Stamp::unstamped(),
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, WireError> {
        match self {
            Self::Direct(answer) => answer.piece().await,
            Self::General(answer) => answer.response.chunk().await.map_err(WireError::General),
        }
    }

    /// Everything that was wanted has come: makes the connection free for the next request.
    pub(super) async fn finish(self) {
        match self {
            Self::Direct(answer) => answer.finish().await,
            Self::General(answer) => answer.finish().await,
        }
    }
}
