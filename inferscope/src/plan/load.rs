//! The load's plan: what to send, when, and to whom.
//!
//! Owns the types of the plan; `flags` fills them in. Pure. Read by `load` and by the figures.

mod flags;

use std::path::PathBuf;

use super::Endpoint;
use super::observe::MAX_MEMORY;
use crate::units::Nanos;

pub(super) use flags::{plan, secrets_in};

/// What to send.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    pub endpoint: Endpoint,
    /// `None`: the one that the server lists.
    pub model: Option<String>,
    pub api: Api,
    pub prompts: PromptPlan,
    pub max_tokens: u32,
    pub ignore_eos: bool,
    pub temperature: f64,
    pub seed: Option<i64>,
    /// Merged over the request's body, which it overrides.
    pub extra_body: serde_json::Map<String, serde_json::Value>,
    /// The steps, one after another; more than one with `--sweep`. Never empty.
    pub steps: Vec<Shape>,
    /// What differs between the steps.
    pub sweep: Option<Sweep>,
    /// Measurements of each step.
    pub repeat: u32,
    /// Requests of each step and repetition. `None`: as many as the duration allows, or each prompt of the file once.
    pub requests: Option<u64>,
    /// Requests before them, marked and in no figure.
    pub warmup: u64,
    /// Time of the measured part after which no request starts.
    pub duration: Option<Nanos>,
    /// Time from no load to the full load. Requests of that time are warm-up.
    pub ramp_up: Nanos,
    /// Most requests in flight, in an open loop.
    pub max_in_flight: u32,
    /// The seed of arrival times and of synthetic prompts. Without `--load-seed` it is random, so that neither chance
    /// nor a cache repeats itself.
    pub load_seed: u64,
    pub slo: Option<Slo>,
    /// Exit with code 4 if a request misses the level.
    pub fail_on_slo: bool,
    pub http: HttpPlan,
}

/// The prompts of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptPlan {
    /// Our own question, with a different beginning in each request.
    BuiltIn,
    Text(String),
    /// One prompt a line.
    Lines(PathBuf),
    Dataset(PathBuf),
    /// About this many tokens, the first `shared_prefix` of them the same for all.
    Synthetic {
        tokens: u32,
        shared_prefix: u32,
    },
}

/// The sending times of a step's requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A request waits for a free slot.
    Closed { concurrency: u32 },
    /// This many a second, whatever the server does.
    Open { per_second: f64, arrival: Arrival },
    /// The data set's timestamps; one after another if it has none.
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Poisson,
    Constant,
}

/// What a sweep varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    pub over: SweepOver,
    /// The sweep goes on after the server is saturated.
    pub all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepOver {
    Concurrency,
    Rate,
}

/// A service level for each request. At least one field is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slo {
    pub ttft: Option<Nanos>,
    pub ttfo: Option<Nanos>,
    /// For each gap between two chunks with text, because a mean would hide a stall.
    pub itl: Option<Nanos>,
    /// For the mean time for each token.
    pub tpot: Option<Nanos>,
    pub e2e: Option<Nanos>,
}

#[derive(Debug, Clone)]
pub struct HttpPlan {
    /// The time limit of one request, from its sending to its last byte.
    pub timeout: Nanos,
    pub headers: Vec<(String, String)>,
    pub api_key: Option<Secret>,
    pub cacert: Option<PathBuf>,
    pub insecure: bool,
    /// The memory limit of the whole process, in bytes.
    pub max_memory: u64,
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

impl LoadPlan {
    /// One request to `endpoint`, with the defaults of all flags.
    #[must_use]
    pub fn to(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            model: None,
            api: Api::Chat,
            prompts: PromptPlan::BuiltIn,
            max_tokens: 128,
            ignore_eos: false,
            temperature: 0.0,
            seed: None,
            extra_body: serde_json::Map::new(),
            steps: vec![Shape::Closed { concurrency: 1 }],
            sweep: None,
            repeat: 1,
            requests: Some(1),
            warmup: 0,
            duration: None,
            ramp_up: Nanos::ZERO,
            max_in_flight: 10_000,
            load_seed: 0,
            slo: None,
            fail_on_slo: false,
            http: HttpPlan {
                timeout: Nanos::from_millis(120_000),
                headers: Vec::new(),
                api_key: None,
                cacert: None,
                insecure: false,
                max_memory: MAX_MEMORY,
            },
        }
    }
}

impl Shape {
    /// The height of the load, which a sweep raises: slots, or requests a second.
    #[must_use]
    pub fn height(self) -> f64 {
        match self {
            Self::Closed { concurrency } => f64::from(concurrency),
            Self::Open { per_second, .. } => per_second,
            Self::Trace => 0.0,
        }
    }
}
