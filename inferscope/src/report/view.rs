//! The forms that a report can take.
//!
//! Owns the one table of them: `-o x.EXT` and standard output choose their form here, and so will a `--format`. A new form is
//! a type that implements [`View`], and a row in [`VIEWS`]. Never writes anywhere. Used by `plan`, which chooses, and by
//! `session`, which writes the bytes.

use std::fmt;
use std::path::Path;

use super::model::Report;
use super::text::{Style, to_text};
use super::to_json;
use crate::secrets::KnownSecrets;

/// A form of the report.
pub trait View: fmt::Debug + Sync {
    /// A word for it.
    fn name(&self) -> &'static str;

    /// The endings of its files, in lower case, without the dot.
    fn endings(&self) -> &'static [&'static str];

    /// Whether it has everything that the report has. Where no place took such a form, the report counts as lost.
    fn is_whole(&self) -> bool;

    fn render(&self, report: &Report, how: &Rendering<'_>) -> Vec<u8>;
}

/// What is not the report's own.
#[derive(Debug, Clone, Copy)]
pub struct Rendering<'k> {
    /// Whether the reader's terminal takes colours. A file never does.
    pub style: Style,
    /// Secrets that no form may hold.
    pub known: &'k KnownSecrets,
}

/// Every form. The first is that of a file whose ending is no form's.
pub static VIEWS: [&dyn View; 2] = [&Json, &Text];

/// The form of a file.
#[must_use]
pub fn of_file(path: &Path) -> &'static dyn View {
    let ending = path.extension().unwrap_or_default();
    let has_ending =
        |view: &&&dyn View| view.endings().iter().any(|known| ending.eq_ignore_ascii_case(known));
    *VIEWS.iter().find(has_ending).unwrap_or(&VIEWS[0])
}

/// The document for programs.
#[derive(Debug)]
pub struct Json;

impl View for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn render(&self, report: &Report, how: &Rendering<'_>) -> Vec<u8> {
        to_json(report, how.known).into_bytes()
    }
}

/// The page for a person.
#[derive(Debug)]
pub struct Text;

impl View for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["txt"]
    }

    fn is_whole(&self) -> bool {
        false
    }

    fn render(&self, report: &Report, how: &Rendering<'_>) -> Vec<u8> {
        to_text(report, how.style, how.known).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::engine;

    #[test]
    fn no_ending_and_no_name_is_that_of_two_forms() {
        let mut seen = std::collections::BTreeSet::new();
        for view in VIEWS {
            assert!(seen.insert(view.name()), "{view:?}");
            for ending in view.endings() {
                assert!(seen.insert(ending) || *ending == view.name(), "{view:?}: {ending}");
                assert_eq!(of_file(Path::new(&format!("run.{ending}"))).name(), view.name());
                let upper = ending.to_uppercase();
                assert_eq!(of_file(Path::new(&format!("run.txt.{upper}"))).name(), view.name());
            }
        }
        for path in ["run", "run.html", ".txt", "txt", "run.txt.old"] {
            assert_eq!(of_file(Path::new(path)).name(), "json", "{path}");
        }
    }

    #[test]
    fn a_form_is_whole_only_where_the_report_reads_back_from_it() {
        let report = engine().report();
        let how = Rendering { style: Style::Plain, known: &KnownSecrets::none() };
        for view in VIEWS {
            let read = serde_json::from_slice::<Report>(&view.render(&report, &how));
            assert_eq!(view.is_whole(), read.is_ok_and(|read| read == report), "{view:?}");
        }
    }

    #[test]
    fn no_form_holds_a_known_secret() {
        const KEY: &str = "sk-0123456789abcdef";
        let mut report = engine().report();
        report.processes.list[0].comm = KEY.to_owned();
        let known = KnownSecrets::new([KEY.to_owned()]);
        for view in VIEWS {
            let bytes = view.render(&report, &Rendering { style: Style::Plain, known: &known });
            assert!(!String::from_utf8_lossy(&bytes).contains(KEY), "{view:?}");
        }
    }
}
