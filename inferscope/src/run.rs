//! One run, from a plan to a report.
//!
//! Owns every spawn, join and shutdown, and their order: the output is proved writable and the
//! endpoint reachable before anything is measured, the observer starts before the load and ends
//! after it, and whatever ends the load (its own end, Ctrl-C, a dead server) the report is still written.
//! Called by `main`.

mod host;
mod output;

use crate::analysis::{self, Inputs, TargetFound};
use crate::clock::{Mono, Origin};
use crate::demo::{DemoError, Wrapped};
use crate::event::{FailureKind, GpuLog, LoadLog, Observation};
use crate::load::{Driver, LoadError, Resent};
use crate::observe::gpu::{GpuError, Poller};
use crate::observe::target::{self, Found, TargetError};
use crate::observe::{ObserveError, Observer};
use crate::plan::{LoadPlan, Plan, TargetPlan};
use crate::report::model::{Level, Mode, Own, Report, Tool, Validity};
use crate::units::Nanos;

pub use output::{OutputError, Sink};

/// Exit codes of CONTRACT.md.
pub mod exit {
    pub const OK: u8 = 0;
    pub const INTERNAL: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const NOTHING_MEASURED: u8 = 3;
    pub const PRIVILEGE_MISSING: u8 = 5;
    pub const INTERRUPTED: u8 = 130;
}

/// Why a run gave no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error("no measured request succeeded ({failed} failed): {example}\n  {remedy}")]
    AllFailed { failed: usize, example: String, remedy: &'static str },
    #[error("the observing thread panicked\n  please report this as a bug")]
    ObserverPanicked,
    #[error("the plan has nothing to send\n  please report this as a bug")]
    NothingToSend,
    #[error("{what}: {source}\n  check the limits on processes and open files")]
    System { what: &'static str, source: std::io::Error },
}

impl RunError {
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Load(e) if e.is_usage() => exit::USAGE,
            Self::Load(_)
            | Self::Target(_)
            | Self::AllFailed { .. }
            | Self::Observe(ObserveError::TargetGone(_)) => exit::NOTHING_MEASURED,
            Self::Observe(ObserveError::Tracker(_) | ObserveError::CgroupNeedsEbpf(_)) | Self::Gpu(_) => {
                exit::PRIVILEGE_MISSING
            }
            Self::Output(OutputError::Unwritable { .. }) => exit::USAGE,
            _ => exit::INTERNAL,
        }
    }
}

/// Runs `plan` and writes its report; the exit code.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn profile(plan: &Plan) -> Result<u8, RunError> {
    let load = plan.load.as_ref().ok_or(RunError::NothingToSend)?;
    let sink = Sink::open(&plan.output)?;
    measure(plan, load, Mode::Profile, &sink)
}

/// The same against the built-in server, which is started behind a shell and ended here. `plan_for`
/// makes the plan once the server's port and the shell's pid are known.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn demo<E>(
    server_args: &[String],
    plan_for: impl FnOnce(u16, u32) -> Result<Plan, E>,
) -> Result<Result<u8, RunError>, E> {
    let exe = match std::env::current_exe() {
        Ok(exe) => exe,
        Err(source) => {
            return Ok(Err(RunError::System { what: "inferscope's own file can't be found", source }));
        }
    };
    let mut server = match Wrapped::start(&exe, server_args) {
        Ok(server) => server,
        Err(e) => return Ok(Err(e.into())),
    };
    let plan = plan_for(server.port, server.wrapper_pid)?;
    let run = || {
        let load = plan.load.as_ref().ok_or(RunError::NothingToSend)?;
        let sink = Sink::open(&plan.output)?;
        measure(&plan, load, Mode::Demo, &sink)
    };
    let result = run();
    server.stop();
    Ok(result)
}

