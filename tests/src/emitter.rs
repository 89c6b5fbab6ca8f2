//! The emitter: a server whose truth is known, also with a thousand streams.
//!
//! Owns starting it, ending it by its pid, and its log as typed values. Never judges. Called by the tests and
//! benches that compare a report with what really happened; see `src/bin/emitter`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::binary::sibling;
use crate::process::{Group, signal};

const LIMIT: Duration = Duration::from_secs(30);

/// The server's process; ends when dropped.
#[derive(Debug)]
pub struct Emitter {
    group: Group,
    pub endpoint: String,
    pub pid: u32,
    /// Of the log, removed with it.
    dir: tempfile::TempDir,
    certificate: Option<tempfile::TempPath>,
}

/// One completion request as the server saw it. Times are CLOCK_MONOTONIC.
#[derive(Debug, Clone)]
pub struct Served {
    /// `x-request-id`.
    pub id: Option<String>,
    /// When the kernel received it.
    pub arrived_ns: u64,
    pub read_ns: u64,
    pub prompt_bytes: u64,
    /// The writes with tokens.
    pub writes: Vec<Write>,
    pub outcome: String,
}

#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// Right before the write(2), and right after.
    pub at_ns: u64,
    pub after_ns: u64,
    /// When the schedule wanted it.
    pub due_ns: u64,
    pub tokens: u64,
    pub reasoning: bool,
}

impl Served {
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.writes.iter().map(|write| write.tokens).sum()
    }

    /// The true time to the first token.
    ///
    /// # Panics
    /// When none was written.
    #[must_use]
    pub fn ttft_ns(&self) -> u64 {
        self.writes[0].at_ns - self.arrived_ns
    }

    /// The true times between writes.
    pub fn gaps_ns(&self) -> impl Iterator<Item = u64> {
        self.writes.windows(2).map(|pair| pair[1].at_ns - pair[0].at_ns)
    }
}

impl Emitter {
    /// Starts it with these flags and a log of its own.
    ///
    /// # Panics
    /// When it does not listen within half a minute.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let mut command = Command::new(sibling("emitter"));
        command.args(args).arg("--log").arg(log_in(&dir)).stderr(Stdio::inherit());
        let group = Group::talking(&mut command);
        let line = group.line(LIMIT);
        let address = line.strip_prefix("listening ").unwrap_or_else(|| panic!("it said {line:?}"));
        Self { endpoint: format!("http://{address}"), pid: group.pid(), group, dir, certificate: None }
    }

    /// The same over https, with a certificate that only it has.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_https(args: &[&str]) -> Self {
        let certificate = tempfile::NamedTempFile::new().expect("there is room for temporary files");
        let path = certificate.into_temp_path();
        let path_text = path.to_str().expect("the path is UTF-8").to_owned();
        let mut emitter = Self::start(&[args, &["--tls", &path_text]].concat());
        emitter.endpoint = emitter.endpoint.replace("http://", "https://");
        emitter.certificate = Some(path);
        emitter
    }

    /// The file of its certificate.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn certificate(&self) -> &str {
        self.certificate.as_ref().and_then(|path| path.to_str()).expect("it was started with https")
    }

    /// Ends it and reads its log, in order of arrival.
    ///
    /// # Panics
    /// When it does not end well, or its log can't be understood.
    #[must_use]
    pub fn end(mut self) -> Vec<Served> {
        signal(self.pid, Signal::TERM);
        let status = self.group.wait(LIMIT);
        assert!(status.success(), "the emitter ended with {status}");
        let text = std::fs::read_to_string(log_in(&self.dir)).expect("the emitter wrote its log");
        text.lines().map(|line| served(&serde_json::from_str(line).expect("the log is JSON"))).collect()
    }
}

/// By `x-request-id`; what had none is left out.
///
/// # Panics
/// When two have the same.
#[must_use]
pub fn by_id(log: &[Served]) -> HashMap<&str, &Served> {
    let mut by_id = HashMap::new();
    for served in log {
        if let Some(id) = &served.id {
            let before = by_id.insert(id.as_str(), served);
            assert!(before.is_none(), "two requests are {id}");
        }
    }
    by_id
}

fn log_in(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("emitter.jsonl")
}

fn served(line: &Value) -> Served {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number: {value} in {line}"));
    let list = |name: &str| line[name].as_array().unwrap_or_else(|| panic!("no {name}: {line}"));
    let [at, after, due, tokens, reasoning] =
        ["writes_ns", "written_ns", "due_ns", "tokens", "reasoning"].map(list);
    assert!([after, due, tokens, reasoning].iter().all(|other| other.len() == at.len()), "{line}");
    let writes = (0..at.len()).map(|i| Write {
        at_ns: number(&at[i]),
        after_ns: number(&after[i]),
        due_ns: number(&due[i]),
        tokens: number(&tokens[i]),
        reasoning: reasoning[i] == true,
    });
    Served {
        id: line["id"].as_str().map(str::to_owned),
        arrived_ns: number(&line["arrived_ns"]),
        read_ns: number(&line["read_ns"]),
        prompt_bytes: number(&line["prompt_bytes"]),
        writes: writes.collect(),
        outcome: line["outcome"].as_str().expect("each has an outcome").to_owned(),
    }
}
