//! One HTTP/1 connection: hyper over a socket, and the stamp of each piece that it hands out.
//!
//! Owns the order of steps: hyper gets a turn, its output is handed out, and only then is the socket read again. The
//! last read has therefore completed whatever hyper hands out, and the piece has the stamp of that read. Hyper sees a
//! pipe instead of the socket, and runs in the task that polls the connection: there is no task of its own and no
//! channel between threads. Used by `h1` and `pool`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};

use super::channel::Channel;
use super::error::TransportError;
use super::pipe::Pipe;
use super::read_stats::{ReadStats, Stamp};
use crate::clock::Mono;
use crate::load::budget::{CONNECTION_BYTES, Charge};
use crate::load::request::SendTimes;
use crate::units::Nanos;

/// Longest head of a response.
const MOST_HEAD_BYTES: usize = 128 << 10;
/// Memory of a TLS session with one record in each direction.
const TLS_BYTES: u64 = 48 << 10;
/// Reads before other requests get a turn. Without this limit a fast server would keep the thread.
const READS_AT_ONCE: u32 = 8;

/// Hyper's waker: it requests another turn.
#[derive(Debug)]
struct WakeFlag(AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Conn {
    channel: Channel,
    /// The part of the budget that a head under way takes.
    charge: Charge,
    pipe: Pipe,
    /// `None`: hyper has ended the connection, and every waiting caller has the error.
    hyper: Option<http1::Connection<Pipe, Full<Bytes>>>,
    sender: http1::SendRequest<Full<Bytes>>,
    again: Arc<WakeFlag>,
    waker: Waker,
    /// The stamp of the last read.
    stamp: Stamp,
    /// Reads since the socket was last empty.
    reads: u32,
    request: Exchange,
    /// Writing has failed. The bytes that can still be read come first, then this error.
    write_error: Option<io::Error>,
}

/// The state of the request under way.
#[derive(Debug, Default)]
struct Exchange {
    /// When its first byte was sent.
    written: Option<Mono>,
    write_took: Option<Nanos>,
    /// The first byte of a response has arrived.
    answered: bool,
    /// The connection ended without a response.
    lost: bool,
    /// The head of the response is complete.
    has_head: bool,
    /// Bytes before the head was complete. Hyper keeps them in a buffer that grows by doubling.
    head_bytes: usize,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) error: hyper::Error,
    /// The connection ended before the first byte of a response: what a kept-alive connection looks like after the
    /// server has closed it.
    pub(super) lost: bool,
}

