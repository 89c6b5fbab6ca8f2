//! The result of `doctor`, for people and for scripts.
//!
//! Owns the layout; pure. The JSON is an object with `works` and `checks[]`, which has the fields of `Check`.

use std::borrow::Cow;

use serde::Serialize;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use super::{Check, Diagnosis, Status};
use crate::clean::{self, one_line};

const WIDTH: usize = 100;
const INDENT: usize = 30;

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    version: &'static str,
    works: bool,
    checks: &'a [Check],
}

pub(super) fn json(diagnosis: &Diagnosis) -> String {
    let document = Document {
        schema_version: 1,
        version: env!("CARGO_PKG_VERSION"),
        works: diagnosis.works(),
        checks: &diagnosis.checks,
    };
    let mut text =
        serde_json::to_string_pretty(&document).expect("strings, numbers and lists of them are JSON");
    text.push('\n');
    clean::json(&text).into_owned()
}

pub(super) fn text(diagnosis: &Diagnosis) -> String {
    let lacking: Vec<_> =
        diagnosis.checks.iter().filter(|c| c.status == Status::Missing).map(|c| c.name).collect();
    let verdict = if lacking.is_empty() {
        "everything that profiling needs works".to_owned()
    } else {
        format!("missing for profiling: {}", lacking.join(", "))
    };
    let mut out = format!("inferscope {} doctor: {verdict}\n\n", env!("CARGO_PKG_VERSION"));
    let mut said: Vec<&[String]> = Vec::new();
    for check in &diagnosis.checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Limited => "limited",
            Status::Missing => "MISSING",
        };
        let mut lines = wrapped(&one_line(&check.finding), WIDTH - INDENT).into_iter();
        let first = lines.next().unwrap_or_default();
        out.push_str(format!("  {status:<8}{:<20}{first}", check.name).trim_end());
        out.push('\n');
        for line in lines {
            out.push_str(&format!("{:INDENT$}{line}\n", ""));
        }
        if check.remedies.is_empty() {
            continue;
        }
        // The same list a second time would hide the rest.
        if said.contains(&check.remedies.as_slice()) {
            out.push_str(&format!("{:INDENT$}→ as above\n", ""));
            continue;
        }
        said.push(&check.remedies);
        for remedy in &check.remedies {
            for (i, line) in wrapped(&one_line(remedy), WIDTH - INDENT - 2).into_iter().enumerate() {
                let mark = if i == 0 { "→" } else { " " };
                out.push_str(&format!("{:INDENT$}{mark} {line}\n", ""));
            }
        }
    }
    out
}

/// Wraps text without cutting words: a command longer than a line stays in one piece.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let options = Options::new(width)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(&text, options).into_iter().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Status, remedies: &[&str]) -> Check {
        let remedies = remedies.iter().map(|&r| r.to_owned()).collect();
        Check {
            code: "a",
            name: "a",
            status,
            value: None,
            finding: "f".into(),
            missing: Vec::new(),
            remedies,
        }
    }

    #[test]
    fn a_limit_does_not_keep_it_from_working_and_something_missing_does() {
        let diagnosis = |status| Diagnosis { checks: vec![check(Status::Ok, &[]), check(status, &[])] };
        assert!(diagnosis(Status::Limited).works());
        assert!(text(&diagnosis(Status::Limited)).starts_with(concat!(
            "inferscope ",
            env!("CARGO_PKG_VERSION"),
            " doctor: everything"
        )));
        assert!(!diagnosis(Status::Missing).works());
        assert!(text(&diagnosis(Status::Missing)).contains("missing for profiling: a\n"));
    }

    #[test]
    fn a_remedy_is_said_once() {
        let diagnosis = Diagnosis { checks: vec![check(Status::Limited, &["do x"]); 2] };
        let text = text(&diagnosis);
        assert_eq!(text.matches("→ do x").count(), 1, "{text}");
        assert_eq!(text.matches("→ as above").count(), 1, "{text}");
    }

    #[test]
    fn long_words_are_kept_whole_and_no_line_is_too_long() {
        assert_eq!(wrapped("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrapped("abcdef gh", 3), ["abcdef", "gh"]);
        assert_eq!(wrapped("服务 推理", 8), ["服务", "推理"]);
    }
}
