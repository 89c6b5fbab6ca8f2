//! What stands out in the process set, as the report has it.
//!
//! Owns the words of codes and severities. A part of `build`.

use crate::verdict::insights::SetFinding;

use super::super::model;

pub(crate) fn insight(finding: SetFinding) -> model::Insight {
    let SetFinding { code, is_warning, headline, evidence, advice } = finding;
    model::Insight {
        code: super::code(code),
        severity: if is_warning { model::Severity::Warn } else { model::Severity::Info },
        headline,
        evidence,
        advice,
    }
}
