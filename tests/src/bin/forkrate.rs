//! A fork storm that does nothing else, and tells how long it took.
//!
//! Owns its parents, and sleeping children where asked for. Never measures anybody else. Run by the benches.
//!
//! Usage: `forkrate PARENTS`. Prints its pid as `{"root": PID}` and then obeys lines on standard input, each
//! answered by a line of JSON: `fork N` (N children in all, which end at once), `exec N` (the same, which run
//! /bin/true first), `sleep N` (N children that sleep until the end). Ends with its standard input.

use std::ffi::CString;
use std::io::{self, BufRead};
use std::process::exit;
use std::ptr;
use std::time::Instant;

use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};
use serde_json::json;

fn main() -> io::Result<()> {
    let Some(Ok(parents)) = std::env::args().nth(1).map(|arg| arg.parse::<u32>()) else {
        eprintln!("usage: forkrate PARENTS");
        exit(2);
    };
    println!("{}", json!({ "root": getpid().as_raw_nonzero() }));
    let mut sleepers = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (word, count) = line.split_once(' ').unwrap_or_default();
        let count: u32 = count.parse().map_err(|_| io::Error::other(format!("not a command: {line:?}")))?;
        let answer = match word {
            "fork" => storm(parents, count, end_at_once)?,
            "exec" => storm(parents, count, end_elsewhere)?,
            "sleep" => {
                for _ in 0..count {
                    sleepers.push(fork_to(sleep_with_parent)?);
                }
                json!({ "sleepers": sleepers })
            }
            _ => return Err(io::Error::other(format!("not a command: {line:?}"))),
        };
        println!("{answer}");
    }
    for &sleeper in &sleepers {
        if let Some(pid) = Pid::from_raw(sleeper) {
            kill_process(pid, Signal::KILL)?;
        }
    }
    sleepers.iter().try_for_each(|_| reap().map(drop))
}

/// `children` children, forked by `parents` parents as fast as they can, one at a time each.
fn storm(parents: u32, children: u32, child: fn() -> i32) -> io::Result<serde_json::Value> {
    let (started, cpu) = (Instant::now(), cpu_of_children()?);
    let mut pids = Vec::new();
    for parent in 0..parents {
        let share = children / parents + u32::from(parent < children % parents);
        pids.push(fork_to(|| {
            for _ in 0..share {
                let forked = fork_to(child);
                if !forked.and_then(|_| reap()).is_ok_and(|status| status == 0) {
                    return 1;
                }
            }
            0
        })?);
    }
    for _ in 0..parents {
        if reap()? != 0 {
            return Err(io::Error::other("a parent could not fork"));
        }
    }
    let ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let cpu_ns = cpu_of_children()? - cpu;
    Ok(json!({ "ns": ns, "cpu_ns": cpu_ns, "parents": pids, "children": children }))
}

fn end_at_once() -> i32 {
    0
}

fn end_elsewhere() -> i32 {
    let Ok(program) = CString::new("/bin/true") else { return 1 };
    let arguments = [program.as_ptr(), ptr::null()];
    // SAFETY: both strings end with a NUL, the list with a null pointer, and all outlive the call.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    1
}

/// Also when the parent is killed.
fn sleep_with_parent() -> i32 {
    let parent = getppid();
    let tied = set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have gone before it was tied to.
    while tied.is_ok() && getppid() == parent {
        // SAFETY: it takes no argument and touches no memory.
        unsafe { libc::pause() };
    }
    1
}

/// The child's pid; the child runs `child` and ends with what that returns, running nothing of this program's end.
fn fork_to(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: this program has a single thread, so the child may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = child();
            // SAFETY: it does not return, and nothing here has to be dropped.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

/// The status of a child that ended.
fn reap() -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    match unsafe { libc::waitpid(-1, &raw mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(status),
    }
}

/// Of all that were waited for, and of what they had waited for.
fn cpu_of_children() -> io::Result<i64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` has the right type and outlives the call.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes is a valid rusage, and the kernel has filled it in.
    let usage = unsafe { usage.assume_init() };
    let ns = |t: libc::timeval| t.tv_sec * 1_000_000_000 + t.tv_usec * 1_000;
    Ok(ns(usage.ru_utime) + ns(usage.ru_stime))
}