impl Conn {
    pub(super) async fn new(channel: Channel, stats: &ReadStats) -> Result<Self, TransportError> {
        let pipe = Pipe::default();
        let tls = if channel.is_secure() { TLS_BYTES } else { 0 };
        let charge = stats.budget().charge(CONNECTION_BYTES + tls).map_err(TransportError::NoRoom)?;
        let hyper = http1::Builder::new().max_buf_size(MOST_HEAD_BYTES).handshake(pipe.clone()).await;
        let (sender, hyper) = hyper.map_err(TransportError::Http)?;
        let again = Arc::new(WakeFlag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&again));
        Ok(Self {
            channel,
            charge,
            pipe,
            hyper: Some(hyper),
            sender,
            again,
            waker,
            stamp: Stamp::unstamped(),
            reads: 0,
            request: Exchange::default(),
            write_error: None,
        })
    }

    /// The stamp of the read that completed the last piece handed out.
    pub(super) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Sends a request and reads the head of its response.
    ///
    /// # Errors
    /// Hyper's error, and whether the connection ended without a byte of a response.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        stats: &ReadStats,
        send_times: &mut SendTimes,
    ) -> Result<Response<Incoming>, NoAnswer> {
        self.request = Exchange::default();
        let mut response = std::pin::pin!(self.sender.send_request(request));
        self.again.wake_by_ref();
        let answer = std::future::poll_fn(|cx| {
            let polled = self.poll(cx, stats, &mut |own| response.as_mut().poll(own));
            // The caller may give up after any turn.
            if send_times.written.is_none() {
                (send_times.written, send_times.write_took) = (self.request.written, self.request.write_took);
            }
            polled
        });
        let answer = answer.await;
        self.request.has_head = true;
        answer.map_err(|error| NoAnswer { error, lost: self.request.lost })
    }

    /// The next piece of `body`, which belongs to this connection, with the stamp of the read that completed it. `None`: the
    /// body has ended.
    pub(super) async fn piece(
        &mut self,
        body: &mut Incoming,
        stats: &ReadStats,
    ) -> hyper::Result<Option<(Bytes, Stamp)>> {
        loop {
            let frame = std::future::poll_fn(|cx| {
                self.poll(cx, stats, &mut |own| Pin::new(&mut *body).poll_frame(own))
            });
            match frame.await.transpose()?.map(Frame::into_data) {
                // Nothing was read since this piece was completed.
                Some(Ok(data)) => return Ok(Some((data, self.stamp))),
                // Trailers.
                Some(Err(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Finishes after a body was read to its end: the connection can take another request.
    pub(super) fn settle(&mut self) -> bool {
        self.again.wake_by_ref();
        while self.again.0.swap(false, Ordering::Relaxed) {
            self.turn();
        }
        let bytes = self.pipe.bytes();
        let unspoilt = bytes.is_taken() && bytes.outbox.is_empty() && !bytes.eof && bytes.error.is_none();
        unspoilt && self.write_error.is_none() && self.hyper.is_some() && self.sender.is_ready()
    }

    /// An idle connection is still usable: the peer has neither closed it nor sent anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.channel.is_quiet()
    }

    fn turn(&mut self) {
        let ended = self
            .hyper
            .as_mut()
            .is_some_and(|hyper| Pin::new(hyper).poll(&mut Context::from_waker(&self.waker)).is_ready());
        if ended {
            // Dropping hyper drops its ends of all channels, so nobody waits for what will not come.
            self.hyper = None;
        }
    }

    /// Gives hyper turns and calls `look` after each one, until `look` returns something. Sends and reads in between.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        stats: &ReadStats,
        look: &mut dyn FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        loop {
            if self.again.0.swap(false, Ordering::Relaxed) {
                self.turn();
                if let Poll::Ready(found) = look(&mut Context::from_waker(&self.waker)) {
                    // More may be buffered.
                    self.again.wake_by_ref();
                    return Poll::Ready(found);
                }
            }
            if self.reads >= READS_AT_ONCE {
                self.reads = 0;
                self.again.wake_by_ref();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (sent, read) = (self.send_on(cx), self.read_on(cx, stats));
            if sent || read {
                self.again.wake_by_ref();
            } else if !self.again.0.load(Ordering::Relaxed) {
                self.reads = 0;
                return Poll::Pending;
            }
        }
    }

    /// Sends what waits. Returns whether anything changed.
    fn send_on(&mut self, cx: &mut Context<'_>) -> bool {
        let mut bytes = self.pipe.bytes();
        let outbox = &mut bytes.outbox;
        if outbox.is_empty() && !self.channel.has_unsent() {
            return false;
        }
        // This skips a clock reading where the socket takes nothing yet.
        let now = self.request.written.is_none().then(Mono::now);
        match self.channel.poll_send(cx, outbox) {
            Poll::Ready(Ok(sent)) => {
                if let Some(now) = now {
                    self.request.written = Some(now);
                    self.request.write_took = Some(Mono::now().since(now));
                }
                outbox.drain(..sent);
                sent > 0
            }
            Poll::Ready(Err(e)) => {
                // A response may be there nevertheless: a server may refuse a request without reading all of it.
                outbox.clear();
                self.write_error.get_or_insert(e);
                true
            }
            Poll::Pending => false,
        }
    }

    /// Reads once, if hyper has taken everything that was read before. Returns whether anything changed.
    fn read_on(&mut self, cx: &mut Context<'_>, stats: &ReadStats) -> bool {
        let mut bytes = self.pipe.bytes();
        self.reads += 1;
        if !bytes.is_taken() {
            // A turn ended before hyper had taken all of it.
            return true;
        }
        if bytes.eof || bytes.error.is_some() {
            return false;
        }
        let error = match self.channel.poll_recv(cx, &mut bytes.inbox) {
            Poll::Pending => return false,
            Poll::Ready(Ok(received)) if received.bytes > 0 => {
                self.stamp = stats.stamp(received.kernel_ns);
                self.request.answered = true;
                if self.request.has_head {
                    return true;
                }
                self.request.head_bytes += received.bytes;
                match self
                    .charge
                    .holds(CONNECTION_BYTES + 2 * self.request.head_bytes.min(MOST_HEAD_BYTES) as u64)
                {
                    Ok(()) => return true,
                    Err(no_room) => Some(io::Error::other(no_room)),
                }
            }
            Poll::Ready(Ok(_)) => self.write_error.take(),
            Poll::Ready(Err(e)) => Some(e),
        };
        self.stamp = Stamp::unstamped();
        self.request.lost = !self.request.answered;
        bytes.eof = true;
        bytes.error = error;
        true
    }
}
