//! A request on its way to a transport.

use hyper::body::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

/// A request, independent of the transport.
#[derive(Debug, Clone)]
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}
