//! Counts its interrupts, two in quick succession too, which a shell would take for one.
//!
//! Writes `ready`, then `INT N` for each SIGINT, as lines into the file that it is given. Ends by itself after a
//! minute. Started by `exec/signals.rs`.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: libc::c_int) {
    SEEN.fetch_add(1, Ordering::SeqCst);
}

fn main() -> io::Result<()> {
    let path = std::env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = File::create(path)?;
    let handler: extern "C" fn(libc::c_int) = count;
    // SAFETY: the handler only adds to an atomic number.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
    writeln!(file, "ready")?;
    let (mut told, started) = (0, Instant::now());
    while started.elapsed() < Duration::from_secs(60) {
        while told < SEEN.load(Ordering::SeqCst) {
            told += 1;
            writeln!(file, "INT {told}")?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
