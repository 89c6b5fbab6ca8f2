//! Processes of two threads each, killed one after another: on several CPUs both threads end at once.
//!
//! Usage: `killstorm CHILDREN`. Waits for each child; ends by itself. Started by `exec/started.rs`.

use std::io;
use std::time::Duration;

/// A child that nobody kills.
const LIFETIME: Duration = Duration::from_secs(20);

fn main() -> io::Result<()> {
    let children: u32 =
        std::env::args().nth(1).and_then(|n| n.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    for _ in 0..children {
        let (ready, tell) = rustix::pipe::pipe()?;
        // SAFETY: this process has a single thread, so the child may run any code.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            std::thread::spawn(|| std::thread::sleep(LIFETIME));
            rustix::io::write(&tell, b"x")?;
            std::thread::sleep(LIFETIME);
            return Ok(());
        }
        let child = rustix::process::Pid::from_raw(forked.max(0)).ok_or_else(io::Error::last_os_error)?;
        drop(tell);
        rustix::io::read(&ready, &mut [0; 1])?;
        rustix::process::kill_process(child, rustix::process::Signal::KILL)?;
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
    }
    Ok(())
}
