//! Standard error.
//!
//! Owns every byte that is written there: warnings, errors, lines of progress, the developers' log and a panic's
//! message. All of it is cleaned and without known secrets. A failed write is no failure of the run: a user who closed
//! standard error, or filled its disk, wants to hear nothing, and nobody waits for a reader that does not read. Decides
//! nothing about the content. Called by `main`, `session`, `cli` and `demo`.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clean::clean;
use crate::secrets::{KnownSecrets, without_keys};

/// Time limit for a reader of standard error. A load waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
const NONE: Duration = Duration::ZERO;

/// A line, or several.
pub fn say(text: &str) {
    put(&format!("{text}\n"));
}

pub fn warn(message: &str) {
    say(&format!("warning: {}", own_lines(message)));
}

/// The message and, in its further lines, the remedy.
pub fn error(error: &dyn std::fmt::Display) {
    say(&format!("error: {}", own_lines(&without_keys(&error.to_string()))));
}

/// Indents the lines of the remedy. Another line is part of a quoted name or address and must not look like a message.
fn own_lines(message: &str) -> String {
    let mut lines = message.split('\n');
    let mut shown = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        shown.push_str(if line.starts_with("  ") { "\n" } else { "\\n" });
        shown.push_str(line);
    }
    shown
}

/// From here on none of these secrets is written.
pub fn hide(known: KnownSecrets) {
    *HIDDEN.write().unwrap_or_else(PoisonError::into_inner) = known;
}

/// The known secrets, set before anything could repeat one.
static HIDDEN: RwLock<KnownSecrets> = RwLock::new(KnownSecrets::none());

/// Writes in one piece, so that lines of several threads do not mix. A reader that missed its time limit gets no second
/// one.
fn put(text: &str) {
    static GIVEN_UP: AtomicBool = AtomicBool::new(false);
    let known = HIDDEN.read().unwrap_or_else(PoisonError::into_inner).clone();
    let patience = if GIVEN_UP.load(Ordering::Relaxed) { NONE } else { PATIENCE };
    let stderr = std::io::stderr();
    let is_taken = write_all(stderr.as_fd(), clean(&known.mask(text)).as_bytes(), patience);
    GIVEN_UP.store(!is_taken, Ordering::Relaxed);
}

/// Writes cursor movements and clean text. Drops them if they would have to wait.
pub(crate) fn draw(frame: &str) {
    let _ = write_all(std::io::stderr().as_fd(), frame.as_bytes(), NONE);
}

/// The bytes of one write that never waits: a pipe with any room has room for a page, and a terminal for 256 bytes, of
/// which a line end takes two.
pub(crate) fn at_once(to: BorrowedFd<'_>) -> usize {
    if to.is_terminal() { 128 } else { 4096 }
}

/// Somebody took it, or nobody ever will.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8], patience: Duration) -> bool {
    let Some(_turn) = turn(patience) else { return false };
    let most = at_once(to);
    while !bytes.is_empty() {
        if !has_room(to, patience) {
            return false;
        }
        match rustix::io::write(to, &bytes[..bytes.len().min(most)]) {
            Ok(written) if written > 0 => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Ok(_) | Err(_) => return true,
        }
    }
    true
}

/// The turn to write. A terminal that is stopped within a write blocks that writer and nobody else.
fn turn(patience: Duration) -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    let limit = Instant::now() + patience;
    loop {
        match TURN.try_lock() {
            Ok(turn) => return Some(turn),
            Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= limit => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Waits for room, with a limit: a pipe may be full for ever, and a terminal stopped.
fn has_room(stderr: BorrowedFd<'_>, patience: Duration) -> bool {
    let limit = Instant::now() + patience;
    loop {
        let left = Timespec::try_from(limit.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return !matches!(ready, Ok(0)),
        }
    }
}

/// A panic's message goes the same way as everything else. The backtrace is added on request.
pub fn take_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        say(&format!("thread '{name}' {panic}{trace}"));
    }));
}

/// The developers' log: `INFERSCOPE_LOG=debug`.
pub fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("INFERSCOPE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Log).init();
}

/// The destination of the log's lines, each in one call.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        put(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_text_longer_than_the_room_in_a_pipe_is_not_waited_for() {
        let (_unread, pipe) = rustix::pipe::pipe().unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let filled = write_all(pipe.as_fd(), &[b'x'; 15 * 4096], NONE);
            // A page is free, and it takes two.
            let _ = tell.send((filled, write_all(pipe.as_fd(), &[b'y'; 2 * 4096], NONE)));
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok((true, false)));
    }

    #[test]
    fn a_newline_in_a_name_begins_no_line_and_a_remedy_does() {
        let said = own_lines("can't write to a\nerror: forged: no such file\n  give a file");
        assert_eq!(said, "can't write to a\\nerror: forged: no such file\n  give a file");
    }
}
