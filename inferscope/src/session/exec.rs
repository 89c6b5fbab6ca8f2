//! `inferscope exec`: a run around a command that is started for it.
//!
//! Owns the order: the command is forked and waits, the observer takes it as its root, it is let run; at the
//! end the observer looks once more before what is left is let go. Also when a run is over: the command's own
//! end, the time, a signal, the end of a load. Called by `main`, through `session`.

use std::fs::File;
use std::time::Duration;

use super::main_thread::{MainThread, beside_main};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::drive_load::{Drive, all_failed, said_of};
use super::finish::Gathered;
use super::host;
use super::output::{OutputError, Sink};
use super::progress::{self, Progress};
use super::runtime::{self, Runtime};
use super::{RunError, exit, limits, note, panic_of};
use crate::analysis::{self, Measured, TargetFound};
use crate::clock::{Mono, Origin};
use crate::event::{ExitStatus, Observation};
use crate::launch::Launched;
use crate::load::Driver;
use crate::observe::gpu::Poller;
use crate::observe::target_discovery::{CgroupTarget, Found};
use crate::observe::{ObserveError, Observer};
use crate::plan::{CommandOutput, CommandPlan, Endpoint, LoadPlan, ObservePlan, Plan, TrackerChoice};
use crate::privilege::{self, Role};
use crate::report::model::{Level, Mode, Validity};
use crate::signals::Signals;
use crate::units::Nanos;

use super::supervisor::{Over, Supervisor};

/// For the look whether somebody else has the endpoint.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Runs the plan's command and writes the report; the exit code.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn run(plan: &Plan, signals: &Signals) -> Result<u8, RunError> {
    limits::check()?;
    let command_plan = plan.exec.as_ref().ok_or(RunError::NothingToRun)?;
    let mut sink = Sink::open(&plan.output, signals)?;
    let output = open(&command_plan.output)?;
    let origin = Origin::now();
    // Before anything that makes a thread, and while this process is small: the command is a copy of it until
    // it becomes the program.
    if signals.came() {
        return Err(RunError::Interrupted);
    }
    let command = Launched::start(&command_plan.argv, output, command_plan.grace, signals)?;
    limits::raise_open_files();
    let attended = beside_main("load", |main| attend(plan, command_plan, (&command, &sink), origin, main))?;
    let Attended { driven, ended, gpu, observer, found, opened, said } = attended;

    let gpu = gpu.finish();
    let observation = observer.finish().map(|o| Observation { rest: driven.rest, ..o });
    let mut notes = said;
    if observation.is_none() {
        notes.push(note("observer_panicked", "the observing thread panicked: what it saw is lost"));
    }
    if let Err(why) = command.cgroup() {
        let message =
            format!("the command has no cgroup of its own ({why}): it was followed as a process tree");
        notes.push(for_the_record("no_own_cgroup", message));
    }
    let pid = command.pid();
    let left = command.release();
    notes.extend(ended.notes(driven.log.is_some(), &left));
    notes.extend(driven.doubt);
    notes.extend(panic_of(driven.failure.as_ref()));
    notes.extend(driven.ready.map(|ready| {
        let message = format!(
            "the server answered {:.2} s after the command was started; the load began after that, the \
             processes' figures hold the start too",
            ready.since(opened).as_secs_f64()
        );
        for_the_record("server_ready", message)
    }));

    let exit = ended.exit.or_else(|| observation.as_ref().and_then(|o| seen_exit(o, pid)));
    if !ended.by_us {
        notes.extend(observation.as_ref().and_then(|o| left_running(o, pid)));
        if let Some(exit) = exit.filter(|e| e.code != Some(0)) {
            sink.tell(&format!("the command ended with {}", in_words(exit)));
        }
    }
    let found = target_found(found, exit, driven.ready);
    if let Some(warning) = observation.as_ref().and_then(|o| analysis::idle_target(o, &found)) {
        sink.warn(&warning);
    }
    let missed = plan.load.as_ref().is_some_and(|load| load.fail_on_slo)
        && driven.log.as_ref().is_some_and(Measured::misses_slo);
    let any_text = driven.log.as_ref().is_some_and(Measured::any_text);
    let failure = driven.failure.or_else(|| match &driven.log {
        Some(log) if !ended.interrupted => all_failed(log),
        _ => None,
    });
    let gathered = Gathered {
        origin,
        interrupted: ended.interrupted,
        found,
        log: driven.log,
        model: driven.model,
        observation,
        gpu,
        notes,
        mode: Mode::Exec,
    };
    let report = gathered.report(plan);
    match failure {
        Some(error) if any_text => sink.write(&report).map_err(RunError::from).and(Err(error)),
        Some(error) => sink.write_document(&report).map_err(RunError::from).and(Err(error)),
        None => {
            sink.write(&report)?;
            Ok(match (ended.interrupted, missed) {
                (true, _) => exit::INTERRUPTED,
                (false, true) => exit::SLO_MISSED,
                (false, false) => exit::OK,
            })
        }
    }
}

