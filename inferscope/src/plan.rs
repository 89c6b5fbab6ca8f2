//! Arguments become a validated plan.
//!
//! Owns the decisions that need no look at the system: defaults, limits, what excludes what, the
//! normal form of an endpoint. Pure: never opens, connects or reads a clock. Called by `main`, read by
//! `run`, `load`, `observe` and `analysis`.

mod argv;
mod endpoint;
mod exec;
mod observe;

use std::path::PathBuf;

use crate::cli;
use crate::units::Nanos;

pub use endpoint::Endpoint;
pub use exec::{CommandOutput, CommandPlan};
pub use observe::{GpuChoice, ObservePlan, TargetPlan, TrackerChoice};

use argv::{mask_argv, mask_with_command};

/// One run, decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The subcommand, as the report names it.
    pub command: &'static str,
    /// `None`: nothing is sent.
    pub load: Option<LoadPlan>,
    /// `observe`, and `exec` without a load: end after this long.
    pub observe_for: Option<Nanos>,
    /// `exec`: what to start; it is the target.
    pub exec: Option<CommandPlan>,
    pub observe: ObservePlan,
    pub output: OutputPlan,
    /// As typed, secrets masked.
    pub argv: Vec<String>,
}

/// What to send.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    pub endpoint: Endpoint,
    /// `None`: ask the server.
    pub model: Option<String>,
    pub api: Api,
    pub prompt: String,
    pub max_tokens: u32,
    pub ignore_eos: bool,
    pub temperature: f64,
    pub seed: Option<i64>,
    /// Merged over the request's body; wins over it.
    pub extra_body: serde_json::Map<String, serde_json::Value>,
    pub requests: u64,
    /// Sent first, marked, left out of every figure.
    pub warmup: u64,
    /// No request is started after this much of the measured part.
    pub duration: Option<Nanos>,
    pub http: HttpPlan,
}

#[derive(Debug, Clone)]
pub struct HttpPlan {
    /// For one request, from its sending to its last byte.
    pub timeout: Nanos,
    pub headers: Vec<(String, String)>,
    pub api_key: Option<Secret>,
    pub cacert: Option<PathBuf>,
    pub insecure: bool,
}

/// A value that never reaches a report or a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the request that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Chat,
    Completions,
}

impl Api {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
        }
    }
}

/// Where the report goes.
#[derive(Debug, Clone)]
pub struct OutputPlan {
    /// JSON on stdout instead of text.
    pub json: bool,
    /// JSON into this file as well.
    pub file: Option<PathBuf>,
    /// No report text on stdout, no progress.
    pub quiet: bool,
    pub color: ColorChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// Arguments that make no plan. Exit 2.
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

/// 256 KiB lost nothing in 100,000 forks (FACTS.md); twice that costs nothing.
const DEFAULT_RING_BYTES: u32 = 512 << 10;
/// Some 100 MB of report at most.
const DEFAULT_MAX_PROCESSES: usize = 200_000;

/// What the environment holds that a plan needs.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub openai_base_url: Option<String>,
    pub api_key: Option<String>,
}

/// The plan of `inferscope [profile]`.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn profile(args: &cli::ProfileArgs, env: &Environment, argv: &[String]) -> Result<Plan, PlanError> {
    let endpoint = args.endpoint.as_deref().or(env.openai_base_url.as_deref());
    let endpoint = Endpoint::parse(endpoint.ok_or(PlanError::NoEndpoint)?)?;
    let target = observe::target(&args.target, Some(&endpoint))?;
    let load = load(&args.load, endpoint, env)?;
    Ok(Plan {
        command: "profile",
        load: Some(load),
        observe_for: None,
        exec: None,
        observe: observe::observe(&args.observe, target)?,
        output: output(&args.output),
        argv: mask_argv(argv),
    })
}

/// The plan of `inferscope observe`.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn observe(args: &cli::ObserveCommandArgs, argv: &[String]) -> Result<Plan, PlanError> {
    let endpoint = args.endpoint.as_deref().map(Endpoint::parse).transpose()?;
    let target = observe::target(&args.target, endpoint.as_ref())?;
    if target == TargetPlan::None {
        return Err(PlanError::NoTarget);
    }
    Ok(Plan {
        command: "observe",
        load: None,
        observe_for: args.duration.map(Nanos::from),
        exec: None,
        observe: observe::observe(&args.observe, target)?,
        output: output(&args.output),
        argv: mask_argv(argv),
    })
}

/// The plan of `inferscope exec`.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn exec(args: &cli::ExecArgs, env: &Environment, argv: &[String]) -> Result<Plan, PlanError> {
    let command = exec::command(args)?;
    // Whom to drive is said here: a variable that is set for other programs starts no load.
    let endpoint = args.endpoint.as_deref().map(Endpoint::parse).transpose()?;
    let load = match endpoint {
        Some(endpoint) => Some(load(&args.load, endpoint, env)?),
        None => {
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
        output: output(&args.output),
        argv: mask_with_command(argv),
    })
}

