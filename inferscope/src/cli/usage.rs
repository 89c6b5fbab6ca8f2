//! The parsing of the arguments, and the report of a mistake in them.
//!
//! Owns the form of clap's errors: one line with the error and one with the remedy, as for all errors here. Decides
//! nothing. Called by `main`.

use std::io::IsTerminal as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use super::Cli;
use crate::clean::one_line;
use crate::secrets::{MASK, looks_secret};

/// The output instead of a run.
#[derive(Debug)]
pub enum EarlyExit {
    /// Help or version, for stdout.
    Help(String),
    /// The arguments are invalid. The text is for stderr.
    Mistake(String),
}

/// The arguments of this process.
///
/// # Errors
/// There is nothing to run.
pub fn parse() -> Result<Cli, EarlyExit> {
    let parsed = command().try_get_matches().and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    parsed.map_err(|e| {
        if e.use_stderr() {
            return EarlyExit::Mistake(refused(e));
        }
        let text = e.render();
        if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) {
            EarlyExit::Help(text.ansi().to_string())
        } else {
            EarlyExit::Help(text.to_string())
        }
    })
}

/// Hides the variables. Their names are derived from the flags' names and would make every line of the help twice as
/// long. The manual has them.
fn command() -> clap::Command {
    let hidden = |command: clap::Command| command.mut_args(|arg| arg.hide_env(true));
    hidden(Cli::command()).mut_subcommands(hidden)
}

/// The command for the manual page. Its generator leaves out the variables and what the short help hides, so both are
/// added here.
#[must_use]
pub fn manual() -> clap::Command {
    Cli::command().mut_args(|arg| {
        let help =
            arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let variable = arg.get_env().map(|env| format!(" [env: {}]", env.display())).unwrap_or_default();
        arg.hide_short_help(false).long_help(format!("{help}{variable}"))
    })
}

fn refused(mut error: clap::Error) -> String {
    // The user's text stays within the line that quotes it.
    let typed: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            // A key in the wrong place is not repeated.
            ContextValue::String(text) if looks_secret(text) => Some((kind, MASK.to_owned())),
            ContextValue::String(text) => Some((kind, one_line(text).into_owned())),
            _ => None,
        })
        .collect();
    for (kind, text) in typed {
        error.insert(kind, ContextValue::String(text));
    }
    message_of(error.kind(), &error.render().to_string())
}

