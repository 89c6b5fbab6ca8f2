//! The validated plan of a run, from its arguments.
//!
//! Owns the decisions that need no look at the system: defaults, limits, conflicts, the normal form of an endpoint.
//! Pure: never opens, connects or reads a clock. Called by `main`; read by `session`, `load`, `observe` and the
//! figures.

mod endpoint;
mod exec;
mod load;
mod observe;
mod output;

use std::ffi::OsString;

use crate::cli;
use crate::secrets::{self, KnownSecrets, Redact};
use crate::units::Nanos;

pub use endpoint::Endpoint;
pub use exec::{CommandOutput, CommandPlan};
pub use load::{Api, Arrival, HttpPlan, LoadPlan, PromptPlan, Secret, Shape, Slo, Sweep, SweepOver};
pub use observe::{GpuChoice, ObservePlan, Price, TargetPlan, TrackerChoice};
pub use output::{ColorChoice, OutputPlan, PlannedFile};

use output::output;

/// The plan of one run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The subcommand, as the report names it.
    pub command: &'static str,
    /// `None`: the run sends nothing.
    pub load: Option<LoadPlan>,
    /// `observe`, and `exec` without a load: the run ends after this long.
    pub observe_for: Option<Nanos>,
    /// `exec`: the command, which is the target.
    pub exec: Option<CommandPlan>,
    pub observe: ObservePlan,
    pub output: OutputPlan,
    /// The command line as typed, with secrets masked.
    pub argv: Vec<String>,
}

/// Invalid arguments. Exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("malformed endpoint '{url}': {why}\n  give the server's base URL, such as http://127.0.0.1:8000")]
    Endpoint { url: String, why: String },
    #[error("no endpoint given\n  pass --endpoint URL (or set OPENAI_BASE_URL), or try `inferscope demo`")]
    NoEndpoint,
    #[error(
        "no target given\n  pass --pid N, --cgroup PATH, --cgroup-of PID, or --endpoint URL to find its listener"
    )]
    NoTarget,
    #[error("--{flag} {value} is out of range\n  {remedy}")]
    Range { flag: &'static str, value: String, remedy: &'static str },
    #[error("{what} is not valid: {why}\n  {remedy}")]
    Value { what: String, why: String, remedy: &'static str },
    #[error("{what} can't be used together\n  {remedy}")]
    Conflict { what: &'static str, remedy: &'static str },
}

impl PlanError {
    fn if_no_time(flag: &'static str, time: Option<std::time::Duration>) -> Result<(), Self> {
        if time.is_some_and(|time| time.is_zero()) {
            return Err(Self::Range { flag, value: "0".into(), remedy: "give a time such as 60s" });
        }
        Ok(())
    }
}

/// 256 KiB lost nothing in 100,000 forks; twice that costs nothing.
const DEFAULT_RING_BYTES: u32 = 512 << 10;
/// Limits the report to some 100 MB.
const DEFAULT_MAX_PROCESSES: usize = 200_000;

/// The parts of the environment that a plan needs.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub openai_base_url: Option<String>,
    /// The value of the variable that holds the bearer key.
    pub api_key: Option<OsString>,
    /// Values of other variables that look like secrets: keys, passwords of proxies.
    pub secrets: Vec<String>,
    /// A random seed.
    pub drawn_seed: u64,
}

/// The plan of `inferscope [profile]`.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn profile(args: &cli::ProfileArgs, env: &Environment, argv: &[String]) -> Result<Plan, PlanError> {
    let endpoint = args.endpoint.as_deref().or(env.openai_base_url.as_deref());
    let endpoint = Endpoint::parse(endpoint.ok_or(PlanError::NoEndpoint)?)?;
    let target = observe::target(&args.target, Some(&endpoint))?;
    let mut load = load::plan(&args.load, endpoint, env)?;
    load.http.max_memory = observe::max_memory(&args.observe.max_memory)?;
    Ok(Plan {
        command: "profile",
        load: Some(load),
        observe_for: None,
        exec: None,
        observe: observe::observe(&args.observe, target)?,
        output: output(&args.output, known(Some(&args.load), args.output.redact.into(), env)),
        argv: run_argv(argv, args.output.redact.into()),
    })
}

