//! Where the report goes, and what is said beside it.
//!
//! Owns stdout (the report and nothing else), warnings and hints on stderr (progress is `progress`'s), the
//! files of `-o`, and the order at the end: the files, stdout, and only then a word on stderr. Each file is proved
//! writable before the load is sent, so that a run is not lost to a bad path. A report that nothing takes goes to
//! a file of its own in the temporary directory.

mod file;
mod stream;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::progress::Progress;
use crate::aggregate::Snapshot;
use crate::console;
use crate::hub::Snapshots;
use crate::plan::{ColorChoice, LoadPlan, OutputPlan};
use crate::report::Style;
use crate::report::model::Report;
use crate::report::view::{self, Rendering, View};
use crate::signals::Signals;

use file::OpenOutput;

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("can't write to {}: {source}\n  give -o a file in a directory that exists and is writable", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("can't write to {}: {}", path.display(), why.words())]
    Refused { path: PathBuf, why: Refused },
    #[error("can't write the command's output to {}: {source}\n  give --command-output a file in a directory that exists and is writable", path.display())]
    CommandOutput { path: PathBuf, source: io::Error },
    #[error("can't write the report to {}: {source}\n  {refuge}", path.display())]
    Lost { path: PathBuf, source: io::Error, refuge: String },
    #[error("can't write the report to stdout: {source}\n  {refuge}")]
    Stdout { source: io::Error, refuge: String },
}

/// Why a place takes no report, seen before anything was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Directory,
    BlockDevice,
    NoReader,
    NotOpen,
    Protected,
}

impl Refused {
    const fn words(self) -> &'static str {
        match self {
            Self::Directory => "it is a directory\n  give -o a file in it",
            Self::BlockDevice => "it is a block device\n  give -o a file",
            Self::NoReader => "nobody reads from this FIFO\n  start its reader first, or give -o a file",
            Self::NotOpen => {
                "it is not open for writing\n  open it in the shell, as in 3>FILE, or give -o a file"
            }
            Self::Protected => {
                "it is write-protected, by its mode or by chattr\n  make it writable, or give -o another file"
            }
        }
    }
}

pub struct Sink<'s> {
    plan: OutputPlan,
    signals: &'s Signals,
    /// Empty once they were written. A file that is not goes again where no report comes.
    files: Vec<Destination>,
    /// To be told when the report is written.
    words: Vec<String>,
}

struct Destination {
    path: PathBuf,
    form: &'static dyn View,
    place: OpenOutput,
}

impl<'s> Sink<'s> {
    /// # Errors
    /// A file can't be opened for writing.
    pub fn open(plan: &OutputPlan, signals: &'s Signals) -> Result<Self, OutputError> {
        let mut sink = Self { plan: plan.clone(), signals, files: Vec::new(), words: Vec::new() };
        for file in &plan.files {
            let (place, note) = OpenOutput::open(&file.path, plan.mode)?;
            sink.files.push(Destination { path: file.path.clone(), form: file.form, place });
            sink.words.extend(note.map(|note| format!("warning: {note}")));
        }
        Ok(sink)
    }

    /// # Errors
    /// A full disk, a closed pipe: the error says where the report is instead.
    pub fn write(&mut self, report: &Report) -> Result<(), OutputError> {
        let written = self.write_forms(report, true);
        self.tell_all();
        written
    }

    /// The files of `-o`, and stdout where its form is a document (`--json`).
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_document(&mut self, report: &Report) -> Result<(), OutputError> {
        let written = self.write_forms(report, self.plan.stdout.is_whole());
        self.tell_all();
        written
    }

