//! A target whose processes and CPU time are known.
//!
//! Owns a shell that waits for a word, runs a known number of short programs one after another, tells what
//! CPU time they and it took, and ends at a second word. Each program is one fork and one exec. Called by
//! the tests that take things away from the tracer.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::process::Group;

/// `times` tells the shell's own and its children's CPU time, in ms.
const SCRIPT: &str =
    "read -r word; times; for ((i = 0; i < $0; i++)); do /bin/true; done; times; read -r word";
const LIMIT: Duration = Duration::from_secs(60);

/// The waiting shell, the root of the tree to observe.
#[derive(Debug)]
pub struct Counted {
    group: Group,
    words: ChildStdin,
    programs: u64,
}

impl Counted {
    /// Will run so many programs. `through`: a command that becomes the shell, with its first arguments.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(programs: u64, through: &[&str]) -> Self {
        let bash = Path::new("/bin/bash").canonicalize().expect("there is bash");
        let mut line: Vec<&std::ffi::OsStr> = through.iter().map(AsRef::as_ref).collect();
        line.push(bash.as_os_str());
        let programs_text = programs.to_string();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).args(["-c", SCRIPT, &programs_text]).stderr(Stdio::null());
        let mut group = Group::talking(&mut command);
        let words = group.stdin();
        Self { group, words, programs }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Runs the programs; the CPU time of all, in nanoseconds to the millisecond.
    ///
    /// # Panics
    /// When they take longer than a minute.
    #[must_use]
    pub fn run(&mut self) -> u64 {
        self.words.write_all(b"go\n").expect("the shell reads");
        let before = self.times();
        self.times() - before
    }

    /// How many programs a run is.
    #[must_use]
    pub fn programs(&self) -> u64 {
        self.programs
    }

    /// Lets the shell end, and waits for that.
    ///
    /// # Panics
    /// When it does not.
    pub fn end(mut self) {
        drop(self.words);
        // The `read` at the end finds no word.
        let status = self.group.wait(LIMIT);
        assert_eq!(status.code(), Some(1), "{status:?}");
    }

    /// Two lines, the shell's and its children's: `0m0.012s 0m0.034s`, user and system.
    fn times(&self) -> u64 {
        let (own, children) = (self.group.line(LIMIT), self.group.line(LIMIT));
        let words = own.split_whitespace().chain(children.split_whitespace());
        let times: Vec<u64> = words.map(|word| nanos(word).unwrap_or_else(|| panic!("{word}"))).collect();
        assert_eq!(times.len(), 4, "{own} {children}");
        times.iter().sum()
    }
}

fn nanos(time: &str) -> Option<u64> {
    let (minutes, seconds) = time.strip_suffix('s')?.split_once('m')?;
    let (seconds, millis) = seconds.split_once('.')?;
    let millis = (minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?) * 1_000
        + millis.parse::<u64>().ok()?;
    Some(millis * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_shell_are_read() {
        assert_eq!(nanos("1m2.345s"), Some(62_345_000_000));
        assert_eq!(nanos("0.345"), None);
    }

    #[test]
    fn the_shell_runs_its_programs_and_ends() {
        let mut shell = Counted::start(3, &["/usr/bin/env"]);
        assert!(shell.run() < 1_000_000_000);
        shell.end();
    }
}