/// Observes a target and sends nothing, until Ctrl-C, the plan's time or the target's end; the exit code.
///
/// # Errors
/// [`RunError`], when there is no report to write.
pub fn observe(plan: &Plan) -> Result<u8, RunError> {
    let sink = Sink::open(&plan.output)?;
    raise_file_limit();
    let runtime = runtime()?;
    let origin = Origin::now();
    let found = target::find(&plan.observe.target)?;
    if found.is_none() {
        return Err(TargetError::NotFound(found.how).into());
    }
    let observer = Observer::start(&plan.observe, &found)?;
    let gpu = Poller::start(&plan.observe)?;
    let interrupted = runtime.block_on(watch(observer.target_ended(), plan.observe_for))?;
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

/// Until Ctrl-C or SIGTERM (true), the time or the target's end.
async fn watch(
    mut target_ended: tokio::sync::watch::Receiver<bool>,
    time: Option<Nanos>,
) -> Result<bool, RunError> {
    let mut stop = Signals::new()?;
    let end = async {
        match time {
            Some(time) => tokio::time::sleep(time.to_duration()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.recv() => Ok(true),
        () = end => Ok(false),
        _ = target_ended.wait_for(|ended| *ended) => Ok(false),
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        use tokio::signal::unix::{SignalKind, signal};
        let handler = |kind| {
            signal(kind).map_err(|source| RunError::System { what: "a signal can't be handled", source })
        };
        Ok(Self {
            interrupt: handler(SignalKind::interrupt())?,
            terminate: handler(SignalKind::terminate())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, RunError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RunError::System { what: "the runtime can't be started", source })
}

fn measure(plan: &Plan, load: &LoadPlan, mode: Mode, sink: &Sink) -> Result<u8, RunError> {
    raise_file_limit();
    let runtime = runtime()?;
    let origin = Origin::now();
    let driver = Driver::new(load)?;
    let found = target::find(&plan.observe.target)?;
    // Before the observer, so that finding the model is in no figure.
    let model = runtime.block_on(driver.resolve_model())?;
    let mut notes = Vec::new();
    let (observer, none_reason) = start_observer(plan, &found, &mut notes)?;
    let gpu = Poller::start(&plan.observe)?;

    let (log, interrupted) = runtime.block_on(drive(&driver, model.as_deref(), load, sink))?;

    notes.extend(said_of(driver.resent()));
    let gpu = gpu.finish();
    let observation = observer.and_then(|o| {
        let observation = o.finish();
        if observation.is_none() {
            notes.push(note("observer_panicked", "the observing thread panicked: what it saw is lost"));
        }
        observation
    });
    let none_reason = if observation.is_some() { None } else { Some(none_reason.unwrap_or_default()) };
    let found = target_found(found, none_reason);
    if let Some(warning) = observation.as_ref().and_then(|o| analysis::idle_target(o, &found)) {
        sink.warn(&warning);
    }
    let failed = if interrupted { None } else { all_failed(&log) };
    let gathered =
        Gathered { origin, interrupted, found, log: Some(log), model, observation, gpu, notes, mode };
    let report = gathered.report(plan);
    match failed {
        // What was measured of the server is in the document, for whom it was asked; a text report
        // without an answer would only hide the error.
        Some(error) => sink.write_document(&report).map_err(RunError::from).and(Err(error)),
        None => {
            sink.write(&report)?;
            Ok(if interrupted { exit::INTERRUPTED } else { exit::OK })
        }
    }
}

fn target_found(found: Found, none_reason: Option<String>) -> TargetFound {
    let none = none_reason.is_some();
    TargetFound {
        roots: if none { Vec::new() } else { found.roots },
        cgroup: found.cgroup.filter(|_| !none).map(|c| c.name),
        how_found: found.how,
        descendants: found.descendants,
        exit: None,
        none_reason,
    }
}

/// The observer, or why there is none.
fn start_observer(
    plan: &Plan,
    found: &Found,
    notes: &mut Vec<Validity>,
) -> Result<(Option<Observer>, Option<String>), RunError> {
    if found.is_none() {
        return Ok((None, Some(found.how.clone())));
    }
    match Observer::start(&plan.observe, found) {
        Ok(observer) => Ok((Some(observer), None)),
        // A target that was only guessed may end; the client's side is still worth having.
        Err(e @ ObserveError::TargetGone(_))
            if matches!(plan.observe.target, TargetPlan::Listener { .. }) =>
        {
            let why = e.to_string().lines().next().unwrap_or_default().to_owned();
            notes.push(note("target_gone", &why));
            Ok((None, Some(why)))
        }
        Err(e) => Err(e.into()),
    }
}

fn note(code: &str, message: &str) -> Validity {
    Validity { level: Level::Warn, code: code.to_owned(), message: message.to_owned() }
}

/// Below this, sending twice changes no latency that anybody acts on.
const RESENT_MATTERS: Nanos = Nanos::from_millis(1);

fn said_of(resent: Resent) -> Option<Validity> {
    let message = format!(
        "{} requests met a connection that the server had just closed and were sent once more: that is in their \
         times, {:.2} ms at most",
        resent.requests,
        resent.longest.as_secs_f64() * 1e3
    );
    let level = if resent.longest < RESENT_MATTERS { Level::Ok } else { Level::Warn };
    (resent.requests > 0).then(|| Validity { level, code: "requests_resent".to_owned(), message })
}

/// Sends the load until it is done or Ctrl-C (or SIGTERM) stops it; whether it was stopped.
async fn drive(
    driver: &Driver,
    model: Option<&str>,
    plan: &LoadPlan,
    sink: &Sink,
) -> Result<(LoadLog, bool), RunError> {
    let mut signals = Signals::new()?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut progress = sink.progress(plan.requests + plan.warmup);
    let mut on_request = |request: &crate::event::RequestLog| progress.advance(request);
    let mut interrupted = false;
    let log = {
        let load = driver.run(model, stopped, &mut on_request);
        tokio::pin!(load);
        loop {
            tokio::select! {
                log = &mut load => break log,
                () = signals.recv() => {}
            }
            interrupted = true;
            let _ = stop.send(true);
        }
    };
    progress.end();
    Ok((log, interrupted))
}

/// The error of a load of which no measured request succeeded.
fn all_failed(log: &LoadLog) -> Option<RunError> {
    let measured = || log.requests.iter().filter(|r| !r.warmup);
    if measured().any(|r| r.failure.is_none()) {
        return None;
    }
    let of = |r: &crate::event::RequestLog| r.failure.clone();
    let failure = measured().find_map(of).or_else(|| log.requests.iter().find_map(of));
    let remedy = match failure.as_ref().map(|f| f.kind) {
        Some(FailureKind::Timeout) => "raise --timeout, or see what keeps the server",
        Some(FailureKind::Connect) => "start the server, or correct --endpoint",
        Some(FailureKind::Status | FailureKind::ServerError) => {
            "correct what the server names, or see its log; -o FILE keeps the report"
        }
        Some(FailureKind::Malformed | FailureKind::Empty) => {
            "check that --endpoint and --api are an OpenAI-compatible server's; -o FILE keeps the report"
        }
        _ => "see the server's log; -o FILE keeps the report",
    };
    let example = failure.map_or_else(|| "none was sent".to_owned(), |f| f.message);
    Some(RunError::AllFailed { failed: measured().count(), example, remedy })
}

struct Gathered {
    origin: Origin,
    interrupted: bool,
    found: TargetFound,
    log: Option<LoadLog>,
    model: Option<String>,
    observation: Option<Observation>,
    gpu: GpuLog,
    notes: Vec<Validity>,
    mode: Mode,
}

impl Gathered {
    fn report(self, plan: &Plan) -> Report {
        let own = self.own();
        analysis::report(Inputs {
            tool: Tool {
                name: "inferscope".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: env!("INFERSCOPE_COMMIT").to_owned(),
            },
            host: host::describe(),
            run_id: format!("{:x}-{:x}", self.origin.unix_ns / 1_000_000, std::process::id()),
            mode: self.mode,
            plan,
            origin: self.origin,
            ended: Mono::now(),
            interrupted: self.interrupted,
            target: self.found,
            load: self.log.as_ref(),
            model: self.model,
            observation: self.observation.as_ref(),
            gpu: &self.gpu,
            notes: self.notes,
            own,
        })
    }

    fn own(&self) -> Own {
        let (cpu_ns, max_rss_bytes) = host::own_usage();
        let kernel = self.observation.as_ref().filter(|o| o.tracker == crate::event::TrackerKind::Ebpf);
        Own {
            cpu_ns,
            max_rss_bytes,
            bpf_run_ns: None,
            bpf_run_count: None,
            bpf_reason: Some("the kernel's bpf_stats are off: they cost more than the program".to_owned()),
            ring_lost: kernel.map(|o| o.loss.ring_full),
            sample_overruns: self.observation.as_ref().map(|o| o.sample_overruns),
            // The rest is the analysis's.
            ..Own::default()
        }
    }
}

/// A descriptor a process is kept: the soft limit of 1,024 is for programs that use select(2). A
/// refusal leaves it: handles are then opened for each reading.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
