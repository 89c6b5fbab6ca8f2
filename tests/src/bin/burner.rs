//! The short-lived helper of a test server: burns CPU time and ends.
//!
//! Owns nothing else. Run by `py/spawning_app.py`, once for each request.
//!
//! Usage: `burner MILLISECONDS`

use std::hint::black_box;
use std::process::exit;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn main() {
    let Some(Ok(ms)) = std::env::args().nth(1).map(|arg| arg.parse()) else {
        eprintln!("usage: burner MILLISECONDS");
        exit(2);
    };
    let end = Duration::from_millis(ms);
    // From its first instruction on, so that it uses little more than was asked for.
    while cpu() < end {
        for i in 0..1_000 {
            black_box(i);
        }
    }
}

fn cpu() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32)
}
