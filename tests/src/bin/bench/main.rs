//! `cargo xtask bench …`: what observing and timing cost, and what they see, beside other tools.
//!
//! Owns the command line. Each bench has its module; all print Markdown on standard output and what they are at on
//! standard error. What is not installed is left out, with a word. Run by `xtask/src/bench.rs`, which builds and
//! sets up everything; run in an optimised build only, as inferscope's own cost is measured.
//!
//! Usage: `bench tracker ROUNDS [--fifo] | bench gunicorn | bench gpu | bench client ROUNDS REQUESTS | bench streams |
//! bench stamps`

mod bpf;
mod client;
mod cost;
mod gpu;
mod gunicorn;
mod sampler;
mod stamps;
mod storm;
mod streams;
mod tracers;
mod tracker;

use std::io;
use std::path::Path;
use std::process::exit;

use inferscope_tests::requirements;
use rustix::process::{Signal, getppid, set_parent_process_death_signal, setpriority_process, setsid};

/// The most favourable.
const NICE: i32 = -20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let fifo = args.last().is_some_and(|arg| arg == "--fifo");
    if let Err(e) = take_priority(fifo) {
        requirements::say(&format!(
            "bench: without priority over what else runs ({e}), so rates are less steady"
        ));
    }
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tracker", rounds] | ["tracker", rounds, "--fifo"]
            if rounds.parse::<u32>().is_ok_and(|rounds| rounds > 0) =>
        {
            tracker::run(rounds.parse().unwrap_or(1));
            sampler::run();
        }
        ["gunicorn"] => gunicorn::run(),
        ["gpu"] => gpu::run(),
        ["client", rounds, requests] => match (rounds.parse(), requests.parse()) {
            (Ok(rounds @ 1..), Ok(requests @ 1..)) => client::run(rounds, requests),
            _ => usage(),
        },
        ["streams"] => streams::run(),
        ["stamps"] => stamps::run(),
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!(
        "usage: bench tracker ROUNDS [--fifo] | bench gunicorn | bench gpu | bench client ROUNDS REQUESTS | bench streams | bench stamps"
    );
    exit(2);
}

/// What else runs would disturb more than a tracer does. With autogroups, the kernel's default, nice values count
/// only within a session; so this is its own session, which ends with its parent, as Ctrl-C no longer reaches it.
///
/// With `fifo`, this process and all that it starts take turns among themselves, and the rest of the machine gets the
/// twentieth of a CPU that the kernel keeps for it.
fn take_priority(fifo: bool) -> io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if getppid() != parent {
        exit(1);
    }
    setsid()?;
    if fifo {
        let lowest = libc::sched_param { sched_priority: 1 };
        // SAFETY: the parameter outlives the call; 0 is this process.
        return match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
    }
    let autogroup = Path::new("/proc/self/autogroup");
    if autogroup.exists() {
        std::fs::write(autogroup, NICE.to_string())?;
    }
    setpriority_process(None, NICE)?;
    Ok(())
}
