//! A connected stream socket that returns the kernel's receive time with each read.
//!
//! Owns connecting, and `recvmsg(2)` with its control message. Waits only in `poll_…` and [`Socket::connect`], and
//! never reads a clock. Used by `conn`, `h1` and `timestamping_guard`.
//!
//! A TCP read has the stamp of the last packet that it touched, and the kernel merges small packets that wait to be
//! read. Of several packets that waited together only the last one has its own time. The lag of the read counts how
//! long it waited.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use tokio::io::unix::AsyncFd;

/// Most bytes of one read. One event of a stream has some hundred bytes.
const READ_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct Socket(AsyncFd<OwnedFd>);

/// The result of one read. No bytes: the peer sends no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) bytes: usize,
    /// The kernel's stamp in CLOCK_REALTIME, nanoseconds since 1970.
    pub(super) kernel_ns: Option<u64>,
}

impl Socket {
    pub(super) async fn connect(to: SocketAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        // Stamps are requested before anything can arrive. If the kernel refuses, reads are unstamped and counted as
        // such.
        let _ = stamp_receives(fd.as_fd());
        let begun = rustix::net::connect(&fd, &to);
        // SAFETY: the descriptor is owned by the AsyncFd, so it stays open as long as it is registered.
        let fd = unsafe { AsyncFd::register(fd) }?;
        match begun {
            Ok(()) => {}
            Err(Errno::INPROGRESS) => {
                fd.writable().await?.retain_ready();
                sockopt::socket_error(fd.get_ref())??;
            }
            Err(e) => return Err(e.into()),
        }
        Ok(Self(fd))
    }

    /// Reads at most [`READ_BYTES`] and adds them to `into`.
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<Received>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match recvmsg(self.0.get_ref().as_fd(), into) {
                Ok(received) => {
                    // The read was shorter than the buffer, so the socket is empty. The next packet wakes the task.
                    if received.bytes > 0 && received.bytes < READ_BYTES {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(received));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Reads without waiting.
    pub(super) fn try_recv(&self, into: &mut Vec<u8>) -> io::Result<Received> {
        recvmsg(self.0.get_ref().as_fd(), into)
    }

    /// Sends as much of `bytes` as the kernel takes.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            // A socket takes a request nearly always, so the send comes before the check for readiness.
            match rustix::net::send(self.0.get_ref(), bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => return Poll::Ready(Ok(sent)),
                Err(Errno::AGAIN) => ready!(self.0.poll_write_ready(cx))?.clear_ready(),
                Err(Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// The socket is idle as it should be: nothing has arrived, and the peer has not closed it.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0; 1];
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(self.0.get_ref(), &mut byte, peek), Err(Errno::AGAIN))
    }
}

/// Requests the kernel's stamps.
pub(super) fn stamp_receives(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).expect("an int is small");
    // SAFETY: the value is an int of the given size, and it lives during the call.
    let done = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, (&raw const on).cast(), size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A buffer for control messages, aligned as the kernel writes them. One stamp takes 32 bytes.
const CONTROL_WORDS: usize = 8;

/// Reads once without waiting, and appends to `into`.
pub(super) fn recvmsg(fd: BorrowedFd<'_>, into: &mut Vec<u8>) -> io::Result<Received> {
    into.reserve(READ_BYTES);
    let mut part =
        libc::iovec { iov_base: into.spare_capacity_mut().as_mut_ptr().cast(), iov_len: READ_BYTES };
    let mut control = [0u64; CONTROL_WORDS];
    // SAFETY: an all-zero msghdr is valid and has no buffer.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the buffers have the lengths in the header and outlive the call.
    let read = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let bytes = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written that many bytes into the spare capacity.
    unsafe { into.set_len(into.len() + bytes) };
    // Bytes that the kernel did not write are zero, which is no message.
    Ok(Received { bytes, kernel_ns: stamp_in(bytemuck::bytes_of(&control)) })
}

/// The stamp in the control messages, nanoseconds since 1970. A `cmsghdr` is a length of one word, which includes the
/// header, then level and type. A `timespec` follows. Each message begins at a word.
fn stamp_in(mut control: &[u8]) -> Option<u64> {
    const { assert!(size_of::<libc::cmsghdr>() == 16, "a word and two ints") };
    const { assert!(size_of::<libc::timespec>() == 16, "two words") };
    let word = |at: usize, of: &[u8]| Some(u64::from_ne_bytes(of.get(at..at + 8)?.try_into().ok()?));
    let int = |at: usize, of: &[u8]| Some(i32::from_ne_bytes(of.get(at..at + 4)?.try_into().ok()?));
    loop {
        let length = usize::try_from(word(0, control)?).ok()?;
        if (int(8, control)?, int(12, control)?) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            let (seconds, ns) = (word(16, control)?, word(24, control)?);
            return seconds.checked_mul(1_000_000_000)?.checked_add(ns).filter(|&ns| ns > 0);
        }
        control = control.get(length.max(16).checked_next_multiple_of(8)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_among_control_messages_and_never_beyond_them() {
        let message = |kind: i32, body: &[u64]| {
            let mut bytes = (16 + 8 * body.len() as u64).to_ne_bytes().to_vec();
            bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
            bytes
        };
        let stamp = message(libc::SCM_TIMESTAMPNS, &[1_700_000_000, 5]);
        let mut both = message(99, &[7]);
        both.extend(&stamp);
        assert_eq!(stamp_in(&stamp), Some(1_700_000_000_000_000_005));
        assert_eq!(stamp_in(&both), Some(1_700_000_000_000_000_005));
        assert_eq!(stamp_in(&message(99, &[7])), None);
        assert_eq!(stamp_in(&message(libc::SCM_TIMESTAMPNS, &[0, 0])), None, "no stamp is zero");
        for end in 0..stamp.len() {
            assert_eq!(stamp_in(&stamp[..end]), None, "cut at {end}");
        }
        assert_eq!(stamp_in(&[0; 64]), None, "a length of nothing ends");
        assert_eq!(stamp_in(&[0xff; 64]), None);
    }
}
