//! The forked child before its exec.
//!
//! Owns the steps between fork and exec: the standard streams, the wait at the gate, the exec, and the report of its
//! failure. Never returns. Called by the janitor in the forked child, which has a single thread.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::stdio::{dup2_stderr, dup2_stdout, stderr};

use crate::signals::{Mask, default_action};

/// A shell's exit status for a command that could not run. Nobody sees it.
const NOT_RUN: i32 = 127;

pub(super) struct Program {
    /// The command and its arguments.
    pub(super) argv: Vec<CString>,
    /// The target of both output streams. Without it standard output goes to standard error.
    pub(super) output: Option<File>,
    /// The signal mask at inferscope's own start.
    pub(super) mask: Mask,
}

/// Becomes the program when a byte comes through `gate`. Writes the errno of a failure into `failure`, which an exec
/// closes.
pub(super) fn run(program: &Program, gate: &OwnedFd, failure: &OwnedFd) -> ! {
    if wait(gate) {
        let errno = exec(program);
        // If the janitor is gone, nobody reads it.
        let _ = rustix::io::write(failure, &errno.to_ne_bytes());
    }
    // SAFETY: ends this process without running the destructors of inferscope, of which it is a copy.
    unsafe { libc::_exit(NOT_RUN) }
}

/// False: the janitor is gone.
fn wait(gate: &OwnedFd) -> bool {
    loop {
        match rustix::io::read(gate, &mut [0; 1]) {
            Ok(1) => return true,
            Err(rustix::io::Errno::INTR) => {}
            _ => return false,
        }
    }
}

/// Runs the program. Returns the errno of a failure.
fn exec(program: &Program) -> i32 {
    let redirected = match &program.output {
        Some(file) => dup2_stdout(file).and_then(|()| dup2_stderr(file)),
        // Standard output belongs to the report.
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
    // SAFETY: the strings end in NUL, the array ends in a null pointer, and all live until the call.
    unsafe { libc::execvp(argv[0], argv.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
