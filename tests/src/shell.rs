//! A shell that does what a test says, when it says it.
//!
//! Owns one bash that reads commands from its standard input. Each is answered before the next is sent, so that
//! a test knows what has happened. Called by tests that need processes to order.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::process::Group;

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Shell {
    group: Group,
    words: ChildStdin,
}

impl Shell {
    /// # Panics
    /// When there is no bash.
    #[must_use]
    pub fn start() -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", "while read -r line; do eval \"$line\"; echo done; done"]).stderr(Stdio::null());
        let mut group = Group::talking(&mut command);
        let words = group.stdin();
        Self { group, words }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Does one line of shell and waits until it is done; what it printed.
    ///
    /// # Panics
    /// When it takes longer than a minute.
    pub fn does(&mut self, line: &str) -> Vec<String> {
        writeln!(self.words, "{line}").expect("the shell reads");
        let mut said = Vec::new();
        loop {
            let line = self.group.line(LIMIT);
            if line == "done" {
                return said;
            }
            said.push(line);
        }
    }

    /// CPU time of its main thread in nanoseconds, its children's not included (`/proc/PID/schedstat`).
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).expect("it lives");
        text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("three numbers")
    }
}
