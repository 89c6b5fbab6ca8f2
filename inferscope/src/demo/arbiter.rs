//! The arbiter: binds, preloads, pre-forks, replaces.
//!
//! Owns the listener, the workers' processes and the end of all of them; never answers a request (the
//! workers do). Called by `main` as `inferscope demo-server`.
//!
//! Signals keep their default action: SIGTERM or SIGINT ends the arbiter, and the kernel ends the workers
//! with it (PR_SET_PDEATHSIG), as it does when the arbiter is killed. So no handler can be wrong.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, getppid, kill_process, pidfd_open, waitpid,
};

use super::{ANNOUNCEMENT, DemoError, work, worker};
use crate::cli;

/// The preloaded "model": touched before the fork, so that the workers share its pages.
const SHARED_BYTES: usize = 64 << 20;

/// How often the parent and the lifetime are looked at.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Workers that fail one after another are not replaced for ever.
const MAX_FAILURES: u32 = 8;

/// Serves until the process that started it is gone, nobody reads its standard output any more, or the
/// lifetime is over. Prints `listening PORT` when the workers are there.
///
/// # Errors
/// [`DemoError`], when it can't listen or has no workers. The calling process must have a single thread.
pub fn serve(args: &cli::DemoServerArgs) -> Result<(), DemoError> {
    let started = Instant::now();
    let parent = getppid();
    check_single_thread()?;
    work::name_thread(c"demo-arbiter");

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).map_err(DemoError::Listen)?;
    let port = listener.local_addr().map_err(DemoError::Listen)?.port();
    let settings = worker::Settings {
        executable: executable(),
        max_requests: args.max_requests,
        first_token: args.first_token,
        token_interval: args.token_interval,
    };
    let model = work::touched(SHARED_BYTES);
    let mut arbiter = Arbiter { listener, settings, model, workers: Vec::new(), failures: 0 };
    for _ in 0..args.workers.max(1) {
        arbiter.add_worker()?;
    }
    announce(port).map_err(DemoError::Announce)?;
    while getppid() == parent && started.elapsed() < args.lifetime {
        if arbiter.turn()? == Reader::Gone {
            break;
        }
    }
    Ok(())
}

/// Whether anybody still holds the other end of standard output.
#[derive(PartialEq, Eq)]
enum Reader {
    Present,
    Gone,
}

struct Arbiter {
    listener: TcpListener,
    settings: worker::Settings,
    model: Vec<u8>,
    workers: Vec<Worker>,
    /// In a row.
    failures: u32,
}

struct Worker {
    pid: Pid,
    /// Readable when the worker has ended.
    pidfd: OwnedFd,
}

impl Arbiter {
    /// Waits for an event or a tick, and replaces the workers that ended.
    fn turn(&mut self) -> Result<Reader, DemoError> {
        let stdout = io::stdout();
        // Asked for nothing, a pipe still tells that its reader is gone.
        let mut fds = vec![PollFd::new(&stdout, PollFlags::empty())];
        fds.extend(self.workers.iter().map(|worker| PollFd::new(&worker.pidfd, PollFlags::IN)));
        match poll(&mut fds, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(DemoError::Wait(e.into())),
        }
        if !fds[0].revents().is_empty() {
            return Ok(Reader::Gone);
        }
        let ended: Vec<usize> =
            (0..self.workers.len()).filter(|i| !fds[i + 1].revents().is_empty()).collect();
        // From the back: what is added on the way does not move the others.
        for index in ended.into_iter().rev() {
            let worker = self.workers.swap_remove(index);
            self.replace(worker.pid)?;
        }
        Ok(Reader::Present)
    }

    fn replace(&mut self, pid: Pid) -> Result<(), DemoError> {
        let status = waitpid(Some(pid), WaitOptions::empty()).map_err(|e| DemoError::Wait(e.into()))?;
        let served = status.is_some_and(|(_, status)| status.exit_status() == Some(0));
        self.failures = if served { 0 } else { self.failures + 1 };
        if self.failures >= MAX_FAILURES {
            return Err(DemoError::Workers { failures: self.failures });
        }
        self.add_worker()
    }

    fn add_worker(&mut self) -> Result<(), DemoError> {
        let arbiter = getpid();
        // SAFETY: this process has a single thread (checked by `serve`), so no lock can be held by a thread
        // that the child does not have, and the child may run any code.
        let forked = unsafe { libc::fork() };
        match forked {
            0 => {
                // The siblings are not this process's to wait for.
                self.workers = Vec::new();
                std::process::exit(worker::run(&self.listener, &self.settings, &self.model, arbiter))
            }
            forked => {
                let pid = Pid::from_raw(forked.max(0))
                    .ok_or_else(|| DemoError::Fork(io::Error::last_os_error()))?;
                let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| {
                    end(pid);
                    DemoError::Wait(e.into())
                })?;
                self.workers.push(Worker { pid, pidfd });
                Ok(())
            }
        }
    }
}

impl Drop for Arbiter {
    fn drop(&mut self) {
        for worker in &self.workers {
            end(worker.pid);
        }
    }
}

/// Ends and reaps a child; it has nothing to save. Until the wait its pid can be nobody else's.
fn end(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

fn check_single_thread() -> Result<(), DemoError> {
    // Unreadable: taken on trust, as `main` calls this before anything else.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads == 1 { Ok(()) } else { Err(DemoError::Threads { threads }) }
}

/// By its path where that still leads somewhere, so that the helper is shown with its real name.
fn executable() -> PathBuf {
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or_else(|| "/proc/self/exe".into())
}

fn announce(port: u16) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{ANNOUNCEMENT}{port}")?;
    stdout.flush()
}