/// What the load's thread leaves.
struct Attended {
    driven: Driven,
    ended: Over,
    gpu: Poller,
    observer: Observer,
    found: Found,
    /// When the command was let run.
    opened: Mono,
    said: Vec<Validity>,
}

/// The load's thread, from the reading of the user's files to the command's end. What needs a privilege is a task of the
/// main thread's.
fn attend<'env>(
    plan: &'env Plan,
    command_plan: &CommandPlan,
    (command, sink): (&'env Launched<'env>, &Sink<'env>),
    origin: Origin,
    main: &MainThread<'env>,
) -> Result<Attended, RunError> {
    let signals = sink.signals();
    let runtime = Runtime::new()?;
    let driver = plan.load.as_ref().map(|load| runtime::driver(load, origin, signals)).transpose()?;
    privilege::shed(Role::Load);
    if let Some(load) = &plan.load {
        runtime.block_on(async {
            tokio::select! {
                biased;
                // Left unread: the watch over the command reads them.
                () = signals.pending() => Err(RunError::Interrupted),
                free = nobody_answers(&load.endpoint) => free,
            }
        })?;
    }
    let mut gpu = main.run(|| Poller::start(&plan.observe, &[command.pid()], || signals.is_pending()))??;
    let mut session = runtime.block_on(async {
        let watch = command
            .watch()
            .map_err(|source| RunError::System { what: "the command can't be watched", source })?;
        let mut session = Supervisor::new((command, main), watch, command_plan.grace);
        // At rest is a server that waits for requests; without a load, a machine on which the command is not yet.
        if driver.is_none() {
            gpu.rest(plan.observe.gpu_baseline, session.interruption()).await;
        }
        Ok::<_, RunError>(session)
    })?;
    let (mut observer, found) = main.run(|| {
        let observed = observe(&plan.observe, found(command));
        privilege::shed(Role::Main);
        observed
    })??;
    if signals.is_pending() {
        runtime.block_on(session.interruption());
    }
    let is_wanted = !session.over().interrupted;
    if is_wanted {
        command.open_gate()?;
        gpu.begins();
    }
    let opened = Mono::now();

    let driven = runtime.block_on(async {
        match driver.as_ref().zip(plan.load.as_ref()) {
            _ if !is_wanted => {
                session.discard().await;
                Driven::default()
            }
            Some(driver) => {
                let time = plan.observe.gpu_baseline;
                let rest = Rest { gpu: &mut gpu, time, observer: &mut observer };
                drive(&mut session, driver, command_plan, rest, origin, sink).await
            }
            None => {
                session.observe(plan.observe_for).await;
                Driven::default()
            }
        }
    });
    let ended = session.over();
    host::look_at_threads();
    let said = driver.as_ref().map(said_of).unwrap_or_default();
    Ok(Attended { driven, ended, gpu, observer, found, opened, said })
}

/// What came of a load.
#[derive(Default)]
struct Driven {
    /// When the endpoint answered.
    ready: Option<Mono>,
    model: Option<String>,
    log: Option<Measured>,
    failure: Option<RunError>,
    doubt: Option<Validity>,
    /// Of the processes, before the load.
    rest: Option<(Mono, Mono)>,
}

/// What is waited for between the server's first answer and the load.
struct Rest<'a> {
    gpu: &'a mut Poller,
    time: Nanos,
    observer: &'a mut Observer,
}