/// The first of clap's paragraphs in one line, and a remedy.
fn message_of(kind: ErrorKind, rendered: &str) -> String {
    let mut lines = rendered.lines().map(str::trim);
    let first = lines.next().unwrap_or("error: the arguments make no sense");
    let further: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let tip = lines.find_map(|line| line.strip_prefix("tip: "));
    let remedy = match kind {
        ErrorKind::ArgumentConflict => "leave one of them out; an INFERSCOPE_… variable counts as its flag",
        ErrorKind::MissingRequiredArgument => "add what is named; `inferscope --help` has examples",
        _ => tip.unwrap_or("`inferscope --help` lists the flags and what they take"),
    };
    let space = if further.is_empty() { "" } else { " " };
    format!("{first}{space}{}\n  {remedy}", further.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: &[&str]) -> String {
        let e = command().try_get_matches_from(std::iter::once(&"inferscope").chain(args)).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        refused(e)
    }

    #[test]
    fn what_was_typed_stays_on_its_line_and_steers_nothing() {
        let hostile = "\x1b[2J\u{9b}\u{202e}\n\nerror: no";
        for args in
            [&["--concurrency", hostile][..], &["--api", hostile], &["--duration", hostile], &[hostile]]
        {
            let said = refusal(args);
            assert_eq!(said.lines().count(), 2, "{said:?}");
            assert!(!said.contains(['\x1b', '\u{9b}', '\u{202e}']), "{said:?}");
            assert!(said.contains("\\x1b[2J\\u{9b}\\u{202e}\\n\\nerror: no"), "{said:?}");
        }
    }

    #[test]
    fn a_key_that_was_typed_where_none_belongs_is_not_repeated() {
        for args in [&["sk-abcdefgh1234"][..], &["--api-key=sk-abcdefgh1234"], &["--api", "sk-abcdefgh1234"]]
        {
            let said = refusal(args);
            assert!(!said.contains("abcdefgh") && said.starts_with("error: "), "{said}");
        }
    }

    #[test]
    fn every_flag_is_decided_to_be_shown_in_the_report_or_not() {
        let mut seen = 0;
        let all = Cli::command();
        for command in std::iter::once(&all).chain(all.get_subcommands()) {
            for arg in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(crate::secrets::is_decided(arg), "--{arg}: add it to a table of secrets/flags.rs");
                seen += 1;
            }
        }
        assert!(seen > 60, "{seen}");
    }

    #[test]
    fn a_mistake_is_one_line_and_its_remedy_another() {
        let conflict = "leave one of them out; an INFERSCOPE_… variable counts as its flag";
        let add = "add what is named; `inferscope --help` has examples";
        let lists = "`inferscope --help` lists the flags and what they take";
        for (args, said, remedy) in [
            (
                &["--concurrency", "4", "--rate", "5"][..],
                "the argument '--concurrency <N>' cannot be used with '--rate <R>'",
                conflict,
            ),
            (
                &["--rate", "5", "--sweep", "rate=1,2"],
                "the argument '--rate <R>' cannot be used with '--sweep <STEPS>'",
                conflict,
            ),
            (
                &["--concurrency", "4", "--rate", "5", "--sweep", "rate=1,2"],
                "the argument '--concurrency <N>' cannot be used with: --rate <R>, --sweep <STEPS>",
                conflict,
            ),
            (&["--fail-on-slo"], "the following required arguments were not provided: --slo <LEVELS>", add),
            (&["--sweep-all"], "the following required arguments were not provided: --sweep <STEPS>", add),
            (
                &["--api", "grpc"],
                "invalid value 'grpc' for '--api <API>' [possible values: chat, completions]",
                lists,
            ),
            (
                &["--duration", "soon"],
                "invalid value 'soon' for '--duration <T>': expected number at 0",
                lists,
            ),
            (
                &["--concurency", "4"],
                "unexpected argument '--concurency' found",
                "a similar argument exists: '--concurrency'",
            ),
        ] {
            assert_eq!(refusal(args), format!("error: {said}\n  {remedy}"));
        }
    }

    #[test]
    fn every_flag_has_the_variable_that_the_help_promises() {
        // What has none: secrets would be in it, or it is only there for users of an older flag.
        const WITHOUT: [&str; 3] = ["headers", "include_descendants", "help"];
        let mut seen = 0;
        for arg in Cli::command().get_arguments().filter(|arg| !WITHOUT.contains(&arg.get_id().as_str())) {
            let Some(long) = arg.get_long().filter(|long| *long != "version") else { continue };
            let expected = format!("INFERSCOPE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(expected.as_str()), "--{long}");
            seen += 1;
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn the_manual_has_the_help_and_the_variable_of_every_flag() {
        for arg in manual().get_arguments().filter(|arg| arg.get_id() != "headers") {
            let help = arg.get_long_help().map(ToString::to_string).unwrap_or_default();
            let variable = arg.get_env().map(|env| format!("[env: {}]", env.display())).unwrap_or_default();
            assert!(
                help.len() > variable.len() + 10 && help.ends_with(&variable),
                "{}: {help}",
                arg.get_id()
            );
            assert!(!arg.is_hide_short_help_set(), "{}", arg.get_id());
        }
    }

    #[test]
    fn the_short_help_fits_a_screen_and_is_grouped() {
        let help = command().term_width(100).render_help().to_string();
        let lines = help.lines().count();
        assert!(lines <= 56, "{lines} lines\n{help}");
        let at = |heading: &str| {
            help.find(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}\n{help}"))
        };
        let headings = ["Server", "Load", "Prompts", "Target", "Output"].map(at);
        assert!(headings.is_sorted(), "{headings:?}\n{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        let long = command().term_width(100).render_long_help().to_string();
        for said in [
            "--rate 5 --duration 60s",
            "--sweep ",
            "--dataset ",
            "--slo ",
            "4 service level missed",
            "--repeat 5",
        ] {
            assert!(long.contains(said), "{said}");
        }
    }
}
