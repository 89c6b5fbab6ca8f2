//! One run, from a plan to a report.
//!
//! Owns every spawn, join and shutdown, and their order: the output is proved writable and the
//! endpoint reachable before anything is measured, the observer starts before the load and ends
//! after it, and whatever ends the load (its own end, Ctrl-C, a dead server) the report is still written.
//! Called by `main`.
//!
//! There is one path, whose configurations are the commands:
//!
//! | command | target | driven |
//! |---|---|---|
//! | `profile`, `demo` | found | a load |
//! | `observe` | found | nothing, until an end |
//! | `exec` | a command that is started | a load, or nothing until an end |
//!
//! `events` carries what the sources send to the collector. `start` opens the sources, `drive` has the load sent or waits, `finish` ends the sources and writes the report. `lifetime` says
//! what ends a run early; for a command it asks `supervisor`.

mod command;
mod device_sources;
mod drive;
mod drive_load;
mod error;
mod events;
pub mod exit;
mod finish;
mod host;
mod lifetime;
mod limits;
mod live_view;
mod main_thread;
mod output;
mod progress;
mod runtime;
mod self_cost;
mod start;
mod supervisor;
mod target;

use std::os::fd::AsFd as _;

use crate::clock::Origin;
use crate::demo::{DemoError, Wrapped};
use crate::observe::gpu;
use crate::plan::Plan;
use crate::report::model::Mode;
use crate::signals::Signals;

use events::Events;
use main_thread::{MainThread, beside_main};

pub use error::RunError;
pub use output::{OutputError, Refused, Sink, print};

/// To be called first: what this process itself costs counts from here.
pub fn begin() {
    host::begin();
}

/// To be called last, with the exit code: a driver's library that hangs does not hold the end, as it would in exit(3).
#[must_use]
pub fn end(code: u8) -> std::process::ExitCode {
    if gpu::hangs() {
        // SAFETY: takes a number, and does not come back. What was to be written is written: nothing here waits in a buffer.
        unsafe { libc::_exit(code.into()) };
    }
    code.into()
}

/// Runs `plan` and writes its report; the exit code.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn profile(plan: &Plan, signals: &Signals) -> Result<u8, RunError> {
    run(plan, Mode::Profile, signals)
}

/// Observes a target and sends nothing, until Ctrl-C, the plan's time or the target's end; the exit code.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn observe(plan: &Plan, signals: &Signals) -> Result<u8, RunError> {
    run(plan, Mode::Observe, signals)
}

/// Runs the plan's command and writes the report; the exit code.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn exec(plan: &Plan, signals: &Signals) -> Result<u8, RunError> {
    run(plan, Mode::Exec, signals)
}

/// As [`profile`], against the built-in server, which is started behind a shell and ended here. `plan_for`
/// makes the plan once the server's port and the shell's pid are known.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn demo<E>(
    server_args: &[String],
    signals: &Signals,
    plan_for: impl FnOnce(u16, u32) -> Result<Plan, E>,
) -> Result<Result<u8, RunError>, E> {
    let started = limits::check().and_then(|()| start_demo(server_args, signals));
    let mut server = match started {
        Ok(server) => server,
        Err(e) => return Ok(Err(e)),
    };
    let plan = plan_for(server.port, server.wrapper_pid)?;
    let result = run(&plan, Mode::Demo, signals);
    server.stop();
    Ok(result)
}

fn start_demo(server_args: &[String], signals: &Signals) -> Result<Wrapped, RunError> {
    let exe = std::env::current_exe()
        .map_err(|source| RunError::System { what: "inferscope's own file can't be found", source })?;
    Wrapped::start(&exe, server_args, Some(signals.as_fd())).map_err(|e| match e {
        DemoError::Interrupted => RunError::Interrupted,
        e => e.into(),
    })
}

/// One run.
struct Session<'env> {
    plan: &'env Plan,
    mode: Mode,
    origin: Origin,
    signals: &'env Signals,
    events: Events,
}

fn run(plan: &Plan, mode: Mode, signals: &Signals) -> Result<u8, RunError> {
    limits::check()?;
    let mut sink = Sink::open(&plan.output, signals)?;
    let origin = Origin::now();
    // Before anything that makes a thread, and while this process is small: the command is a copy of it until it becomes the
    // program.
    let command = plan.exec.as_ref().map(|exec| command::start(exec, signals)).transpose()?;
    limits::raise_open_files();
    let session = Session { plan, mode, origin, signals, events: Events::start(plan)? };
    // What meets a server's bytes, or a command, has a thread of its own.
    let outcome = if plan.load.is_some() || command.is_some() {
        beside_main("load", |main| session.measure(command.as_ref(), &sink, main))
    } else {
        session.measure(None, &sink, &MainThread::Here)
    };
    session.finish(outcome?, command, &mut sink)
}

/// What tells this run from others, on this machine and any other.
fn run_id(origin: Origin) -> String {
    format!("{:x}-{:x}", origin.unix_ns / 1_000_000, std::process::id())
}