/// Waits for the server, drives it, and ends it.
async fn drive(
    session: &mut Supervisor<'_, '_>,
    (driver, load): (&Driver, &LoadPlan),
    command: &CommandPlan,
    rest: Rest<'_>,
    origin: Origin,
    sink: &Sink<'_>,
) -> Driven {
    let mut driven = Driven::default();
    match session.ready(driver, command.ready_timeout).await {
        Ok(Some(server)) => {
            driven.ready = Some(Mono::now());
            driven.doubt = super::drive_load::doubt_of(&server, sink);
            rest.gpu.rest(rest.time, session.interruption()).await;
            driven.rest = rest.observer.rest(session.interruption()).await;
            let marker = Some(rest.observer.marker());
            let progress = if progress::has_room(command) { sink.progress(load) } else { Progress::none() };
            let edges = rest.gpu.edges();
            let drive = Drive { driver, plan: load, server: &server, origin, progress, edges, marker };
            match super::drive_load::drive(drive, session.interruption()).await {
                Ok((log, _)) => driven.log = Some(log),
                Err(e) => driven.failure = Some(e),
            }
            driven.model = server.model;
        }
        Ok(None) => {}
        Err(e) => driven.failure = Some(e),
    }
    session.end().await;
    driven
}

fn open(output: &CommandOutput) -> Result<Option<File>, OutputError> {
    let path = match output {
        CommandOutput::Stderr => return Ok(None),
        CommandOutput::Null => std::path::Path::new("/dev/null"),
        CommandOutput::File(path) => path,
    };
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(path);
    file.map(Some).map_err(|source| OutputError::CommandOutput { path: path.to_owned(), source })
}

/// A server from before would be measured in the place of the one that the command starts.
async fn nobody_answers(endpoint: &Endpoint) -> Result<(), RunError> {
    let Some((host, port)) = endpoint.address() else { return Ok(()) };
    // A name that nobody knows yet has no server.
    let Ok(addresses) = lookup_host((host.as_str(), port)).await else { return Ok(()) };
    for address in addresses {
        if matches!(timeout(CONNECT_LIMIT, TcpStream::connect(address)).await, Ok(Ok(_))) {
            return Err(RunError::EndpointTaken { url: endpoint.to_string() });
        }
    }
    Ok(())
}

fn found(command: &Launched<'_>) -> Found {
    let (cgroup, how) = match command.cgroup() {
        Ok(placed) => {
            let cgroup = CgroupTarget {
                dir: placed.dir.clone().into(),
                name: placed.name.clone(),
                id: placed.id,
                below_own: 1,
                strict: false,
            };
            (Some(cgroup), "started by exec, in a cgroup of its own".to_owned())
        }
        Err(why) => (None, format!("started by exec, without a cgroup of its own: {why}")),
    };
    Found { roots: vec![command.pid()], cgroup, descendants: true, how }
}

/// Only the kernel tracker follows a cgroup; any other follows the command's tree.
fn observe(plan: &ObservePlan, found: Found) -> Result<(Observer, Found), ObserveError> {
    let tree = || Found { cgroup: None, how: "started by exec".to_owned(), ..found.clone() };
    let tree_only = plan.tracker == TrackerChoice::Proc && found.cgroup.is_some();
    let found = if tree_only { tree() } else { found.clone() };
    match Observer::start(plan, &found) {
        Err(ObserveError::CgroupNeedsEbpf(_)) => Ok((Observer::start(plan, &tree())?, tree())),
        started => Ok((started?, found)),
    }
}

fn target_found(found: Found, exit: Option<ExitStatus>, ready: Option<Mono>) -> TargetFound {
    TargetFound {
        roots: found.roots,
        cgroup: found.cgroup.map(|c| c.name),
        exit,
        ready,
        how_found: found.how,
        descendants: found.descendants,
        none_reason: None,
    }
}

/// The end of the command as the tracker saw it: where the janitor could not tell.
fn seen_exit(observation: &Observation, pid: u32) -> Option<ExitStatus> {
    observation.processes.iter().find(|p| p.pid == pid)?.exit
}

/// A daemon, or what the command did not wait for.
fn left_running(observation: &Observation, pid: u32) -> Option<Validity> {
    let left = observation.processes.iter().filter(|p| p.exited.is_none() && p.pid != pid).count();
    let message = format!("{left} processes that the command left running were left alone");
    (left > 0).then(|| for_the_record("left_running", message))
}

pub(super) fn in_words(exit: ExitStatus) -> String {
    let core = if exit.core_dumped { ", core dumped" } else { "" };
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}{core}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

fn for_the_record(code: &str, message: String) -> Validity {
    Validity { level: Level::Ok, code: code.to_owned(), message }
}
