//! The command of `exec`: how it is started, observed and reported.
//!
//! Owns the look whether somebody else has its endpoint, its output, the target that it is, and what a reader should know of its
//! end. Never waits for it (`supervisor` does). Called by `session`, `session::start` and `session::finish`.

use std::fs::File;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::RunError;
use super::events::set_sink;
use super::output::OutputError;
use super::supervisor::{Over, in_words};
use super::target::Observed;
use crate::aggregate::Aggregates;
use crate::aggregate::command::CommandPart;
use crate::event::{ExitStatus, Observation};
use crate::hub::Sender;
use crate::launch::Launched;
use crate::observe::target_discovery::{CgroupTarget, Found};
use crate::observe::{ObserveError, Observer};
use crate::plan::{CommandOutput, CommandPlan, Endpoint, ObservePlan, Plan, TrackerChoice};
use crate::signals::Signals;
use crate::verdict::doubt::{Doubt, DoubtCode};

/// For the look whether somebody else has the endpoint.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Forks it; it waits to be let run.
pub(super) fn start<'s>(plan: &CommandPlan, signals: &'s Signals) -> Result<Launched<'s>, RunError> {
    let output = open(&plan.output)?;
    if signals.came() {
        return Err(RunError::Interrupted);
    }
    Ok(Launched::start(&plan.argv, output, plan.grace, signals)?)
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
pub(super) async fn endpoint_is_free(plan: &Plan, signals: &Signals) -> Result<(), RunError> {
    let Some(load) = &plan.load else { return Ok(()) };
    tokio::select! {
        biased;
        // Left unread: the supervisor reads them.
        () = signals.pending() => Err(RunError::Interrupted),
        free = nobody_answers(&load.endpoint) => free,
    }
}

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

/// The target that it is.
pub(super) fn found(command: &Launched<'_>) -> Found {
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
pub(super) fn observe(
    plan: &ObservePlan,
    found: Found,
    set: &Sender<Aggregates>,
) -> Result<Observed, RunError> {
    let tree = || Found { cgroup: None, how: "started by exec".to_owned(), ..found.clone() };
    let tree_only = plan.tracker == TrackerChoice::Proc && found.cgroup.is_some();
    let found = if tree_only { tree() } else { found.clone() };
    match Observer::start(plan, &found, set_sink(set)) {
        // Nothing was sent yet.
        Err(ObserveError::CgroupNeedsEbpf(_)) => {
            Ok(Observed::by(Observer::start(plan, &tree(), set_sink(set))?, tree()))
        }
        started => Ok(Observed::by(started?, found)),
    }
}

/// What there is to know at the end of a run.
pub(super) struct Ended {
    pub(super) over: Over,
    pub(super) part: CommandPart,
    pub(super) is_load_measured: bool,
}

/// What a reader should know of it.
pub(super) struct Facts {
    pub(super) exit: Option<ExitStatus>,
    pub(super) notes: Vec<Doubt>,
    /// To be printed beside the report.
    pub(super) message: Option<String>,
}

/// Lets go of what still lives of it.
pub(super) fn release(command: Launched<'_>, ended: &Ended, observation: Option<&Observation>) -> Facts {
    let mut notes = Vec::new();
    if let Err(why) = command.cgroup() {
        let message =
            format!("the command has no cgroup of its own ({why}): it was followed as a process tree");
        notes.push(Doubt::for_the_record(DoubtCode::NoOwnCgroup, message));
    }
    let pid = command.pid();
    let left = command.release();
    notes.extend(ended.over.notes(ended.is_load_measured, &left));
    notes.extend(ended.part.started.zip(ended.part.ready).map(|(started, ready)| {
        let message = format!(
            "the server answered {:.2} s after the command was started; the load began after that, the \
             processes' figures hold the start too",
            ready.since(started).as_secs_f64()
        );
        Doubt::for_the_record(DoubtCode::ServerReady, message)
    }));
    let exit =
        ended.part.exited.map(|(_, status)| status).or_else(|| observation.and_then(|o| seen_exit(o, pid)));
    let mut message = None;
    if !ended.over.by_us {
        notes.extend(observation.and_then(|o| left_running(o, pid)));
        let failed = exit.filter(|e| e.code != Some(0));
        message = failed.map(|exit| format!("the command ended with {}", in_words(exit)));
    }
    Facts { exit, notes, message }
}

/// The end of the command as the tracker saw it: where the janitor could not tell.
fn seen_exit(observation: &Observation, pid: u32) -> Option<ExitStatus> {
    observation.processes.iter().find(|p| p.pid == pid)?.exit
}

/// A daemon, or what the command did not wait for.
fn left_running(observation: &Observation, pid: u32) -> Option<Doubt> {
    let left = observation.processes.iter().filter(|p| p.exited.is_none() && p.pid != pid).count();
    let message = format!("{left} processes that the command left running were left alone");
    (left > 0).then(|| Doubt::for_the_record(DoubtCode::LeftRunning, message))
}
