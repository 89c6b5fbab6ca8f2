//! Bytes to where somebody has to take them: a pipe, a terminal, standard output.
//!
//! Owns the wait for a reader, and its end: as signals are kept back, a reader that takes nothing could keep
//! inferscope for ever. Used by `session::output`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};

use crate::console::at_once;
use crate::signals::Signals;

/// How long a reader that takes nothing is waited for after a signal.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes all of it. A signal ends nothing here, unless the reader takes nothing for a second from then on.
pub(super) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8], signals: Option<&Signals>) -> io::Result<()> {
    let most = at_once(to);
    while !bytes.is_empty() {
        wait_for_room(to, signals)?;
        match write(to, &bytes[..bytes.len().min(most)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn wait_for_room(to: BorrowedFd<'_>, signals: Option<&Signals>) -> io::Result<()> {
    let mut deadline: Option<Instant> = None;
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(to, PollFlags::OUT)];
        if deadline.is_none() {
            fds.extend(signals.map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => continue,
            Ok(0) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"));
            }
            // What can't be waited for is written at once.
            Err(_) => return Ok(()),
            Ok(_) => {}
        }
        // Room, or an end that the write will tell of.
        if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
            return Ok(());
        }
        if signals.is_some_and(Signals::read) {
            deadline = Some(Instant::now() + PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;
    use std::io::Read;

    #[test]
    fn more_than_a_pipe_holds_arrives_whole() {
        let (read, write) = pipe().unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(read).read_to_end(&mut all).unwrap();
            all
        });
        let signals = Signals::block().unwrap();
        write_all(write.as_fd(), &bytes, Some(&signals)).unwrap();
        drop(write);
        assert_eq!(reader.join().unwrap(), bytes);
        signals.restore();
    }

    #[test]
    fn a_signal_ends_the_wait_for_a_reader_that_takes_nothing() {
        let (_read, write) = pipe().unwrap();
        let signals = Signals::block().unwrap();
        // SAFETY: a signal to this thread alone, which keeps it back.
        unsafe { libc::raise(libc::SIGTERM) };
        let error = write_all(write.as_fd(), &[0; 1_000_000], Some(&signals)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(signals.came());
        signals.restore();
    }

    #[test]
    fn a_reader_that_went_away_is_an_error_and_no_signal() {
        let (read, write) = pipe().unwrap();
        drop(read);
        let signals = Signals::block().unwrap();
        let error = write_all(write.as_fd(), b"report", Some(&signals)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        signals.restore();
    }
}
