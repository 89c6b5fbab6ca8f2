//! The flags that say what to send, when, and to whom.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Model to ask for [default: the one that the server lists]
    #[arg(long, value_name = "NAME", env = "INFERSCOPE_MODEL", help_heading = "Server")]
    pub model: Option<String>,
    /// Which API to drive
    #[arg(
        long,
        value_enum,
        default_value = "chat",
        env = "INFERSCOPE_API",
        hide_short_help = true,
        help_heading = "Server"
    )]
    pub api: ApiArg,
    /// Time limit of one request, from its sending to its last byte
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, default_value = "120s", env = "INFERSCOPE_TIMEOUT", hide_short_help = true, help_heading = "Server")]
    pub timeout: Duration,
    /// Add a header to every request (repeatable)
    ///
    /// Other users of the machine can read it in this process's command line: a key belongs into --api-key-env's variable.
    #[arg(
        short = 'H',
        long = "header",
        value_name = "K: V",
        hide_short_help = true,
        help_heading = "Server"
    )]
    pub headers: Vec<String>,
    /// Environment variable that holds the bearer key
    #[arg(
        long,
        value_name = "NAME",
        default_value = "OPENAI_API_KEY",
        env = "INFERSCOPE_API_KEY_ENV",
        hide_short_help = true,
        help_heading = "Server"
    )]
    pub api_key_env: String,
    /// Trust this CA certificate (PEM) as well
    #[arg(
        long,
        value_name = "F",
        env = "INFERSCOPE_CACERT",
        hide_short_help = true,
        help_heading = "Server"
    )]
    pub cacert: Option<PathBuf>,
    /// Don't verify the server's certificate
    #[arg(long, env = "INFERSCOPE_INSECURE", hide_short_help = true, help_heading = "Server")]
    pub insecure: bool,

    /// Requests to measure [default: 1, or as many as --concurrency]
    ///
    /// Of each step and repetition. Without end where --duration is given; each prompt of a file or data set once.
    #[arg(long, value_name = "N", env = "INFERSCOPE_REQUESTS", help_heading = "Load")]
    pub requests: Option<u64>,
    /// Start no request after this long
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, env = "INFERSCOPE_DURATION", help_heading = "Load")]
    pub duration: Option<Duration>,
    /// Requests to send first and leave out of every figure
    ///
    /// Before each step of a sweep and before each repetition.
    #[arg(long, value_name = "N", default_value_t = 0, env = "INFERSCOPE_WARMUP", help_heading = "Load")]
    pub warmup: u64,
    /// Closed loop: this many requests under way at any time [default: 1]
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["rate", "sweep"],
        env = "INFERSCOPE_CONCURRENCY",
        help_heading = "Load"
    )]
    pub concurrency: Option<u32>,
    /// Open loop: R requests a second, whether or not the server keeps up
    #[arg(long, value_name = "R", conflicts_with = "sweep", env = "INFERSCOPE_RATE", help_heading = "Load")]
    pub rate: Option<f64>,
    /// How an open loop's requests are spaced
    #[arg(
        long,
        value_enum,
        default_value = "poisson",
        env = "INFERSCOPE_ARRIVAL",
        hide_short_help = true,
        help_heading = "Load"
    )]
    pub arrival: ArrivalArg,
    /// Steps until the server is saturated: concurrency=1,2,4,8 or rate=1,2,4
    ///
    /// One report with a row a step, and the knee: the last step below saturation.
    #[arg(long, value_name = "STEPS", env = "INFERSCOPE_SWEEP", help_heading = "Load")]
    pub sweep: Option<String>,
    /// Go on with --sweep where the server is saturated
    #[arg(
        long,
        requires = "sweep",
        env = "INFERSCOPE_SWEEP_ALL",
        hide_short_help = true,
        help_heading = "Load"
    )]
    pub sweep_all: bool,
    /// Measure K times and tell how far the runs agree
    #[arg(long, value_name = "K", default_value_t = 1, env = "INFERSCOPE_REPEAT", help_heading = "Load")]
    pub repeat: u32,
    /// Raise the load from nothing to full over this long; what is sent meanwhile is in no latency
    ///
    /// What of it is still under way at full load is in the rates, with its tokens and its CPU.
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration, env = "INFERSCOPE_RAMP_UP", hide_short_help = true, help_heading = "Load")]
    pub ramp_up: Option<Duration>,
    /// Most requests under way at once in an open loop; what is due beyond waits, and its lag is told
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        env = "INFERSCOPE_MAX_IN_FLIGHT",
        hide_short_help = true,
        help_heading = "Load"
    )]
    pub max_in_flight: u32,
    /// Seed of arrival times and of prompts that are made here [default: --seed, or drawn for each run and told]
    #[arg(
        long,
        value_name = "N",
        env = "INFERSCOPE_LOAD_SEED",
        hide_short_help = true,
        help_heading = "Load"
    )]
    pub load_seed: Option<u64>,
    /// Service level for goodput: ttft=200ms,itl=30ms
    ///
    /// Any of ttft, ttfo (first token that is no reasoning), itl (each gap between chunks: a mean would hide a
    /// stall), tpot (the gaps' mean, a token) and e2e. A request is good that keeps all of them.
    #[arg(long, value_name = "LEVELS", env = "INFERSCOPE_SLO", help_heading = "Load")]
    pub slo: Option<String>,
    /// Exit with 4 where not every successful request meets --slo, or one failed
    #[arg(
        long,
        requires = "slo",
        env = "INFERSCOPE_FAIL_ON_SLO",
        hide_short_help = true,
        help_heading = "Load"
    )]
    pub fail_on_slo: bool,

    /// Text of the prompt [default: a question that differs in each request]
    #[arg(long, value_name = "TEXT", env = "INFERSCOPE_PROMPT", help_heading = "Prompts")]
    pub prompt: Option<String>,
    /// Take the prompts from this file, one a line
    #[arg(long, value_name = "F", env = "INFERSCOPE_PROMPT_FILE", help_heading = "Prompts")]
    pub prompt_file: Option<PathBuf>,
    /// Take them from a data set in JSON lines
    ///
    /// Each line has messages, a ShareGPT conversation, a prompt, or a trace's timestamp (in milliseconds) and
    /// lengths, which are replayed where neither --concurrency nor --rate is given.
    #[arg(long, value_name = "F", env = "INFERSCOPE_DATASET", help_heading = "Prompts")]
    pub dataset: Option<PathBuf>,
    /// Make prompts of about N tokens, no two beginning alike
    #[arg(long, value_name = "N", env = "INFERSCOPE_INPUT_TOKENS", help_heading = "Prompts")]
    pub input_tokens: Option<u32>,
    /// With --input-tokens: the first N tokens are the same for all, so that a prefix cache has work
    #[arg(
        long,
        value_name = "N",
        requires = "input_tokens",
        env = "INFERSCOPE_SHARED_PREFIX",
        hide_short_help = true,
        help_heading = "Prompts"
    )]
    pub shared_prefix: Option<u32>,
    /// Most tokens that an answer may have
    ///
    /// A line of a data set may say otherwise.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 128,
        env = "INFERSCOPE_MAX_TOKENS",
        help_heading = "Prompts"
    )]
    pub max_tokens: u32,
    /// Ask the server to go on to --max-tokens (vLLM, SGLang, llama.cpp)
    #[arg(long, env = "INFERSCOPE_IGNORE_EOS", help_heading = "Prompts")]
    pub ignore_eos: bool,
    /// Sampling temperature to send
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        env = "INFERSCOPE_TEMPERATURE",
        hide_short_help = true,
        help_heading = "Prompts"
    )]
    pub temperature: f64,
    /// Sampling seed to send; seeds arrivals and made prompts, too
    #[arg(long, value_name = "N", env = "INFERSCOPE_SEED", hide_short_help = true, help_heading = "Prompts")]
    pub seed: Option<i64>,
    /// JSON object merged over every request's body
    #[arg(
        long,
        value_name = "JSON",
        env = "INFERSCOPE_EXTRA_BODY",
        hide_short_help = true,
        help_heading = "Prompts"
    )]
    pub extra_body: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ApiArg {
    Chat,
    Completions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ArrivalArg {
    /// Independent of each other, as the requests of many users are
    Poisson,
    /// One every 1/R seconds
    Constant,
}
