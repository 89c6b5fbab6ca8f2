//! The HTTP/1 transport: one server, over sockets of its own, plain or through TLS.
//!
//! Owns the lookup of the server's addresses, the opening of connections, and the decision to send a request a second
//! time. Called through `transport`.
//!
//! A server may close a kept-alive connection just when the next request goes out on it. An earlier close is seen
//! without sending. If a reused connection ends without a byte of a response, the request is sent again, once, on a
//! fresh connection, as browsers do: some servers go on reading after they have closed their sending side, so nothing
//! shows whether the server has the request. A server that does this repeatedly (`ReadStats::keeps_alive`) gets a fresh
//! connection for each request. On a fresh connection a missing response is a failure.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use reqwest::Url;
use reqwest::header::{HOST, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::channel::Channel;
use super::conn::{Conn, NoAnswer};
use super::error::TransportError;
use super::outgoing::Outgoing;
use super::pool::Pool;
use super::read_stats::{ReadStats, Stamp};
use super::socket::Socket;
use super::timestamping_guard::TimestampingGuard;
use crate::clock::Mono;
use crate::load::limit::{self, Limit};
use crate::load::request::SendTimes;

#[derive(Debug)]
pub(super) struct H1 {
    host: String,
    port: u16,
    connect_timeout: Duration,
    tls: Option<Secure>,
    /// The server's addresses, the last one reached first. Empty before the first lookup.
    addresses: Mutex<Vec<SocketAddr>>,
    pool: Arc<Pool>,
    stats: Arc<ReadStats>,
    _timestamping: TimestampingGuard,
}

/// The TLS settings of an https endpoint.
#[derive(Debug)]
pub(super) struct Secure {
    pub(super) config: Arc<ClientConfig>,
    /// The name that the certificate must be valid for.
    pub(super) name: ServerName<'static>,
}

/// The head of a response.
pub(super) type Head = hyper::http::response::Parts;

#[derive(Debug)]
pub(super) struct H1Response {
    head: Head,
    body: Incoming,
    conn: Conn,
    /// The body was read to its end.
    ended: bool,
    pool: Arc<Pool>,
    stats: Arc<ReadStats>,
}

impl H1 {
    pub(super) fn new(
        (host, port): (String, u16),
        tls: Option<Secure>,
        connect_timeout: Duration,
        stats: Arc<ReadStats>,
    ) -> Self {
        Self {
            host,
            port,
            connect_timeout,
            tls,
            addresses: Mutex::new(Vec::new()),
            pool: Arc::new(Pool::default()),
            stats,
            _timestamping: TimestampingGuard::begin(),
        }
    }

    pub(super) async fn send(
        &self,
        request: Outgoing<'_>,
        send_times: &mut SendTimes,
    ) -> Result<H1Response, TransportError> {
        let mut lost = None;
        if let Some(mut conn) = self.pool.take().filter(|_| self.stats.keeps_alive()) {
            let from = Mono::now();
            self.stats.reuse();
            match conn.send(build(&request)?, &self.stats, send_times).await {
                Ok(response) => return Ok(self.answer(conn, response)),
                Err(NoAnswer { error, lost: true }) => {
                    self.stats.resend(from);
                    tracing::debug!(cause = %error, "the server had ended the connection; sent again");
                    lost = Some(error);
                }
                Err(NoAnswer { error, .. }) => return Err(TransportError::Http(error)),
            }
        }
        let begun = Mono::now();
        let channel = match (self.connect().await, lost) {
            (Ok(channel), _) => channel,
            // The server is gone. The error of this attempt is the cause.
            (Err(_), Some(lost)) => return Err(TransportError::Http(lost)),
            (Err(e), None) => return Err(e),
        };
        let mut conn = Conn::new(channel, &self.stats).await?;
        send_times.connect = Some(Mono::now().since(begun));
        match conn.send(build(&request)?, &self.stats, send_times).await {
            Ok(response) => Ok(self.answer(conn, response)),
            Err(NoAnswer { error, .. }) => Err(TransportError::Http(error)),
        }
    }

    /// Closes the idle connections.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        while self.pool.take().is_some() {}
    }

    fn answer(&self, conn: Conn, response: Response<Incoming>) -> H1Response {
        let (head, body) = response.into_parts();
        let (pool, stats) = (Arc::clone(&self.pool), Arc::clone(&self.stats));
        H1Response { head, body, conn, ended: false, pool, stats }
    }

    /// Tries one address after another.
    async fn connect(&self) -> Result<Channel, TransportError> {
        let until = Instant::now() + self.connect_timeout;
        let addresses = self.addresses(until).await?;
        let mut last = TransportError::ConnectTimeout;
        for (n, address) in addresses.iter().enumerate() {
            // One that does not answer leaves the others their share of the time.
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
            match timeout(share, Socket::connect(*address)).await {
                Ok(Ok(socket)) => {
                    self.stats.connection();
                    self.prefer(*address);
                    return self.secured(socket, until).await;
                }
                // What keeps from the others as well.
                Ok(Err(e)) if Limit::of(&e).is_some() => return Err(TransportError::Connect(e)),
                Ok(Err(e)) if limit::no_port_to(*address, &e) => last = TransportError::Limit(Limit::Ports),
                Ok(Err(e)) => last = TransportError::Connect(e),
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// That address comes first from now on.
    fn prefer(&self, address: SocketAddr) {
        let mut known = self.addresses.lock().expect("nothing panics while it holds this");
        if let Some(at) = known.iter().position(|a| *a == address) {
            known[..=at].rotate_right(1);
        }
    }

    /// The TLS handshake, where there is to be one.
    async fn secured(&self, socket: Socket, until: Instant) -> Result<Channel, TransportError> {
        let Some(Secure { config, name }) = &self.tls else { return Ok(Channel::plain(socket)) };
        let secured = Channel::secure(socket, Arc::clone(config), name.clone());
        let secured = tokio::time::timeout_at(until, secured).await;
        secured.map_err(|_| TransportError::ConnectTimeout)?.map_err(TransportError::Tls)
    }

    async fn addresses(&self, until: Instant) -> Result<Vec<SocketAddr>, TransportError> {
        let known = || self.addresses.lock().expect("nothing panics while it holds this");
        let asked = known().clone();
        if !asked.is_empty() {
            return Ok(asked);
        }
        let found = tokio::time::timeout_at(until, look_up(self.host.clone(), self.port)).await;
        let mut found = found.map_err(|_| TransportError::ConnectTimeout)??;
        if found.is_empty() {
            return Err(TransportError::Connect(io::Error::other("the host has no address")));
        }
        let mut known = known();
        if known.is_empty() {
            known.append(&mut found);
        }
        Ok(known.clone())
    }
}

impl H1Response {
    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    pub(super) const fn stamp(&self) -> Stamp {
        self.conn.stamp()
    }

    pub(super) async fn piece(&mut self) -> Result<Option<(Bytes, Stamp)>, TransportError> {
        let piece = self.conn.piece(&mut self.body, &self.stats).await.map_err(TransportError::Http)?;
        self.ended = piece.is_none();
        Ok(piece)
    }

    pub(super) async fn finish(self: Box<Self>) {
        let Self { body, conn, ended, pool, stats, .. } = *self;
        if ended {
            pool.put(conn);
        } else {
            pool.put_unended(conn, body, &stats).await;
        }
    }
}

/// The addresses of a host. A thread of its own asks, as the system's resolver waits; tokio's would panic where none
/// can be started.
async fn look_up(host: String, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, addresses) = tokio::sync::oneshot::channel();
    let ask = move || drop(sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect)));
    let spawned = std::thread::Builder::new().name("resolver".to_owned()).spawn(ask);
    spawned.map_err(|_| TransportError::Limit(Limit::Threads))?;
    let addresses = addresses.await.unwrap_or_else(|_| Err(io::Error::other("the resolver gave no answer")));
    addresses.map_err(TransportError::Connect)
}

/// Hyper's request, for one sending of it.
fn build(request: &Outgoing<'_>) -> Result<Request<Full<Bytes>>, TransportError> {
    let url = request.url;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let invalid = |e: String| TransportError::Connect(io::Error::new(io::ErrorKind::InvalidInput, e));
    let mut built = Request::new(Full::new(request.body.clone()));
    *built.method_mut() = request.method.clone();
    *built.uri_mut() = path.parse().map_err(|e: hyper::http::uri::InvalidUri| invalid(e.to_string()))?;
    built.headers_mut().clone_from(&request.headers);
    if !built.headers().contains_key(HOST) {
        let host = host(url);
        let host = HeaderValue::try_from(host).map_err(|e| invalid(e.to_string()))?;
        built.headers_mut().insert(HOST, host);
    }
    Ok(built)
}

fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}
