//! The command before it is the command.
//!
//! Owns what happens between fork and exec: the standard streams, the wait at the gate, the exec, and its
//! failure. Never returns. Called by the janitor in the forked child, which has a single thread.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::stdio::{dup2_stderr, dup2_stdout, stderr};

use crate::signals::{Mask, default_action};

/// What a shell says of a command that it could not run; nobody sees it.
const NOT_RUN: i32 = 127;

pub(super) struct Program {
    /// The command and its arguments.
    pub(super) argv: Vec<CString>,
    /// Of both output streams; else standard output goes where standard error goes.
    pub(super) output: Option<File>,
    /// What was kept back when inferscope was started.
    pub(super) mask: Mask,
}

/// Becomes the program when a byte comes through `gate`; the errno of a failure goes into `failure`, which
/// an exec closes.
pub(super) fn run(program: &Program, gate: &OwnedFd, failure: &OwnedFd) -> ! {
    if wait(gate) {
        let errno = exec(program);
        // Nobody reads it where the janitor is gone.
        let _ = rustix::io::write(failure, &errno.to_ne_bytes());
    }
    // SAFETY: ends this process without running what inferscope, of which it is a copy, left to be run.
    unsafe { libc::_exit(NOT_RUN) }
}

/// False where the janitor is gone.
fn wait(gate: &OwnedFd) -> bool {
    loop {
        match rustix::io::read(gate, &mut [0; 1]) {
            Ok(1) => return true,
            Err(rustix::io::Errno::INTR) => {}
            _ => return false,
        }
    }
}

/// The errno of its failure.
fn exec(program: &Program) -> i32 {
    let redirected = match &program.output {
        Some(file) => dup2_stdout(file).and_then(|()| dup2_stderr(file)),
        // The report has standard output for itself.
        None => dup2_stdout(stderr()),
    };
    if let Err(errno) = redirected {
        return errno.raw_os_error();
    }
    let mut argv: Vec<*const libc::c_char> = program.argv.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(std::ptr::null());
    crate::privilege::as_caller();
    default_action(libc::SIGPIPE);
    program.mask.apply();
    // SAFETY: strings that end in NUL, in an array that ends in a null pointer, all alive until then.
    unsafe { libc::execvp(argv[0], argv.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