/// The plan of `inferscope observe`.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn observe(
    args: &cli::ObserveCommandArgs,
    env: &Environment,
    argv: &[String],
) -> Result<Plan, PlanError> {
    let endpoint = args.endpoint.as_deref().map(Endpoint::parse).transpose()?;
    let target = observe::target(&args.target, endpoint.as_ref())?;
    if target == TargetPlan::None {
        return Err(PlanError::NoTarget);
    }
    PlanError::if_no_time("duration", args.duration)?;
    Ok(Plan {
        command: "observe",
        load: None,
        observe_for: args.duration.map(Nanos::from),
        exec: None,
        observe: observe::observe(&args.observe, target)?,
        output: output(&args.output, known(None, args.output.redact.into(), env)),
        argv: run_argv(argv, args.output.redact.into()),
    })
}

/// The plan of `inferscope exec`.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn exec(args: &cli::ExecArgs, env: &Environment, argv: &[String]) -> Result<Plan, PlanError> {
    let command = exec::command(args)?;
    // Only a flag can start a load here: a variable that is set for other programs must not.
    let endpoint = args.endpoint.as_deref().map(Endpoint::parse).transpose()?;
    let load = match endpoint {
        Some(endpoint) => {
            let mut load = load::plan(&args.load, endpoint, env)?;
            load.http.max_memory = observe::max_memory(&args.observe.max_memory)?;
            Some(load)
        }
        None => {
            PlanError::if_no_time("duration", args.load.duration)?;
            exec::no_load(&args.load)?;
            None
        }
    };
    Ok(Plan {
        command: "exec",
        observe_for: args.load.duration.filter(|_| load.is_none()).map(Nanos::from),
        load,
        exec: Some(command),
        observe: observe::observe(&args.observe, exec::TARGET)?,
        output: output(&args.output, known(Some(&args.load), args.output.redact.into(), env)),
        argv: run_argv(argv, args.output.redact.into()),
    })
}

/// The plan of `inferscope demo` for the started server. The given pid is the wrapper's.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn demo(
    args: &cli::DemoArgs,
    (port, wrapper_pid): (u16, u32),
    env: &Environment,
    argv: &[String],
) -> Result<Plan, PlanError> {
    at_least_one("requests", args.requests)?;
    Ok(Plan {
        command: "demo",
        observe_for: None,
        exec: None,
        load: Some(LoadPlan {
            max_tokens: 32,
            requests: Some(args.requests),
            warmup: 1,
            load_seed: env.drawn_seed,
            ..LoadPlan::to(Endpoint::parse(&format!("http://127.0.0.1:{port}"))?)
        }),
        observe: ObservePlan {
            target: TargetPlan::Pid { pid: wrapper_pid, descendants: true },
            tracker: args.tracker.into(),
            ring_bytes: DEFAULT_RING_BYTES,
            max_processes: DEFAULT_MAX_PROCESSES,
            max_memory: observe::MAX_MEMORY,
            sample_interval: Nanos::from_millis(50),
            gpu: GpuChoice::Auto,
            nvml_lib: None,
            gpu_baseline: Nanos::from_millis(1_000),
            prices: Vec::new(),
        },
        output: output(&args.output, known(None, args.output.redact.into(), env)),
        argv: run_argv(argv, args.output.redact.into()),
    })
}

/// The values of the arguments and the environment that no text may contain.
#[must_use]
pub fn known(load: Option<&cli::LoadArgs>, redact: Redact, env: &Environment) -> KnownSecrets {
    let mut values = env.secrets.clone();
    values.extend(env.api_key.as_ref().map(|key| key.to_string_lossy().into_owned()));
    let base = env.openai_base_url.iter();
    values.extend(base.flat_map(|url| {
        if url.contains("://") { secrets::of_url(url) } else { secrets::of_url(&format!("http://{url}")) }
    }));
    if let Some(load) = load {
        values.extend(load.headers.iter().flat_map(|h| {
            let (name, value) = h.split_once(':').unwrap_or(("", h));
            secrets::of_header(name.trim(), value.trim())
        }));
        values.extend(load.extra_body.as_deref().map(load::secrets_in).unwrap_or_default());
        values.extend(load.prompt.clone().filter(|_| redact == Redact::Full));
    }
    KnownSecrets::new(values)
}

/// inferscope's own command line, as the report shows it.
fn run_argv(argv: &[String], redact: Redact) -> Vec<String> {
    match redact {
        Redact::Names => secrets::own_arguments(argv),
        Redact::Full => Vec::new(),
        Redact::Off => argv.to_vec(),
    }
}

fn at_least_one(flag: &'static str, value: u64) -> Result<(), PlanError> {
    if value == 0 {
        return Err(PlanError::Range { flag, value: "0".into(), remedy: "give a number from 1" });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
