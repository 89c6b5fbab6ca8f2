//! The redaction of one value, and the words that are harmless.
//!
//! Owns the lists of words that programs use for their roles, their subcommands and their families of variables. Pure.
//! A part of `argv`.

use super::super::flags::Kind;
use super::super::harmless::{
    is_address, is_host, is_mode, is_number, is_path, is_pattern, is_short_number, is_variable, is_word,
    looks_like_path, url,
};
use super::super::shape::{begins_like_a_key, is_secret_name};
use super::super::{MASK, looks_secret};

/// The words of a process title.
pub(super) const ROLES: [&str; 27] = [
    "master",
    "worker",
    "process",
    "cache",
    "manager",
    "loader",
    "checkpointer",
    "background",
    "writer",
    "walwriter",
    "autovacuum",
    "launcher",
    "logical",
    "replication",
    "logger",
    "archiver",
    "stats",
    "collector",
    "startup",
    "pool",
    "arbiter",
    "idle",
    "listener",
    "engine",
    "scheduler",
    "detokenizer",
    "router",
];

pub(super) fn shown(kind: Kind, value: &str) -> String {
    let kept = match kind {
        Kind::Secret => false,
        Kind::Header => {
            // A name without a colon may be the whole secret.
            let name = value.split_once(':').map(|(name, _)| name).filter(|name| is_header_name(name));
            return name.map_or_else(|| MASK.to_owned(), |name| format!("{name}: {MASK}"));
        }
        _ if value.contains("://") => return url(value).unwrap_or_else(|| MASK.to_owned()),
        Kind::Switch | Kind::Number => is_number(value),
        Kind::Word | Kind::Words | Kind::Module => is_word(value) || looks_like_path(value),
        Kind::Path => is_path(value),
        Kind::Pattern => is_pattern(value),
        Kind::Host => is_host(value) || looks_like_path(value),
        Kind::New => is_short_number(value) || is_mode(value) || looks_like_path(value) || is_address(value),
        Kind::Variable => is_variable(value),
        Kind::Unknown => looks_like_path(value) || is_address(value),
    };
    if kept { value.to_owned() } else { MASK.to_owned() }
}

pub(super) fn is_header_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !begins_like_a_key(name)
}

/// `NAME=value`. Base64 ends in `=`, too, and has letters of both cases.
pub(super) fn is_assignment(name: &str, value: &str) -> bool {
    let both =
        name.contains(|c: char| c.is_ascii_lowercase()) && name.contains(|c: char| c.is_ascii_uppercase());
    is_variable(name) && !both && !value.trim_matches('=').is_empty()
}

/// Redacts the value of an assignment. Numbers and paths of variables that hold no secret are shown.
pub(super) fn variable(name: &str, value: &str) -> String {
    const FAMILIES: [&str; 22] = [
        "CUDA_",
        "NVIDIA_",
        "VLLM_",
        "SGLANG_",
        "LLAMA_",
        "GGML_",
        "OLLAMA_",
        "HF_HUB_",
        "TRANSFORMERS_",
        "TOKENIZERS_",
        "OMP_",
        "MKL_",
        "OPENBLAS_",
        "NCCL_",
        "TORCH_",
        "PYTORCH_",
        "PYTHON",
        "RAY_",
        "UCX_",
        "ROCM_",
        "HIP_",
        "MALLOC_",
    ];
    let secret = is_secret_name(name) && name != "TOKENIZERS_PARALLELISM";
    let number = || FAMILIES.iter().any(|family| name.starts_with(family)) && is_number(value);
    if !secret && (number() || looks_like_path(value)) { value.to_owned() } else { MASK.to_owned() }
}

/// A flag's name: each of its words looks like a word of a language and not like the output of a generator.
pub(super) fn is_flag_name(name: &str) -> bool {
    let word = |word: &str| {
        let upper = word.chars().filter(char::is_ascii_uppercase).count();
        let digits = word.chars().filter(char::is_ascii_digit).count();
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric())
            && word.len() <= 24
            && (digits == 0 || word.len() <= 5)
            && upper * 3 <= word.len()
    };
    name.len() <= 64 && name.split(['-', '_', '.']).all(word) && !begins_like_a_key(name)
}

/// A subcommand of a common program.
pub(super) fn is_command(arg: &str) -> bool {
    const COMMANDS: [&str; 34] = [
        "serve",
        "server",
        "serving",
        "run",
        "runner",
        "start",
        "launch",
        "launch-server",
        "worker",
        "master",
        "chat",
        "complete",
        "completions",
        "bench",
        "api_server",
        "exec",
        "profile",
        "observe",
        "demo",
        "demo-server",
        "demo-helper",
        "doctor",
        "schema",
        "man",
        "show",
        "compare",
        "export",
        "live",
        "top",
        "all",
        "test",
        "build",
        "install",
        "dev",
    ];
    COMMANDS.contains(&arg) && !looks_secret(arg)
}
