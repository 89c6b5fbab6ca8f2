//! The terminal that the bar is drawn on.
//!
//! Owns one drawing until it is whole, and hands it to `console`, which waits for no terminal. Never decides what is
//! drawn. Used by `session::progress`.

use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::TermLike;

use crate::console;

/// Where nothing tells: what a terminal had when they were things.
const USUAL: (u16, u16) = (24, 80);

#[derive(Debug, Default)]
pub(super) struct Screen(Mutex<String>);

impl Screen {
    fn drawing(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, text: &str) -> io::Result<()> {
        self.drawing().push_str(text);
        Ok(())
    }

    fn move_cursor(&self, by: usize, to: char) -> io::Result<()> {
        if by > 0 {
            // A string takes all.
            let _ = write!(self.drawing(), "\x1b[{by}{to}");
        }
        Ok(())
    }
}

/// Rows and columns of standard error.
fn size() -> (u16, u16) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills a struct of this kind, or refuses and leaves it.
    let failed = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) } != 0;
    match (size.ws_row, size.ws_col) {
        (0, _) | (_, 0) => USUAL,
        _ if failed => USUAL,
        size => size,
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        size().1
    }

    fn height(&self) -> u16 {
        size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.add(s)?;
        self.add("\n")
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.add(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let drawing = std::mem::take(&mut *self.drawing());
        if !drawing.is_empty() {
            console::draw(&drawing);
        }
        Ok(())
    }
}
