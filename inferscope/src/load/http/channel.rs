//! The bytes of a connection: as they are on the socket, or through TLS.
//!
//! Owns the TLS session beside the socket. A read has the stamp of the socket read that completed its TLS record. One
//! read hands out everything that the last socket read completed. Waits only in `poll_…` and [`Channel::secure`]. Used
//! by `conn` and `h1`.

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
    /// The stamp of one read from the socket.
    read: Vec<u8>,
    /// Encrypted bytes that the socket has not taken yet.
    unsent: Vec<u8>,
}

/// The result of one read.
struct Fed {
    /// Plain bytes, appended to the caller's buffer.
    bytes: usize,
    /// The peer has closed its sending side.
    closed: bool,
}

impl Channel {
    pub(super) const fn plain(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// A channel whose TLS handshake is complete.
    ///
    /// # Errors
    /// An error of the socket, or of rustls inside an [`io::Error`].
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

    /// Appends the next bytes to `into`. No bytes: the peer sends no more.
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
            // This was a part of a record, or a record without data for the reader.
        }
    }

    /// Sends as much of `bytes` as the connection takes; none while earlier bytes wait.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else { return self.socket.poll_send(cx, bytes) };
        ready!(tls.poll_flush(cx, &self.socket))?;
        let taken = tls.session.writer().write(bytes)?;
        tls.encrypt()?;
        // The rest waits for the next turn. The socket wakes the task for it.
        if let Poll::Ready(flushed) = tls.poll_flush(cx, &self.socket) {
            flushed?;
        }
        Poll::Ready(Ok(taken))
    }

    /// Accepted bytes still wait for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.unsent.is_empty() || tls.session.wants_write())
    }

    /// The connection is idle as it should be: nothing has arrived, and the peer has not closed it.
    pub(super) fn is_quiet(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return self.socket.is_quiet() };
        // Session tickets may arrive at any time. They carry no data.
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
                // The peer may want the reason. A failure to send it changes nothing.
                let _ = self.encrypt();
                let _ = self.poll_flush(cx, socket);
                return Poll::Ready(Err(e));
            }
        }
    }

    /// Processes what was read, and appends what it completes to `into`.
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
