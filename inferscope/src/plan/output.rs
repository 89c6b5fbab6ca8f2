//! The plan of the output.
//!
//! Owns which file has which form (`report::view` is their table), the names that mean standard output, and the mode. Pure:
//! never checks whether a file exists. Read by `session::output`.

use std::path::{Path, PathBuf};

use crate::cli;
use crate::report::view::{self, View};
use crate::secrets::{KnownSecrets, Redact};

/// Where the report goes.
#[derive(Debug, Clone)]
pub struct OutputPlan {
    /// The form on stdout.
    pub stdout: &'static dyn View,
    /// Files that get the report, too.
    pub files: Vec<PlannedFile>,
    /// Permission bits of new files.
    pub mode: u32,
    /// No progress and no hints.
    pub quiet: bool,
    pub color: ColorChoice,
    pub redact: Redact,
    /// Values that no text may contain.
    pub known: KnownSecrets,
}

/// One `-o`.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    pub path: PathBuf,
    pub form: &'static dyn View,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

impl From<cli::ColorArg> for ColorChoice {
    fn from(a: cli::ColorArg) -> Self {
        match a {
            cli::ColorArg::Auto => Self::Auto,
            cli::ColorArg::Always => Self::Always,
            cli::ColorArg::Never => Self::Never,
        }
    }
}

pub(super) fn output(args: &cli::OutputArgs, known: KnownSecrets) -> OutputPlan {
    let (to_stdout, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
        args.output.iter().partition(|path| is_stdout(path));
    let file = |path: &PathBuf| PlannedFile { path: path.clone(), form: view::of_file(path) };
    OutputPlan {
        stdout: if args.json || !to_stdout.is_empty() { &view::Json } else { &view::Text },
        files: files.into_iter().map(file).collect(),
        mode: args.report_mode,
        quiet: args.quiet,
        color: args.color.into(),
        redact: args.redact.into(),
        known,
    }
}

/// The path names standard output. Opened by that name, a redirected output would be overwritten from its beginning.
fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(args: &[&str]) -> OutputPlan {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            output: cli::OutputArgs,
        }
        let args = std::iter::once("inferscope").chain(args.iter().copied());
        output(&<Only as clap::Parser>::parse_from(args).output, KnownSecrets::none())
    }

    #[test]
    fn each_file_has_the_form_of_its_ending() {
        let plan = planned(&["-o", "a.json", "-o", "b.TXT", "-o", "c"]);
        let forms: Vec<&str> = plan.files.iter().map(|file| file.form.name()).collect();
        assert_eq!(forms, ["json", "text", "json"]);
        assert_eq!(plan.stdout.name(), "text");
        assert_eq!(plan.mode, 0o600);
    }

    #[test]
    fn the_names_of_standard_output_are_no_files() {
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            let plan = planned(&["-o", name, "-o", "run.json"]);
            assert_eq!(plan.stdout.name(), "json", "{name}");
            assert_eq!(plan.files.len(), 1, "{name}");
        }
        assert_eq!(planned(&["-o", "./-"]).files.len(), 1);
    }
}
