//! A guard that keeps the kernel's packet timestamping enabled.
//!
//! Owns a socket that requests timestamps from before the first request until the client ends. The kernel stamps
//! packets only while some socket requests it, and begins some hundred microseconds after the first request. Without
//! the guard, the response of a quick server would have no stamp. Used by `h1`.

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use super::socket;

/// Attempts to see a stamped packet, and the pause between them: 20 ms in all.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_micros(200);

#[derive(Debug)]
pub(super) struct TimestampingGuard {
    _asks: Option<TcpStream>,
}

impl TimestampingGuard {
    /// Returns once packets are stamped, or after the last attempt. In the latter case reads are unstamped and counted.
    pub(super) fn begin() -> Self {
        let asks =
            begin().inspect_err(|e| tracing::debug!(%e, "packets on the loopback are not stamped")).ok();
        Self { _asks: asks }
    }
}

fn begin() -> io::Result<TcpStream> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let asks = TcpStream::connect(listener.local_addr()?)?;
    socket::stamp_receives(asks.as_fd())?;
    let (mut other, _) = listener.accept()?;
    let mut read = Vec::new();
    for _ in 0..TRIES {
        other.write_all(b"?")?;
        let received = socket::recvmsg(asks.as_fd(), &mut read);
        if received.is_ok_and(|received| received.kernel_ns.is_some()) {
            return Ok(asks);
        }
        thread::sleep(PAUSE);
    }
    Err(io::ErrorKind::TimedOut.into())
}
