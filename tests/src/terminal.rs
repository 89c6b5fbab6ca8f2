//! A terminal to run a program on.
//!
//! Owns one pseudo-terminal and all that was written to it. Never tells what it means. Called by the tests of what
//! a person sees.

use std::io::{Read, Seek};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::process::Group;

/// No run of a test may take longer.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What a run left.
#[derive(Debug)]
pub struct Seen {
    pub code: Option<i32>,
    /// Everything that was written to the terminal.
    pub screen: String,
    /// Standard output where it was not the terminal.
    pub stdout: String,
    pub took: Duration,
}

/// Runs the command with its standard error on a terminal of so many columns, and its standard output there too,
/// or in a file.
///
/// # Panics
/// When it can't be started, or takes longer than two minutes.
#[must_use]
pub fn run_on(mut command: Command, columns: u16, stdout_too: bool) -> Seen {
    let (ours, its) = pty(columns);
    let mut file = tempfile::tempfile().expect("there is room for temporary files");
    let share = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor is free"));
    let stdout =
        if stdout_too { share(&its) } else { Stdio::from(file.try_clone().expect("a descriptor is free")) };
    command.stdin(Stdio::null()).stdout(stdout).stderr(share(&its));
    let began = Instant::now();
    let mut group = Group::start(&mut command);
    // Else it would keep the terminal open.
    drop((command, its));
    let mut screen = Vec::new();
    loop {
        let ended = group.child.try_wait().expect("it is this process's child");
        let ready = poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&LOOK)).expect("it is open");
        let mut buffer = [0; 4096];
        match (ready > 0).then(|| rustix::io::read(&ours, &mut buffer)) {
            // An error: nobody has it open any more.
            Some(Ok(0) | Err(_)) => break,
            Some(Ok(n)) => screen.extend_from_slice(&buffer[..n]),
            None if ended.is_some() => break,
            None => assert!(began.elapsed() < LIMIT, "{} still runs after {LIMIT:?}", group.pid()),
        }
    }
    let took = began.elapsed();
    let status = group.wait(LIMIT);
    let mut stdout = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut stdout)).expect("the output is UTF-8");
    Seen { code: status.code(), screen: String::from_utf8_lossy(&screen).into_owned(), stdout, took }
}

/// Starts the command with its standard error, and its standard output, on a terminal that is full but for `room` bytes
/// or so, and that nobody reads: as after Ctrl-S. Give the other end away, and the terminal is gone.
///
/// # Panics
/// When there is no terminal to be had.
#[must_use]
pub fn stuck(mut command: Command, room: usize, stdout_too: bool) -> (Group, OwnedFd) {
    let (ours, its) = pty(120);
    let flags = rustix::fs::fcntl_getfl(&its).expect("it is open");
    let set = |fd: &OwnedFd, flags| rustix::fs::fcntl_setfl(fd, flags).expect("it is open");
    set(&its, flags | rustix::fs::OFlags::NONBLOCK);
    // What was written moves on to the reader's side only after a while.
    for _ in 0..10 {
        while rustix::io::write(&its, &[b'x'; 64]).is_ok_and(|n| n > 0) {}
        std::thread::sleep(Duration::from_millis(20));
    }
    set(&its, flags);
    let mut left = room;
    while left > 0 {
        left -= rustix::io::read(&ours, &mut vec![0; left]).expect("it is full");
    }
    let share = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor is free"));
    command.stdin(Stdio::null()).stderr(share(&its));
    command.stdout(if stdout_too { share(&its) } else { Stdio::null() });
    (Group::start(&mut command), ours)
}

/// Both ends; the children get theirs by name only.
fn pty(columns: u16) -> (OwnedFd, OwnedFd) {
    let size = libc::winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: both places are this function's own, and null stands for no name and for the usual settings.
    let done = unsafe {
        libc::openpty(&raw mut ours, &raw mut its, std::ptr::null_mut(), std::ptr::null(), &raw const size)
    };
    assert_eq!(done, 0, "no terminal is to be had: {}", std::io::Error::last_os_error());
    // SAFETY: it was just opened, and nobody else knows it.
    let ours = unsafe { OwnedFd::from_raw_fd(ours) };
    // SAFETY: as above.
    let its = unsafe { OwnedFd::from_raw_fd(its) };
    for end in [&ours, &its] {
        fcntl_setfd(end.as_fd(), FdFlags::CLOEXEC).expect("it is open");
    }
    (ours, its)
}
