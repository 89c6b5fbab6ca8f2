//! Standard error.
//!
//! Owns every byte that is written there, all of it cleaned and without the secrets that are known: warnings, errors, lines of progress, the developers' log and a
//! panic's message. A write that fails is no failure of the run: who closed standard error, or filled its disk, wants
//! to hear nothing, and for who does not read it nobody waits. Decides nothing of what is said. Called by `main`, `run`, `cli` and `demo`.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clean::clean;
use crate::secrets::Known;

/// For who reads standard error. A load waits meanwhile.
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
    say(&format!("error: {}", own_lines(&error.to_string())));
}

/// A remedy's line is indented. Any other stands in a name or an address that is quoted, and could pass for a message.
fn own_lines(message: &str) -> String {
    let mut lines = message.split('\n');
    let mut shown = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        shown.push_str(if line.starts_with("  ") { "\n" } else { "\\n" });
        shown.push_str(line);
    }
    shown
}

/// From here on none of them is written.
pub fn hide(known: Known) {
    *HIDDEN.write().unwrap_or_else(PoisonError::into_inner) = known;
}

/// Known before anything that could repeat one is asked.
static HIDDEN: RwLock<Known> = RwLock::new(Known::none());

/// In one piece, so that the lines of several threads do not mix.
fn put(text: &str) {
    let known = HIDDEN.read().unwrap_or_else(PoisonError::into_inner).clone();
    let stderr = std::io::stderr();
    if is_taken(stderr.as_fd()) {
        let _ = stderr.lock().write_all(clean(&known.mask(text)).as_bytes());
    }
}

/// Whether somebody reads it, as a pipe may be full for ever. Whoever did not in a second is not waited for again.
fn is_taken(stderr: BorrowedFd<'_>) -> bool {
    static GIVEN_UP: AtomicBool = AtomicBool::new(false);
    let patience = if GIVEN_UP.load(Ordering::Relaxed) { NONE } else { PATIENCE };
    let limit = Instant::now() + patience;
    loop {
        let left = Timespec::try_from(limit.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => {
                let is_taken = !matches!(ready, Ok(0));
                GIVEN_UP.store(!is_taken, Ordering::Relaxed);
                return is_taken;
            }
        }
    }
}

/// A panic's message takes the same way as all else; the backtrace comes where one is asked for.
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

/// For developers: `INFERSCOPE_LOG=debug`.
pub fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("INFERSCOPE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Log).init();
}

/// Where the log's lines go, each in one call.
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
    use super::own_lines;

    #[test]
    fn a_newline_in_a_name_begins_no_line_and_a_remedy_does() {
        let said = own_lines("can't write to a\nerror: forged: no such file\n  give a file");
        assert_eq!(said, "can't write to a\\nerror: forged: no such file\n  give a file");
    }
}
