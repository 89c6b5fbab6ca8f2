//! Arguments become a validated plan.
//!
//! Owns the decisions that need no look at the system: defaults, limits, what excludes what, the
//! normal form of an endpoint. Pure: never opens, connects or reads a clock. Called by `main`, read by
//! `run`, `load`, `observe` and `analysis`.

use std::path::PathBuf;

use url::Url;

use crate::cli;
use crate::secrets::without_credentials;
use crate::units::Nanos;

/// One run, decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The subcommand, as the report names it.
    pub command: &'static str,
    pub load: LoadPlan,
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

/// A server's base URL, normalised to end in `/v1/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Takes the URL with or without `/v1`, with or without a trailing slash; a bare `host:port`
    /// means http.
    ///
    /// # Errors
    /// What is no http(s) URL with a host, or carries a user, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let malformed =
            |why: &str| PlanError::Endpoint { url: without_credentials(text), why: why.to_owned() };
        let trimmed = text.trim();
        let with_scheme =
            if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
        let mut url = Url::parse(&with_scheme).map_err(|e| malformed(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(malformed("the scheme is neither http nor https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(malformed("it has no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("it holds credentials; pass them with -H or --api-key-env"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(malformed("it has a query or a fragment"));
        }
        let mut path = url.path().trim_end_matches('/').to_owned();
        if !path.ends_with("/v1") {
            path.push_str("/v1");
        }
        path.push('/');
        url.set_path(&path);
        Ok(Self(url))
    }

    /// `…/v1/` joined with `path`, which has no leading slash.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path()));
        url
    }

    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// The port, where the host is this machine's loopback.
    #[must_use]
    pub fn loopback_port(&self) -> Option<u16> {
        let loopback = match self.0.host()? {
            url::Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
        };
        loopback.then(|| self.0.port_or_known_default()).flatten()
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// What to watch, and how.
#[derive(Debug, Clone)]
pub struct ObservePlan {
    pub target: TargetPlan,
    pub tracker: TrackerChoice,
    pub sample_interval: Nanos,
    pub gpu: GpuChoice,
    pub nvml_lib: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetPlan {
    /// `--pid`, with or without its descendants.
    Pid { pid: u32, descendants: bool },
    /// The process that listens on this loopback port, and its tree.
    Listener { port: u16 },
    /// The endpoint is elsewhere: only the client's side is measured.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackerChoice {
    /// eBPF where it can be loaded, else /proc.
    Auto,
    /// eBPF or exit 5.
    Ebpf,
    Proc,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuChoice {
    /// Where there is NVML.
    Auto,
    Off,
    /// Every device, or exit 5.
    All,
    /// Indices or UUIDs.
    These(Vec<String>),
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
    #[error("--{flag} {value} is out of range\n  {remedy}")]
    Range { flag: &'static str, value: String, remedy: &'static str },
    #[error("{what} is not valid: {why}\n  {remedy}")]
    Value { what: String, why: String, remedy: &'static str },
    #[error("{what} can't be used together\n  {remedy}")]
    Conflict { what: &'static str, remedy: &'static str },
}

/// Bounds of `--sample-interval`: below 1 ms the sampler would measure itself.
const SAMPLE_INTERVAL: std::ops::RangeInclusive<Nanos> = Nanos::from_millis(1)..=Nanos::from_millis(60_000);

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
    let target = target(&args.observe, &endpoint)?;
    let load = load(&args.load, endpoint, env)?;
    Ok(Plan {
        command: "profile",
        load,
        observe: observe(&args.observe, target)?,
        output: output(&args.output),
        argv: mask_argv(argv),
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
        load: LoadPlan {
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
        },
        observe: ObservePlan {
            target: TargetPlan::Pid { pid: wrapper_pid, descendants: true },
            tracker: args.tracker.into(),
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

fn target(args: &cli::ObserveArgs, endpoint: &Endpoint) -> Result<TargetPlan, PlanError> {
    match (args.pid, args.no_descendants) {
        (Some(0), _) => Err(PlanError::Range {
            flag: "pid",
            value: "0".into(),
            remedy: "give the pid of a process, or leave it out to find the endpoint's listener",
        }),
        (Some(pid), no_descendants) => Ok(TargetPlan::Pid { pid, descendants: !no_descendants }),
        (None, true) => Err(PlanError::Conflict {
            what: "--no-descendants without --pid",
            remedy: "name the process with --pid N",
        }),
        (None, false) => {
            Ok(endpoint.loopback_port().map_or(TargetPlan::None, |port| TargetPlan::Listener { port }))
        }
    }
}

fn observe(args: &cli::ObserveArgs, target: TargetPlan) -> Result<ObservePlan, PlanError> {
    let sample_interval = Nanos::from(args.sample_interval);
    if !SAMPLE_INTERVAL.contains(&sample_interval) {
        return Err(PlanError::Range {
            flag: "sample-interval",
            value: humantime::format_duration(args.sample_interval).to_string(),
            remedy: "give a time from 1ms to 60s",
        });
    }
    Ok(ObservePlan {
        target,
        tracker: args.tracker.into(),
        sample_interval,
        gpu: gpu(&args.gpu)?,
        nvml_lib: args.nvml_lib.clone(),
    })
}

fn gpu(text: &str) -> Result<GpuChoice, PlanError> {
    match text.trim() {
        "auto" => Ok(GpuChoice::Auto),
        "off" => Ok(GpuChoice::Off),
        "all" => Ok(GpuChoice::All),
        list => {
            let names: Vec<String> = list.split(',').map(|n| n.trim().to_owned()).collect();
            let known =
                |n: &String| n.parse::<u32>().is_ok() || n.starts_with("GPU-") || n.starts_with("MIG-");
            if !names.iter().all(known) {
                return Err(PlanError::Value {
                    what: format!("--gpu {list}"),
                    why: "it names neither a mode nor devices".into(),
                    remedy: "give auto, off, all, indices such as 0,2, or UUIDs such as GPU-…",
                });
            }
            Ok(GpuChoice::These(names))
        }
    }
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

/// The command line as the report may show it: header values and request extras are left out
/// (either may hold a key), and so are URL credentials.
fn mask_argv(argv: &[String]) -> Vec<String> {
    const SECRET_FLAGS: [&str; 3] = ["-H", "--header", "--extra-body"];
    let mut masked = Vec::with_capacity(argv.len());
    let mut value_of: Option<&str> = None;
    for arg in argv {
        if let Some(flag) = value_of.take() {
            masked.push(mask_value(flag, arg));
        } else if SECRET_FLAGS.contains(&arg.as_str()) {
            value_of = Some(arg);
            masked.push(arg.clone());
        } else if let Some((flag, value)) = arg.split_once('=').filter(|(f, _)| SECRET_FLAGS.contains(f)) {
            masked.push(format!("{flag}={}", mask_value(flag, value)));
        } else if let Some(value) = arg.strip_prefix("-H") {
            masked.push(format!("-H{}", mask_value("-H", value)));
        } else {
            masked.push(without_credentials(arg));
        }
    }
    masked
}

fn mask_value(flag: &str, value: &str) -> String {
    match value.split_once(':') {
        Some((name, _)) if flag != "--extra-body" => format!("{name}: ***"),
        _ => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests;
