//! The reading of the load's flags.
//!
//! Owns the defaults that depend on several flags, and the small languages of flags (`--sweep`, `--slo`, `-H`,
//! `--extra-body`). Pure: it only names a prompt file, which `load` reads. Called by `plan`.

use super::{Api, Arrival, HttpPlan, LoadPlan, PromptPlan, Secret, Shape, Slo, Sweep, SweepOver};
use crate::cli;
use crate::plan::observe::MAX_MEMORY;
use crate::plan::{Endpoint, Environment, PlanError, at_least_one};
use crate::secrets;
use crate::units::Nanos;

/// The default variable of the bearer key.
const DEFAULT_KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// Builds the plan from the load's flags.
pub(in crate::plan) fn plan(
    args: &cli::LoadArgs,
    endpoint: Endpoint,
    env: &Environment,
) -> Result<LoadPlan, PlanError> {
    at_least_one("max-tokens", u64::from(args.max_tokens))?;
    at_least_one("repeat", u64::from(args.repeat))?;
    at_least_one("max-in-flight", u64::from(args.max_in_flight))?;
    if !args.temperature.is_finite() || args.temperature < 0.0 {
        return Err(PlanError::Range {
            flag: "temperature",
            value: args.temperature.to_string(),
            remedy: "give a number from 0",
        });
    }
    for (flag, time) in [("timeout", Some(args.timeout)), ("duration", args.duration)] {
        PlanError::if_no_time(flag, time)?;
    }
    let extra_body = match args.extra_body.as_deref().map(serde_json::from_str) {
        None => serde_json::Map::new(),
        Some(Ok(serde_json::Value::Object(map))) => map,
        Some(Ok(_)) => return Err(extra_body_error("it is not an object".into())),
        Some(Err(e)) => return Err(extra_body_error(e.to_string())),
    };
    let headers = args.headers.iter().map(|h| header(h)).collect::<Result<_, _>>()?;
    let (steps, sweep) = steps(args)?;
    Ok(LoadPlan {
        endpoint,
        model: args.model.clone(),
        api: args.api.into(),
        prompts: prompts(args)?,
        max_tokens: args.max_tokens,
        ignore_eos: args.ignore_eos,
        temperature: args.temperature,
        seed: args.seed,
        extra_body,
        requests: requests(args, &steps)?,
        steps,
        sweep,
        repeat: args.repeat,
        warmup: args.warmup,
        duration: args.duration.map(Nanos::from),
        ramp_up: args.ramp_up.map_or(Nanos::ZERO, Nanos::from),
        max_in_flight: args.max_in_flight,
        load_seed: args.load_seed.or(args.seed.map(i64::cast_unsigned)).unwrap_or(env.drawn_seed),
        slo: args.slo.as_deref().map(slo).transpose()?,
        fail_on_slo: args.fail_on_slo,
        http: HttpPlan {
            timeout: args.timeout.into(),
            headers,
            api_key: api_key(&args.api_key_env, env)?,
            cacert: args.cacert.clone(),
            insecure: args.insecure,
            max_memory: MAX_MEMORY,
        },
    })
}

/// Most slots of a closed loop. Each one holds a connection.
const MOST_CONCURRENT: u32 = 100_000;

fn prompts(args: &cli::LoadArgs) -> Result<PromptPlan, PlanError> {
    let given = [
        args.prompt.is_some(),
        args.prompt_file.is_some(),
        args.dataset.is_some(),
        args.input_tokens.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(PlanError::Conflict {
            what: "--prompt, --prompt-file, --dataset and --input-tokens",
            remedy: "say in one way what to ask",
        });
    }
    Ok(match (&args.prompt_file, &args.dataset, args.input_tokens) {
        (Some(file), ..) => PromptPlan::Lines(file.clone()),
        (_, Some(file), _) => PromptPlan::Dataset(file.clone()),
        (.., Some(tokens)) => {
            at_least_one("input-tokens", u64::from(tokens))?;
            let shared_prefix = args.shared_prefix.unwrap_or(0);
            if shared_prefix >= tokens {
                return Err(PlanError::Range {
                    flag: "shared-prefix",
                    value: shared_prefix.to_string(),
                    remedy: "give less than --input-tokens: no two prompts are alike",
                });
            }
            PromptPlan::Synthetic { tokens, shared_prefix }
        }
        _ => args.prompt.clone().map_or(PromptPlan::BuiltIn, PromptPlan::Text),
    })
}

fn steps(args: &cli::LoadArgs) -> Result<(Vec<Shape>, Option<Sweep>), PlanError> {
    let arrival = args.arrival.into();
    let closed = |concurrency| Shape::Closed { concurrency };
    let open = |per_second| Shape::Open { per_second, arrival };
    let Some(text) = &args.sweep else {
        let shape = match (args.rate, args.concurrency) {
            (Some(rate), _) => open(in_range("rate", rate)?),
            (None, None) if args.dataset.is_some() => Shape::Trace,
            (None, concurrency) => closed(slots("concurrency", concurrency.unwrap_or(1))?),
        };
        return Ok((vec![shape], None));
    };
    let error = |why: String| PlanError::Value {
        what: "--sweep".into(),
        why,
        remedy: "write --sweep concurrency=1,2,4,8 or --sweep rate=0.5,1,2",
    };
    let (over, values) = text.split_once('=').ok_or_else(|| error("it has no =".to_owned()))?;
    let over = match over.trim() {
        "concurrency" => SweepOver::Concurrency,
        "rate" => SweepOver::Rate,
        other => return Err(error(format!("'{other}' is neither concurrency nor rate"))),
    };
    let step = |value: &str| match over {
        SweepOver::Concurrency => {
            let n = value.parse().map_err(|_| error(format!("'{value}' is no whole number")))?;
            Ok(closed(slots("sweep", n)?))
        }
        SweepOver::Rate => {
            let rate = value.parse().map_err(|_| error(format!("'{value}' is no number")))?;
            Ok(open(in_range("sweep", rate)?))
        }
    };
    let steps = values.split(',').map(|v| step(v.trim())).collect::<Result<Vec<_>, PlanError>>()?;
    if steps.windows(2).any(|pair| pair[1].height() <= pair[0].height()) {
        return Err(error("its steps do not rise".to_owned()));
    }
    Ok((steps, Some(Sweep { over, all: args.sweep_all })))
}

