//! Why requests failed.
//!
//! Owns the lines of the causes, each with its first message. Called by `text`.

use super::humanize::{count, counted, nanos};
use super::layout::{Ink, Page};
use crate::report::model::{ErrorKind, FailureGroup, Load};

/// Causes that are shown one by one.
const SHOWN: usize = 8;

/// The earliest first, as the report has them: what comes after it is often its consequence.
pub(super) fn failures(page: &mut Page, load: &Load) {
    if load.failures.is_empty() {
        return;
    }
    page.heading("Failures");
    let several = load.failures.len() > 1;
    for group in load.failures.iter().take(SHOWN) {
        let when = group.first_ns.filter(|_| several).map(|t| format!("from {} on: ", nanos(t)));
        let text = format!("{}{}", when.unwrap_or_default(), group.example);
        page.pair(&format!("{} × {}", count(group.count), cause(group)), &text);
    }
    if let Some(more) = load.failures.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        page.note(Ink::Dim, &format!("and {more} further causes, in the JSON report"));
    }
    let warmup = load.failures.iter().map(|g| g.warmup).sum();
    if warmup > 0 {
        page.note(
            Ink::Dim,
            &format!("{} among them", counted(warmup, "warm-up request", "warm-up requests")),
        );
    }
}

fn cause(group: &FailureGroup) -> String {
    let word = match (group.kind, group.http_status) {
        (Some(ErrorKind::Status), Some(status)) => return format!("HTTP {status}"),
        (Some(ErrorKind::Connect), _) => "not connected",
        (Some(ErrorKind::Certificate), _) => "certificate",
        (Some(ErrorKind::ClientLimit), _) => "client's limit",
        (Some(ErrorKind::Timeout), _) => "timed out",
        (Some(ErrorKind::Status), None) => "HTTP status",
        (Some(ErrorKind::ServerError), _) => "server error",
        (Some(ErrorKind::Malformed), _) => "malformed",
        (Some(ErrorKind::Disconnect), _) => "cut off",
        (Some(ErrorKind::Empty), _) => "empty answer",
        (Some(ErrorKind::Overrun), _) => "beyond max_tokens",
        (Some(ErrorKind::Memory), _) => "beyond --max-memory",
        (Some(ErrorKind::Interrupted), _) => "interrupted",
        (None, _) => "other causes",
    };
    word.to_owned()
}
