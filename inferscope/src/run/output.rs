//! Where the report goes, and what is said beside it.
//!
//! Owns stdout (the report and nothing else), warnings and hints on stderr (progress is `progress`'s), and the
//! file of `-o`.
//! The file is opened for writing before the load is sent, so that a run is not lost to a bad path;
//! an older report in it stays until the new one is complete.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::progress::Progress;
use crate::console;
use crate::plan::{ColorChoice, LoadPlan, OutputPlan};
use crate::report::model::Report;
use crate::report::{Style, to_json, to_text};

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("can't write to {}: {source}\n  give -o a file in a directory that exists and is writable", path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("can't write the command's output to {}: {source}\n  give --command-output a file in a directory that exists and is writable", path.display())]
    CommandOutput { path: PathBuf, source: std::io::Error },
    #[error("can't write the report to {}: {source}\n  it was printed on stdout instead", path.display())]
    Lost { path: PathBuf, source: std::io::Error },
    #[error("can't write the report to stdout: {0}\n  use -o FILE")]
    Stdout(std::io::Error),
}

pub struct Sink {
    plan: OutputPlan,
    file: Option<Target>,
}

impl Sink {
    /// # Errors
    /// The file can't be opened for writing.
    pub fn open(plan: &OutputPlan) -> Result<Self, OutputError> {
        Ok(Self { plan: plan.clone(), file: plan.file.as_deref().map(Target::open).transpose()? })
    }

    /// # Errors
    /// A full disk, a closed pipe. What could not go to the file goes to stdout.
    pub fn write(&self, report: &Report) -> Result<(), OutputError> {
        self.write_forms(report, true)
    }

    fn write_forms(&self, report: &Report, print: bool) -> Result<(), OutputError> {
        let saved =
            self.file.as_ref().map(|target| (&target.path, target.save(&to_json(report, &self.plan.known))));
        let lost = match saved {
            Some((path, Err(source))) => Some(OutputError::Lost { path: path.clone(), source }),
            _ => None,
        };
        if !print && lost.is_none() {
            return Ok(());
        }
        let text = if self.plan.json || lost.is_some() {
            to_json(report, &self.plan.known)
        } else {
            to_text(report, self.style(), &self.plan.known)
        };
        let mut stdout = std::io::stdout().lock();
        let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        match (lost, printed) {
            (Some(lost), _) => Err(lost),
            // `inferscope … | head` has read what it wanted.
            (None, Err(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            (None, printed) => printed.map_err(OutputError::Stdout),
        }
    }

    /// Only the JSON forms: the file of `-o`, and stdout with `--json`.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_document(&self, report: &Report) -> Result<(), OutputError> {
        if self.plan.json || self.file.is_some() { self.write_forms(report, self.plan.json) } else { Ok(()) }
    }

    fn style(&self) -> Style {
        let color = match self.plan.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        if color { Style::Color } else { Style::Plain }
    }

    /// On stderr, also with `--quiet`: it is about a number that would mislead.
    pub fn warn(&self, message: &str) {
        console::warn(message);
    }

    /// On stderr: what became of the command.
    pub(super) fn tell(&self, message: &str) {
        console::say(message);
    }

    pub(super) fn progress(&self, load: &LoadPlan) -> Progress {
        Progress::of(load, &self.plan)
    }
}

/// The file of `-o`.
struct Target {
    path: PathBuf,
    file: File,
    /// It was made here, and nothing is in it yet: it goes again where no report comes.
    is_bare: AtomicBool,
}

impl Target {
    fn open(path: &Path) -> Result<Self, OutputError> {
        let new = OpenOptions::new().write(true).create_new(true).open(path);
        let is_bare = AtomicBool::new(new.is_ok());
        // An older report stays until the new one is complete.
        let file = new.or_else(|_| OpenOptions::new().write(true).create(true).truncate(false).open(path));
        let file = file.map_err(|source| OutputError::Unwritable { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, is_bare })
    }

    fn save(&self, text: &str) -> std::io::Result<()> {
        let mut file = &self.file;
        self.is_bare.store(false, Ordering::Relaxed);
        file.write_all(text.as_bytes())?;
        // A device or a pipe has no length to cut.
        if file.metadata()?.is_file() {
            file.set_len(text.len() as u64)?;
        }
        file.flush()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_bare.load(Ordering::Relaxed) {
            // What can't be removed is empty.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_report_is_not_left_and_an_older_report_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        std::fs::write(&old, "an older report").unwrap();
        for path in [&new, &old] {
            drop(Target::open(path).unwrap());
        }
        assert!(!new.exists());
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "an older report");
        for path in [&new, &old] {
            Target::open(path).unwrap().save("{}").unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), "{}");
        }
    }
}
