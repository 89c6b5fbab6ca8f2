//! What limits the run on a device, as the report has it.
//!
//! Owns the rounding of the evidence. A part of `build`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::model;
use crate::verdict::bottleneck::{Finding, Limit, Shown, ShownEvidence, Verdict};

pub(crate) fn step_device((device, verdict): (usize, Verdict)) -> model::StepDevice {
    let (limited_by, limited_by_reason) = limit(verdict.limit);
    let limited_by_evidence = evidence(&verdict.evidence);
    model::StepDevice { device, limited_by, limited_by_reason, limited_by_evidence }
}

pub(super) fn limit(limit: Result<Limit, String>) -> (Option<model::LimitedBy>, Option<String>) {
    match limit {
        Ok(limit) => (Some(limited_by(limit)), None),
        Err(why) => (None, Some(why)),
    }
}

const fn limited_by(limit: Limit) -> model::LimitedBy {
    match limit {
        Limit::Tensor => model::LimitedBy::Tensor,
        Limit::Compute => model::LimitedBy::Compute,
        Limit::Bandwidth => model::LimitedBy::Bandwidth,
        Limit::Latency => model::LimitedBy::Latency,
        Limit::Host => model::LimitedBy::Host,
        Limit::Client => model::LimitedBy::Client,
        Limit::Idle => model::LimitedBy::Idle,
    }
}

pub(super) fn evidence(shown: &ShownEvidence) -> BTreeMap<String, Value> {
    let value = |shown: Shown| match shown {
        Shown::Amount(v) => json!((v * 10.0).round() / 10.0),
        Shown::Ratio(v) => json!((v * 100.0).round() / 100.0),
        Shown::Source(source) => json!(source),
    };
    shown.iter().map(|(name, shown)| ((*name).to_owned(), value(*shown))).collect()
}

pub(crate) fn insight(finding: Finding) -> model::Insight {
    model::Insight {
        code: finding.code.to_owned(),
        severity: model::Severity::Info,
        headline: finding.headline,
        evidence: evidence(&finding.evidence),
        advice: finding.advice,
    }
}
