//! A connection's bytes: as they are on the socket, or through TLS.
//!
//! Owns the TLS session beside the socket. A read's stamp is that of the read from the socket that completed the TLS record
//! which it came out of: what is handed out is always all that the last read completed. Never waits but in `poll_…` and
//! [`Channel::secure`]. Used by `conn` and `h1`.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::socket::{Received, Socket};

#[derive(Debug)]
pub(super) struct Channel {
    socket: Socket,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    session: ClientConnection,
    /// Of one read from the socket.
    read: Vec<u8>,
    /// Encrypted, and not taken by the socket yet.
    unsent: Vec<u8>,
}

/// What the bytes of one read came to.
struct Fed {
    /// Plain bytes, added to whatever they were fed into.
    bytes: usize,
    /// The other side has said that it sends no more.
    closed: bool,
}

impl Channel {
    pub(super) const fn plain(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// After the TLS handshake.
    ///
    /// # Errors
    /// The socket's, or rustls's within an [`io::Error`].
    pub(super) async fn secure(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = Box::new(Tls { session, read: Vec::new(), unsent: Vec::new() });
        std::future::poll_fn(|cx| tls.poll_handshake(cx, &socket)).await?;
        Ok(Self { socket, tls: Some(tls) })
    }

    pub(super) const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Adds what comes next to `into`; no bytes: the other side sends no more.
    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<Received>> {
        let Some(tls) = &mut self.tls else { return self.socket.poll_recv(cx, into) };
        loop {
            tls.read.clear();
            let received = ready!(self.socket.poll_recv(cx, &mut tls.read))?;
            if received.bytes == 0 {
                return Poll::Ready(Ok(received));
            }
            let fed = tls.feed(into)?;
            if fed.bytes > 0 || fed.closed {
                return Poll::Ready(Ok(Received { bytes: fed.bytes, ..received }));
            }
            // A part of a record, or one that holds nothing for the reader.
        }
    }

    /// Sends what the connection takes of `bytes`; none: what waits of earlier ones.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else { return self.socket.poll_send(cx, bytes) };
        ready!(tls.poll_flush(cx, &self.socket))?;
        let taken = tls.session.writer().write(bytes)?;
        tls.encrypt()?;
        // What the socket does not take now waits for the next turn, which it wakes for.
        if let Poll::Ready(flushed) = tls.poll_flush(cx, &self.socket) {
            flushed?;
        }
        Poll::Ready(Ok(taken))
    }

    /// Bytes that were taken wait for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.unsent.is_empty() || tls.session.wants_write())
    }

    /// Nothing has come for the reader and the other side has not closed: how an idle connection should be.
    pub(super) fn is_quiet(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return self.socket.is_quiet() };
        // A session's tickets may come at any time, and are nothing.
        loop {
            tls.read.clear();
            match self.socket.try_recv(&mut tls.read) {
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
                Ok(received) if received.bytes == 0 => return false,
                Ok(_) => {}
            }
            match tls.feed(&mut Vec::new()) {
                Ok(Fed { bytes: 0, closed: false }) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

impl Tls {
    fn poll_handshake(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<()>> {
        loop {
            self.encrypt()?;
            let flushed = self.poll_flush(cx, socket)?;
            if !self.session.is_handshaking() {
                return flushed.map(Ok);
            }
            self.read.clear();
            if ready!(socket.poll_recv(cx, &mut self.read))?.bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Err(e) = self.feed(&mut Vec::new()) {
                // The other side may want to know why; whether it does changes nothing.
                let _ = self.encrypt();
                let _ = self.poll_flush(cx, socket);
                return Poll::Ready(Err(e));
            }
        }
    }

    /// Takes in what was read, and adds what it completes to `into`.
    fn feed(&mut self, into: &mut Vec<u8>) -> io::Result<Fed> {
        let mut rest = self.read.as_slice();
        let mut fed = Fed { bytes: 0, closed: false };
        while !rest.is_empty() {
            if self.session.read_tls(&mut rest)? == 0 {
                fed.closed = true;
                break;
            }
            let state = self
                .session
                .process_new_packets()
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let plain = state.plaintext_bytes_to_read();
            if plain > 0 {
                let at = into.len();
                into.resize(at + plain, 0);
                self.session.reader().read_exact(&mut into[at..])?;
                fed.bytes += plain;
            }
            fed.closed |= state.peer_has_closed();
        }
        Ok(fed)
    }

    fn encrypt(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.unsent)?;
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(socket.poll_send(cx, &self.unsent))?;
            self.unsent.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}