    fn write_forms(&mut self, report: &Report, print: bool) -> Result<(), OutputError> {
        let mut lost: Option<(PathBuf, io::Error)> = None;
        let mut is_safe = false;
        for Destination { path, form, place } in std::mem::take(&mut self.files) {
            let bytes = form.render(report, &self.rendering(Style::Plain));
            match place.save(&bytes, self.signals) {
                Ok(note) => {
                    is_safe |= form.is_whole();
                    self.words.extend(note.map(|note| format!("warning: {note}")));
                }
                // The first is told, the others are as much of it as the disk is.
                Err(e) => lost = lost.or(Some((path, e))),
            }
        }
        // The whole of it is nowhere yet.
        let is_homeless = lost.is_some() && !is_safe;
        if !print && !is_homeless {
            return lost.map_or(Ok(()), |(path, source)| Err(elsewhere(path, source)));
        }
        let form = if is_homeless { &view::Json } else { self.plan.stdout };
        let bytes = form.render(report, &self.rendering(self.style()));
        let printed = stream::write_all(io::stdout().as_fd(), &bytes, Some(self.signals));
        match (lost, printed) {
            (Some((path, source)), _) if is_safe => Err(elsewhere(path, source)),
            (Some((path, source)), Ok(())) => {
                Err(OutputError::Lost { path, source, refuge: "it was printed on stdout instead".to_owned() })
            }
            (Some((path, source)), Err(_)) => {
                Err(OutputError::Lost { path, source, refuge: self.refuge(report) })
            }
            // `inferscope … | head` has read what it wanted.
            (None, Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            (None, Err(e)) if is_safe => {
                self.words.push(format!("warning: can't write the report to stdout: {e}"));
                Ok(())
            }
            (None, Err(source)) => {
                Err(OutputError::Stdout { source, refuge: format!("use -o FILE; {}", self.refuge(report)) })
            }
            (None, Ok(())) => Ok(()),
        }
    }

    /// Where the report is that nothing took: in a file of its own, else on stderr.
    fn refuge(&self, report: &Report) -> String {
        let json = view::Json.render(report, &self.rendering(Style::Plain));
        match kept(&std::env::temp_dir(), &json) {
            Ok(path) => format!("this report is in {}", path.display()),
            Err(_) => match stream::write_all(io::stderr().as_fd(), &json, Some(self.signals)) {
                Ok(()) => "this report was printed on stderr".to_owned(),
                // Nobody is there to read this.
                Err(_) => "this report is lost: nothing took it".to_owned(),
            },
        }
    }

    fn rendering(&self, style: Style) -> Rendering<'_> {
        Rendering { style, known: &self.plan.known }
    }

    fn style(&self) -> Style {
        let color = match self.plan.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        if color { Style::Color } else { Style::Plain }
    }

    /// On stderr, once the report is written; also with `--quiet`: it is about a number that would mislead.
    pub fn warn(&mut self, message: &str) {
        self.words.push(format!("warning: {message}"));
    }

    /// On stderr, once the report is written: what became of the command.
    pub(super) fn tell(&mut self, message: &str) {
        self.words.push(message.to_owned());
    }

    /// The same at once, where nothing is measured yet.
    pub(super) fn warn_now(&self, message: &str) {
        console::warn(message);
    }

    fn tell_all(&mut self) {
        for line in self.words.drain(..) {
            console::say(&line);
        }
    }

    pub(super) fn progress(&self, load: &LoadPlan, open: impl FnOnce() -> Snapshots<Snapshot>) -> Progress {
        Progress::of(load, &self.plan, open)
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        // Where no report came.
        self.tell_all();
    }
}

/// Another file has the whole report.
fn elsewhere(path: PathBuf, source: io::Error) -> OutputError {
    OutputError::Lost { path, source, refuge: "the other files of -o have it".to_owned() }
}

/// To stdout, as it is.
///
/// # Errors
/// What takes standard output does not take it.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    stream::write_all(io::stdout().as_fd(), bytes, None)
}

/// A new file in `dir`, of which nobody else can read.
fn kept(dir: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut file = tempfile::Builder::new().prefix("inferscope-report-").suffix(".json").tempfile_in(dir)?;
    file.write_all(bytes)?;
    let (file, path) = file.keep().map_err(|e| e.error)?;
    let _ = file.sync_all();
    Ok(path)
}