fn slots(flag: &'static str, n: u32) -> Result<u32, PlanError> {
    if (1..=MOST_CONCURRENT).contains(&n) {
        return Ok(n);
    }
    Err(PlanError::Range { flag, value: n.to_string(), remedy: "give a number from 1 to 100000" })
}

fn in_range(flag: &'static str, rate: f64) -> Result<f64, PlanError> {
    if rate.is_finite() && (1e-3..=1e5).contains(&rate) {
        return Ok(rate);
    }
    Err(PlanError::Range {
        flag,
        value: rate.to_string(),
        remedy: "give requests a second, from 0.001 to 100000",
    })
}

/// The number of a step's requests. Without `--requests` it depends on the shape.
fn requests(args: &cli::LoadArgs, steps: &[Shape]) -> Result<Option<u64>, PlanError> {
    if let Some(n) = args.requests {
        at_least_one("requests", n)?;
        return Ok(Some(n));
    }
    if args.duration.is_some() || args.dataset.is_some() || args.prompt_file.is_some() {
        return Ok(None);
    }
    let widest = steps.iter().map(|s| match s {
        Shape::Closed { concurrency } => Some(u64::from(*concurrency)),
        Shape::Open { .. } | Shape::Trace => None,
    });
    match widest.max().flatten() {
        Some(n) => Ok(Some(n)),
        None => Err(PlanError::Conflict {
            what: "--rate without --requests and without --duration",
            remedy: "say when to end: --duration 30s, or --requests 100",
        }),
    }
}

fn slo(text: &str) -> Result<Slo, PlanError> {
    let error = |why: String| PlanError::Value {
        what: "--slo".into(),
        why,
        remedy: "write --slo ttft=200ms,itl=30ms,e2e=5s, with any of ttft, ttfo, itl, tpot and e2e",
    };
    let mut slo = Slo::default();
    for part in text.split(',') {
        let (name, time) = part.split_once('=').ok_or_else(|| error(format!("'{part}' has no =")))?;
        let level = match name.trim() {
            "ttft" => &mut slo.ttft,
            "ttfo" => &mut slo.ttfo,
            "itl" => &mut slo.itl,
            "tpot" => &mut slo.tpot,
            "e2e" => &mut slo.e2e,
            other => return Err(error(format!("'{other}' is no level"))),
        };
        let time = humantime::parse_duration(time.trim()).map_err(|e| error(format!("'{time}': {e}")))?;
        if level.replace(Nanos::from(time)).is_some() {
            return Err(error(format!("{} is given twice", name.trim())));
        }
    }
    Ok(slo)
}

/// The key in the variable of this name. A key in the place of the name is not repeated.
fn api_key(name: &str, env: &Environment) -> Result<Option<Secret>, PlanError> {
    let error = |why: &str| PlanError::Value {
        what: "--api-key-env".into(),
        why: why.to_owned(),
        remedy: "put the key into a variable and give its name, such as --api-key-env MY_KEY",
    };
    if !secrets::is_variable(name) {
        return Err(error("it takes the name of a variable, which this is not"));
    }
    match &env.api_key {
        None if name == DEFAULT_KEY_VARIABLE => Ok(None),
        None => Err(error("no variable of that name is set")),
        Some(key) => match key.to_str() {
            Some(key) => Ok(Some(key).filter(|key| !key.is_empty()).map(|key| Secret::new(key.to_owned()))),
            None => Err(error("what the variable holds is no UTF-8")),
        },
    }
}

/// Strings in `--extra-body` whose field has the name of a secret.
pub(in crate::plan) fn secrets_in(extra_body: &str) -> Vec<String> {
    fn walk(name: &str, value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) if secrets::is_secret_name(name) => found.push(text.clone()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(name, item, found)),
            serde_json::Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| walk(name, value, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(body) = serde_json::from_str(extra_body) {
        walk("", &body, &mut found);
    }
    found
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
    // These headers mark the end of a message, which is hyper's task.
    if ["content-length", "transfer-encoding", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
        return Err(error("HTTP's own framing is not the user's to set"));
    }
    let value = value.trim();
    if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        return Err(error("its value holds a control character"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl From<cli::ApiArg> for Api {
    fn from(a: cli::ApiArg) -> Self {
        match a {
            cli::ApiArg::Chat => Self::Chat,
            cli::ApiArg::Completions => Self::Completions,
        }
    }
}

impl From<cli::ArrivalArg> for Arrival {
    fn from(a: cli::ArrivalArg) -> Self {
        match a {
            cli::ArrivalArg::Poisson => Self::Poisson,
            cli::ArrivalArg::Constant => Self::Constant,
        }
    }
}
