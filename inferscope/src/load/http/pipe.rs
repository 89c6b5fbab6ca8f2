//! The two ends of a connection's bytes: hyper's and the socket's.
//!
//! Owns the bytes that were read and not yet parsed, and the bytes to send. Does no I/O and wakes nobody: `conn` fills
//! and empties one end and gives hyper, which holds the other end, a turn after each change.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Most bytes that wait to be sent. Hyper holds back the rest.
const OUTBOX_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) inbox: Vec<u8>,
    /// How much of the inbox hyper has taken.
    taken: usize,
    /// The inbox ends the stream.
    pub(super) eof: bool,
    /// This error follows the inbox.
    pub(super) error: Option<io::Error>,
    pub(super) outbox: Vec<u8>,
}

impl Bytes {
    /// Hyper has taken everything that was read.
    pub(super) const fn is_taken(&self) -> bool {
        self.taken == self.inbox.len()
    }
}

/// One of the two ends. Both share the same bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipe(Arc<Mutex<Bytes>>);

impl Pipe {
    pub(super) fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().expect("nothing panics while it holds this")
    }
}

impl Read for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = self.bytes();
        let bytes = &mut *bytes;
        let unread = &bytes.inbox[bytes.taken..];
        if unread.is_empty() {
            return match bytes.error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None if bytes.eof => Poll::Ready(Ok(())),
                None => Poll::Pending,
            };
        }
        let fits = unread.len().min(to.remaining());
        to.put_slice(&unread[..fits]);
        bytes.taken += fits;
        if bytes.is_taken() {
            bytes.inbox.clear();
            bytes.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let outbox = &mut self.bytes().outbox;
        let fits = from.len().min(OUTBOX_BYTES.saturating_sub(outbox.len()));
        outbox.extend_from_slice(&from[..fits]);
        if fits == 0 && !from.is_empty() { Poll::Pending } else { Poll::Ready(Ok(fits)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes().outbox.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The socket is closed as a whole when its connection is dropped.
        Poll::Ready(Ok(()))
    }
}
