//! Why a load can't start.
//!
//! Owns [`LoadError`]: the messages and remedies for a server that can't be driven. Made by `http`,
//! `models` and the driver, printed by `main`. No variant holds a key or a header's value.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("can't use {what}: {why}")]
    Prompts { what: String, why: String },
    #[error(
        "{concurrency} requests at a time take {needed_mib} MiB, more than --max-memory ({max_mib} MiB) leaves them\n  \
         raise it to {needed_mib}M, or ask for {fit} at a time"
    )]
    Memory { concurrency: u32, needed_mib: u64, max_mib: u64, fit: u64 },
    #[error("can't use --cacert {}: {why}\n  give a readable file with certificates in PEM", path.display())]
    Cacert { path: PathBuf, why: String },
    #[error(
        "header '{name}' can't be sent: its value holds what no header may hold\n  write -H 'Name: value'"
    )]
    Header { name: String },
    #[error(
        "the API key can't be sent: it holds what no header may hold\n  look at the variable that --api-key-env names (OPENAI_API_KEY)"
    )]
    ApiKey,
    #[error(
        "can't set up the HTTP client: {why}\n  this is a fault of the machine's TLS set-up or of inferscope"
    )]
    Client { why: String },
    #[error("can't reach {url}: {cause}\n  {remedy}")]
    Unreachable { url: String, cause: String, remedy: &'static str, silent: bool },
    #[error("{url} redirects to {to}\n  give the place that it redirects to as --endpoint")]
    Redirects { url: String, to: String },
    #[error(
        "the server wants an API key (HTTP {status}{}): none was sent\n  set OPENAI_API_KEY, or name the variable that holds it with --api-key-env",
        colon(said)
    )]
    NoKey { status: u16, said: Option<String> },
    #[error(
        "the server refused the API key (HTTP {status}{})\n  look at OPENAI_API_KEY, or at the variable that --api-key-env names, or at -H",
        colon(said)
    )]
    KeyRefused { status: u16, said: Option<String> },
    #[error("{url} answered HTTP {status}{}\n  {remedy}", colon(said))]
    Status { url: String, status: u16, said: Option<String>, remedy: &'static str },
    #[error(
        "{url} answered with something other than a model list: {excerpt}\n  look at --endpoint, it may be another server's; or name the model with --model"
    )]
    NoModelList { url: String, excerpt: String },
    #[error("the server has {} models: {}\n  choose one with --model", served.len(), list(served))]
    SeveralModels { served: Vec<String> },
}

impl LoadError {
    /// Whether the arguments are at fault (exit 2) and not the server (exit 3).
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Prompts { .. }
                | Self::Memory { .. }
                | Self::Cacert { .. }
                | Self::Header { .. }
                | Self::ApiKey
        )
    }

    /// Whether only the model list is missing: with the model's name a load can be tried.
    #[must_use]
    pub const fn is_of_the_list(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { silent: true, .. }
                | Self::NoKey { .. }
                | Self::KeyRefused { .. }
                | Self::Status { .. }
                | Self::NoModelList { .. }
        )
    }

    /// Whether a server that is still starting may say so.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Status { status: 500.., .. })
    }
}

/// Most models named in one message.
const LISTED: usize = 10;

pub(super) fn list(names: &[String]) -> String {
    let mut text = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(LISTED).filter(|&n| n > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn colon(said: &Option<String>) -> String {
    said.as_ref().map_or_else(String::new, |s| format!(": {s}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_its_remedy_the_next() {
        let served = |n: usize| (0..n).map(|i| format!("m{i}")).collect::<Vec<_>>();
        assert_eq!(
            LoadError::SeveralModels { served: served(2) }.to_string(),
            "the server has 2 models: m0, m1\n  choose one with --model"
        );
        let many = LoadError::SeveralModels { served: served(12) }.to_string();
        assert!(
            many.starts_with("the server has 12 models: m0, ") && many.contains("m9 and 2 more\n"),
            "{many}"
        );
        assert_eq!(
            LoadError::KeyRefused { status: 401, said: None }.to_string().lines().next(),
            Some("the server refused the API key (HTTP 401)")
        );
    }
}
