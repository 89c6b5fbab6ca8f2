//! The arbiter: binds, preloads, pre-forks workers and replaces them.
//!
//! Owns the listener, the workers' processes and the end of all of them. Never answers a request (the workers do).
//! Called by `main` as `inferscope demo-server`.
//!
//! Signals keep their default action, so no handler can be wrong: SIGTERM or SIGINT ends the arbiter, and the kernel
//! then ends the workers (PR_SET_PDEATHSIG), as it does after a SIGKILL.

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

/// Size of the preloaded "model". It is written before the fork, so the workers share its pages.
const SHARED_BYTES: usize = 64 << 20;

/// Interval of the checks on the parent process and the lifetime.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Most workers that fail in a row before the arbiter gives up.
const MAX_FAILURES: u32 = 8;

/// Serves until its parent process is gone, nobody reads its standard output any more, or the lifetime is over. Prints
/// `listening PORT` once the workers exist.
///
/// # Errors
/// [`DemoError`] if it can't listen or has no workers. The calling process must have a single thread.
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

/// Somebody still holds the other end of standard output.
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
    /// Failed workers in a row.
    failures: u32,
}

struct Worker {
    pid: Pid,
    /// Becomes readable when the worker has ended.
    pidfd: OwnedFd,
}

impl Arbiter {
    /// Waits for an event or a tick, and replaces the workers that ended.
    fn turn(&mut self) -> Result<Reader, DemoError> {
        let stdout = io::stdout();
        // Without any requested event, a pipe still reports that its reader is gone.
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
        // Go from the back, so that new entries don't move the others.
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
                // The siblings are not this process's children.
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

/// Ends and reaps a child, which has nothing to save. Its pid can't be reused before the wait.
fn end(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

fn check_single_thread() -> Result<(), DemoError> {
    // Unreadable: assume one thread, as `main` calls this first.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads == 1 { Ok(()) } else { Err(DemoError::Threads { threads }) }
}

/// The path of this program. The helper is then shown with its real name, unless the path leads nowhere.
fn executable() -> PathBuf {
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or_else(|| "/proc/self/exe".into())
}

fn announce(port: u16) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{ANNOUNCEMENT}{port}")?;
    stdout.flush()
}