/// The plan of `inferscope demo`, for the server that was started: the given pid is the wrapper's.
///
/// # Errors
/// [`PlanError`], with the flag and its remedy.
pub fn demo(args: &cli::DemoArgs, port: u16, wrapper_pid: u32, argv: &[String]) -> Result<Plan, PlanError> {
    at_least_one("requests", args.requests)?;
    Ok(Plan {
        command: "demo",
        observe_for: None,
        exec: None,
        load: Some(LoadPlan {
            endpoint: Endpoint::parse(&format!("http://127.0.0.1:{port}"))?,
            model: None,
            api: Api::Chat,
            prompt: "Explain in a few sentences why the sky is blue.".to_owned(),
            max_tokens: 32,
            ignore_eos: false,
            temperature: 0.0,
            seed: None,
            extra_body: serde_json::Map::new(),
            requests: args.requests,
            warmup: 1,
            duration: None,
            http: HttpPlan {
                timeout: Nanos::from_millis(30_000),
                headers: Vec::new(),
                api_key: None,
                cacert: None,
                insecure: false,
            },
        }),
        observe: ObservePlan {
            target: TargetPlan::Pid { pid: wrapper_pid, descendants: true },
            tracker: args.tracker.into(),
            ring_bytes: DEFAULT_RING_BYTES,
            max_processes: DEFAULT_MAX_PROCESSES,
            sample_interval: Nanos::from_millis(50),
            gpu: GpuChoice::Auto,
            nvml_lib: None,
        },
        output: output(&args.output),
        argv: mask_argv(argv),
    })
}

fn load(args: &cli::LoadArgs, endpoint: Endpoint, env: &Environment) -> Result<LoadPlan, PlanError> {
    at_least_one("requests", args.requests)?;
    at_least_one("max-tokens", u64::from(args.max_tokens))?;
    if !args.temperature.is_finite() || args.temperature < 0.0 {
        return Err(PlanError::Range {
            flag: "temperature",
            value: args.temperature.to_string(),
            remedy: "give a number from 0",
        });
    }
    if args.timeout.is_zero() {
        return Err(PlanError::Range {
            flag: "timeout",
            value: "0".into(),
            remedy: "give a time such as 60s",
        });
    }
    let extra_body = match args.extra_body.as_deref().map(serde_json::from_str) {
        None => serde_json::Map::new(),
        Some(Ok(serde_json::Value::Object(map))) => map,
        Some(Ok(_)) => return Err(extra_body_error("it is not an object".into())),
        Some(Err(e)) => return Err(extra_body_error(e.to_string())),
    };
    let headers = args.headers.iter().map(|h| header(h)).collect::<Result<_, _>>()?;
    Ok(LoadPlan {
        endpoint,
        model: args.model.clone(),
        api: args.api.into(),
        prompt: args.prompt.clone(),
        max_tokens: args.max_tokens,
        ignore_eos: args.ignore_eos,
        temperature: args.temperature,
        seed: args.seed,
        extra_body,
        requests: args.requests,
        warmup: args.warmup,
        duration: args.duration.map(Nanos::from),
        http: HttpPlan {
            timeout: args.timeout.into(),
            headers,
            api_key: env.api_key.clone().filter(|k| !k.is_empty()).map(Secret::new),
            cacert: args.cacert.clone(),
            insecure: args.insecure,
        },
    })
}

fn extra_body_error(why: String) -> PlanError {
    PlanError::Value {
        what: "--extra-body".into(),
        why,
        remedy: "give a JSON object, such as '{\"top_p\": 0.9}'",
    }
}

fn header(text: &str) -> Result<(String, String), PlanError> {
    let error = |why: &str| PlanError::Value {
        // The value may be a secret; the name isn't.
        what: format!("header '{}'", text.split(':').next().unwrap_or_default()),
        why: why.to_owned(),
        remedy: "write -H 'Name: value'",
    };
    let (name, value) = text.split_once(':').ok_or_else(|| error("it has no colon"))?;
    let name = name.trim();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    {
        return Err(error("its name is not a header name"));
    }
    let value = value.trim();
    if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err(error("its value holds a control character"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn output(args: &cli::OutputArgs) -> OutputPlan {
    OutputPlan { json: args.json, file: args.output.clone(), quiet: args.quiet, color: args.color.into() }
}

fn at_least_one(flag: &'static str, value: u64) -> Result<(), PlanError> {
    if value == 0 {
        return Err(PlanError::Range { flag, value: "0".into(), remedy: "give a number from 1" });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
