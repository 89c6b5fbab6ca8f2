//! The truth: what was written when.
//!
//! Owns the log's form, one JSON document a line. Kept in memory until the end, so that it costs no stream
//! anything. Called by `server` and `main`; read back by `inferscope_tests::emitter`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

/// One completion request. All times are CLOCK_MONOTONIC.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) id: Option<String>,
    /// When the kernel received its last bytes; when they were read, where the kernel does not tell.
    pub(crate) arrived_ns: u64,
    pub(crate) read_ns: u64,
    pub(crate) prompt_bytes: usize,
    pub(crate) writes: Vec<Written>,
    /// `None`: the server ended before the answer did.
    pub(crate) outcome: Option<String>,
}

/// One write(2) with tokens.
#[derive(Debug)]
pub(crate) struct Written {
    /// Right before it, and right after.
    pub(crate) at_ns: u64,
    pub(crate) after_ns: u64,
    pub(crate) due_ns: u64,
    pub(crate) tokens: u32,
    pub(crate) reasoning: bool,
}

impl Entry {
    fn json(&self) -> Value {
        let each = |of: fn(&Written) -> Value| self.writes.iter().map(of).collect::<Value>();
        json!({
            "id": self.id,
            "arrived_ns": self.arrived_ns,
            "read_ns": self.read_ns,
            "prompt_bytes": self.prompt_bytes,
            "writes_ns": each(|write| write.at_ns.into()),
            "written_ns": each(|write| write.after_ns.into()),
            "tokens": each(|write| write.tokens.into()),
            "reasoning": each(|write| write.reasoning.into()),
            "due_ns": each(|write| write.due_ns.into()),
            "outcome": self.outcome.as_deref().unwrap_or("unfinished"),
        })
    }
}

pub(crate) fn write(path: &Path, entries: &[Entry]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for entry in entries {
        writeln!(file, "{}", entry.json())?;
    }
    file.flush()
}
