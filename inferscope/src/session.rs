//! One run, from a plan to a report.
//!
//! Owns every spawn, join and shutdown, and their order: the output is proved writable and the
//! endpoint reachable before anything is measured, the observer starts before the load and ends
//! after it, and whatever ends the load (its own end, Ctrl-C, a dead server) the report is still written.
//! Called by `main`.

mod drive_load;
mod error;
mod exec;
pub mod exit;
mod finish;
mod host;
mod limits;
mod main_thread;
mod output;
mod progress;
mod runtime;
mod supervisor;

use std::os::fd::AsFd as _;

use crate::analysis::{self, Measured, TargetFound};
use crate::clock::{Mono, Origin};
use crate::demo::{DemoError, Wrapped};
use crate::event::Observation;
use crate::load::Served;
use crate::observe::gpu::{self, Poller};
use crate::observe::target_discovery::{self, Found, TargetError};
use crate::observe::{ObserveError, Observer};
use crate::plan::{LoadPlan, Plan, TargetPlan};
use crate::privilege::{self, Role};
use crate::report::model::{Level, Mode, Validity};
use crate::signals::Signals;
use crate::units::Nanos;

use drive_load::{Drive, all_failed, said_of};
use finish::Gathered;
use main_thread::{MainThread, beside_main};
use runtime::{Runtime, unless_interrupted};

pub use error::RunError;
pub use exec::run as exec;
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
    limits::check()?;
    let load = plan.load.as_ref().ok_or(RunError::NothingToSend)?;
    let mut sink = Sink::open(&plan.output, signals)?;
    measure(plan, load, Mode::Profile, &mut sink)
}

/// The same against the built-in server, which is started behind a shell and ended here. `plan_for`
/// makes the plan once the server's port and the shell's pid are known.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn demo<E>(
    server_args: &[String],
    signals: &Signals,
    plan_for: impl FnOnce(u16, u32) -> Result<Plan, E>,
) -> Result<Result<u8, RunError>, E> {
    if let Err(e) = limits::check() {
        return Ok(Err(e));
    }
    let exe = match std::env::current_exe() {
        Ok(exe) => exe,
        Err(source) => {
            return Ok(Err(RunError::System { what: "inferscope's own file can't be found", source }));
        }
    };
    let mut server = match Wrapped::start(&exe, server_args, Some(signals.as_fd())) {
        Ok(server) => server,
        Err(DemoError::Interrupted) => return Ok(Err(RunError::Interrupted)),
        Err(e) => return Ok(Err(e.into())),
    };
    let plan = plan_for(server.port, server.wrapper_pid)?;
    let run = || {
        let load = plan.load.as_ref().ok_or(RunError::NothingToSend)?;
        let mut sink = Sink::open(&plan.output, signals)?;
        measure(&plan, load, Mode::Demo, &mut sink)
    };
    let result = run();
    server.stop();
    Ok(result)
}

/// Observes a target and sends nothing, until Ctrl-C, the plan's time or the target's end; the exit code.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn observe(plan: &Plan, signals: &Signals) -> Result<u8, RunError> {
    limits::check()?;
    let mut sink = Sink::open(&plan.output, signals)?;
    limits::raise_open_files();
    let runtime = Runtime::new()?;
    let origin = Origin::now();
    let found = find(plan, signals)?;
    if found.is_none() {
        return Err(TargetError::NotFound(found.how).into());
    }
    let observer = Observer::start(&plan.observe, &found)?;
    let gpu = Poller::start(&plan.observe, &found.roots, || signals.is_pending())?;
    privilege::shed(Role::Main);
    let interrupted = runtime.block_on(watch(observer.target_ended(), plan.observe_for, signals));
    host::look_at_threads();
    let gpu = gpu.finish();
    let observation = observer.finish().ok_or(RunError::ObserverPanicked)?;
    let found = target_found(found, None);
    if let Some(warning) = analysis::idle_target(&observation, &found) {
        sink.warn(&warning);
    }
    let gathered = Gathered {
        origin,
        interrupted,
        found,
        log: None,
        model: None,
        observation: Some(observation),
        gpu,
        notes: Vec::new(),
        mode: Mode::Observe,
    };
    sink.write(&gathered.report(plan))?;
    Ok(if interrupted { exit::INTERRUPTED } else { exit::OK })
}

