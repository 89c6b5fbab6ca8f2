//! Shows progress and runs commands.
//!
//! Owns the look of a step on stderr (a spinner on a terminal, plain lines elsewhere) and the report of a failed
//! command. Never decides what runs. Called by every other module of xtask.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Lines shown of a failed command's output: its last ones, which name the error.
const SHOWN_LINES: usize = 30;

/// Runs `work`, which prints nothing itself, as one named step.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| spinner(name));
    if spinner.is_none() {
        eprintln!("xtask: {name} …");
    }
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let outcome = if result.is_ok() { "done in" } else { "failed after" };
    eprintln!("xtask: {name}: {outcome} {}", seconds(started.elapsed()));
    result.with_context(|| name.to_owned())
}

/// Prints one line about something that took no time.
pub(crate) fn say(line: impl std::fmt::Display) {
    eprintln!("xtask: {line}");
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn spinner(name: &str) -> ProgressBar {
    // A template that does not parse costs the elapsed time, not the step.
    let style = ProgressStyle::with_template("{spinner} xtask: {msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style).with_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Runs a command silently and returns its stdout. On failure the error holds the end of its output.
pub(crate) fn captured(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", program(command)))?;
    if !output.status.success() {
        let text =
            [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        bail!("{} ended with {}\n{}", shown(command), output.status, tail(&text));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", program(command)))
}

/// Runs a command whose output belongs to the user.
pub(crate) fn visibly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", program(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The command as typed in a shell; good enough for a manual try.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_command_shows_its_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "for i in $(seq 50); do echo line $i; done; echo broken >&2; exit 3"]);
        let error = captured(&mut command).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("line 50\nbroken"), "{error}");
        assert!(!error.contains("line 21\n"), "{error}");
    }
}
