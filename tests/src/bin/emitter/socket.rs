//! The system calls that std and rustix have no safe form of.
//!
//! Owns receiving with the kernel's time, resets, and signals as a descriptor. Called by `server`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use inferscope_tests::clock::monotonic_ns;
use rustix::time::{ClockId, clock_gettime};

/// Bytes that were received, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) bytes: usize,
    /// When the kernel received the last of them, as CLOCK_MONOTONIC.
    pub(crate) arrived_ns: Option<u64>,
    /// When the call returned.
    pub(crate) read_ns: u64,
}

/// Asks for receive times; sockets that are accepted from a listener have what it has.
pub(crate) fn ask_for_times(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_TIMESTAMPNS, &1_i32)
}

/// Closing the socket will reset the connection.
pub(crate) fn reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
}

fn set<T>(socket: BorrowedFd<'_>, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let value: *const T = value;
    // SAFETY: the value is as long as is said, and both of the options take it in that form.
    let failed =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), length) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for one control message with a `timespec`, aligned as such.
#[repr(align(8))]
struct Control([u8; 64]);

pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    // SAFETY: a msghdr of zeros names no memory.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: the message names the buffer and the control room, both writable and as long as it says.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let read_ns = monotonic_ns();
    let bytes = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    let arrived_ns = stamp(&message).map(|real_ns| to_monotonic(real_ns).min(read_ns));
    Ok(Received { bytes, arrived_ns, read_ns })
}

/// The receive time in CLOCK_REALTIME, where there is one.
fn stamp(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: a message that recvmsg filled.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so within the control room.
        let read = unsafe { &*header };
        let (level, kind) = (read.cmsg_level, read.cmsg_type);
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: the data of a header within the control room.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: the kernel puts a timespec there; it need not be aligned.
            let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
            let seconds = u64::try_from(time.tv_sec).ok()?;
            return Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).ok()?);
        }
        // SAFETY: the header before it is one of this message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// By both clocks, read as close together as can be had: they are slewed alike, and only a step of the real time
/// between the receipt and now would show.
fn to_monotonic(real_ns: u64) -> u64 {
    let both = || {
        let before = monotonic_ns();
        let real = clock_gettime(ClockId::Realtime);
        let apart = monotonic_ns() - before;
        let now_ns = real.tv_sec.unsigned_abs() * 1_000_000_000 + real.tv_nsec.unsigned_abs();
        (apart, before + apart / 2, now_ns)
    };
    let mut best = both();
    // Put aside in between: again.
    for _ in 0..8 {
        if best.0 < 2_000 {
            break;
        }
        best = best.min(both());
    }
    (best.1 + real_ns).saturating_sub(best.2)
}

/// Keeps SIGTERM and SIGINT back and gives the descriptor that tells of them.
pub(crate) fn ending_signals() -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: a pointer to a set, which this call fills.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by sigemptyset.
    let mut set = unsafe { set.assume_init() };
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the set is initialised and the signal exists.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: a valid set; what was kept back before is not asked for.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a valid set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn bytes_have_the_time_at_which_the_kernel_received_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ask_for_times(listener.as_fd()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The kernel switches its stamps on a moment after they are asked for.
        for _ in 0..20 {
            let before = monotonic_ns();
            client.write_all(b"abc").unwrap();
            let after = monotonic_ns();
            std::thread::sleep(Duration::from_millis(20));
            let received = receive(server.as_fd(), &mut [0; 8]).unwrap();
            assert_eq!(received.bytes, 3);
            assert!(received.read_ns >= after);
            let Some(arrived) = received.arrived_ns else { continue };
            // On loopback the receipt is within the write; 20 µs for two clocks that are not read at once.
            assert!(arrived + 20_000 >= before && arrived <= after + 20_000, "{before} {arrived} {after}");
            return;
        }
        panic!("the kernel told no receive time");
    }
}