/// The target; to find it takes the resolver, and a look at every process.
fn find(plan: &Plan, signals: &Signals) -> Result<Found, RunError> {
    let target = plan.observe.target.clone();
    Ok(unless_interrupted("finding the target", signals, move || target_discovery::find(&target))??)
}

/// Until a signal (true), the time or the target's end.
async fn watch(
    mut target_ended: tokio::sync::watch::Receiver<bool>,
    time: Option<Nanos>,
    signals: &Signals,
) -> bool {
    let end = async {
        match time {
            Some(time) => tokio::time::sleep(time.to_duration()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.recv() => true,
        () = end => false,
        _ = target_ended.wait_for(|ended| *ended) => false,
    }
}

fn measure(plan: &Plan, load: &LoadPlan, mode: Mode, sink: &mut Sink<'_>) -> Result<u8, RunError> {
    limits::raise_open_files();
    let origin = Origin::now();
    let sent = beside_main("load", |main| send(plan, load, &*sink, origin, main))?;
    let Sent { found, server, mut notes, gpu, observer, none_reason, rest, log, failure, interrupted } = sent;
    let gpu = gpu.finish();
    let observation = observer.and_then(|o| {
        let observation = o.finish().map(|o| Observation { rest, ..o });
        if observation.is_none() {
            notes.push(note("observer_panicked", "the observing thread panicked: what it saw is lost"));
        }
        observation
    });
    notes.extend(panic_of(failure.as_ref()));
    let none_reason = if observation.is_some() { None } else { Some(none_reason.unwrap_or_default()) };
    let found = target_found(found, none_reason);
    if let Some(warning) = observation.as_ref().and_then(|o| analysis::idle_target(o, &found)) {
        sink.warn(&warning);
    }
    let failed = match (&log, interrupted) {
        (Some(log), false) => all_failed(log),
        _ => failure,
    };
    let missed = load.fail_on_slo && log.as_ref().is_some_and(Measured::misses_slo);
    let any_text = log.as_ref().is_some_and(Measured::any_text);
    let gathered =
        Gathered { origin, interrupted, found, log, model: server.model, observation, gpu, notes, mode };
    let report = gathered.report(plan);
    match failed {
        // What was measured of the server is in the document, for whom it was asked; a text report
        // without an answer would only hide the error.
        Some(error) if any_text => sink.write(&report).map_err(RunError::from).and(Err(error)),
        Some(error) => sink.write_document(&report).map_err(RunError::from).and(Err(error)),
        None => {
            sink.write(&report)?;
            Ok(match (interrupted, missed) {
                (true, _) => exit::INTERRUPTED,
                (false, true) => exit::SLO_MISSED,
                (false, false) => exit::OK,
            })
        }
    }
}

/// What the load's thread leaves.
struct Sent {
    found: Found,
    server: Served,
    notes: Vec<Validity>,
    gpu: Poller,
    observer: Option<Observer>,
    /// Why there is no observer.
    none_reason: Option<String>,
    /// Of the processes, before the load.
    rest: Option<(Mono, Mono)>,
    log: Option<Measured>,
    /// Why there is no log.
    failure: Option<RunError>,
    interrupted: bool,
}

/// The load's thread, from the reading of the user's files to the last request. What it starts and looks for with a privilege is
/// a task of the main thread's.
fn send<'env>(
    plan: &'env Plan,
    load: &'env LoadPlan,
    sink: &Sink<'env>,
    origin: Origin,
    main: &MainThread<'env>,
) -> Result<Sent, RunError> {
    let signals = sink.signals();
    let runtime = Runtime::new()?;
    let driver = runtime::driver(load, origin, signals)?;
    privilege::shed(Role::Load);
    let found = main.run(move || find(plan, signals))??;
    // Before the observer, so that finding the model is in no figure.
    let met = runtime.block_on(async {
        tokio::select! {
            biased;
            () = signals.recv() => Err(RunError::Interrupted),
            met = driver.meet() => Ok(met),
        }
    })?;
    let server = met.or_else(|e| driver.without_list(e))?;
    let mut notes = Vec::new();
    notes.extend(drive_load::doubt_of(&server, sink));
    // Before the observer too, so that the wait at rest is in no figure of the processes.
    let roots = found.roots.clone();
    let mut gpu = main.run(move || Poller::start(&plan.observe, &roots, || signals.is_pending()))??;
    // Where a signal ends it, what the devices told so far is in the report: what follows ends at once.
    runtime.block_on(gpu.rest(plan.observe.gpu_baseline, signals.recv()));
    let target = found.clone();
    let observed = main.run(move || {
        let observed = start_observer(plan, &target);
        privilege::shed(Role::Main);
        observed
    })??;
    let Observed { mut observer, none_reason, note } = observed;
    notes.extend(note);
    let marker = observer.as_ref().map(Observer::marker);
    let rest = match &mut observer {
        Some(observer) => runtime.block_on(observer.rest(signals.recv())),
        None => None,
    };
    let driven = runtime.block_on(async {
        let progress = sink.progress(load);
        let edges = gpu.edges();
        let drive = Drive { driver: &driver, plan: load, server: &server, origin, progress, edges, marker };
        drive_load::drive(drive, signals.recv()).await
    });
    let (log, interrupted, failure) = match driven {
        Ok((log, interrupted)) => (Some(log), interrupted, None),
        // What was observed is whole.
        Err(e @ RunError::Panicked(_)) => (None, false, Some(e)),
        Err(e) => return Err(e),
    };
    notes.extend(said_of(&driver));
    Ok(Sent { found, server, notes, gpu, observer, none_reason, rest, log, failure, interrupted })
}

fn target_found(found: Found, none_reason: Option<String>) -> TargetFound {
    let none = none_reason.is_some();
    TargetFound {
        roots: if none { Vec::new() } else { found.roots },
        cgroup: found.cgroup.filter(|_| !none).map(|c| c.name),
        how_found: found.how,
        descendants: found.descendants,
        none_reason,
        ..TargetFound::default()
    }
}

/// The observer, or why there is none.
struct Observed {
    observer: Option<Observer>,
    none_reason: Option<String>,
    note: Option<Validity>,
}

fn start_observer(plan: &Plan, found: &Found) -> Result<Observed, RunError> {
    let none = |why: String, note| Observed { observer: None, none_reason: Some(why), note };
    if found.is_none() {
        return Ok(none(found.how.clone(), None));
    }
    match Observer::start(&plan.observe, found) {
        Ok(observer) => Ok(Observed { observer: Some(observer), none_reason: None, note: None }),
        // A target that was only guessed may end; the client's side is still worth having.
        Err(e @ ObserveError::TargetGone(_))
            if matches!(plan.observe.target, TargetPlan::Listener { .. }) =>
        {
            let why = e.to_string().lines().next().unwrap_or_default().to_owned();
            let note = note("target_gone", &why);
            Ok(none(why, Some(note)))
        }
        Err(e) => Err(e.into()),
    }
}

/// Why a report has no load.
fn panic_of(failure: Option<&RunError>) -> Option<Validity> {
    let panicked = matches!(failure, Some(RunError::Panicked(_)));
    panicked.then(|| note("load_panicked", "the load panicked: its requests are lost"))
}

fn note(code: &str, message: &str) -> Validity {
    Validity { level: Level::Warn, code: code.to_owned(), message: message.to_owned() }
}
