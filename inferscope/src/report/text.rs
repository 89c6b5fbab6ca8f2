//! The report for a person at a terminal.
//!
//! Owns what is shown, in which order, and in which words: the answer first, then what makes it
//! doubtful, then the processes and devices, what stands out, and this program's own cost. Never
//! computes a figure beyond sums of what it folds into one line, and never looks whether it writes
//! to a terminal: colour is an argument. The same model gives the same text. Called through `report`.

mod failures;
mod gpus;
mod headline;
pub(crate) mod humanize;
mod latencies;
mod layout;
mod overhead;
mod processes;
mod sweep;
mod table;
mod width;

pub use layout::Style;

use humanize::{bytes, count, nanos, watts};
use layout::{Ink, Page};

use crate::secrets::KnownSecrets;

use super::model::{Insight, Level, Load, Mode, Report, Severity, Sweep};

/// At most 100 columns; ends in a newline.
#[must_use]
pub fn to_text(report: &Report, style: Style, known: &KnownSecrets) -> String {
    let mut page = Page::new(style, known.clone());
    head(&mut page, report);
    verdict(&mut page, report);
    headline::headline(&mut page, report);
    latencies::latencies(&mut page, report);
    doubts(&mut page, report);
    if let Some(load) = &report.load {
        failures::failures(&mut page, load);
    }
    processes::processes(&mut page, report);
    gpus::gpus(&mut page, report);
    insights(&mut page, &report.insights);
    overhead::overhead(&mut page, report);
    page.finish()
}

fn head(page: &mut Page, report: &Report) {
    let mut title = format!("{} {} {}", report.tool.name, report.tool.version, report.run.command);
    if let Some(load) = &report.load {
        title.push_str(&format!(": {}", load.endpoint));
    }
    page.text(Ink::Bold, &title);
    let host = &report.host;
    let mut facts = Vec::new();
    if let Some(load) = &report.load {
        facts.push(format!("model {}", load.model.as_deref().unwrap_or("unknown")));
        facts.push(format!("{}, {}", load.api, shape(load, report.sweep.as_ref())));
    }
    facts.push(format!("run of {}", nanos(report.run.duration_ns)));
    facts.extend(host.hostname.clone().map(|name| format!("on {name}")));
    facts.extend(host.cpus.map(|n| humanize::counted(n.into(), "CPU", "CPUs")));
    facts.extend(host.memory_bytes.map(|n| bytes(n as f64)));
    facts.extend(host.kernel.clone().map(|k| format!("Linux {k}")));
    page.text(Ink::Dim, &facts.join(" · "));
    if report.run.mode == Mode::Demo {
        page.text(
            Ink::Bad,
            "SYNTHETIC TOKENS: the built-in demo server makes them up at a fixed pace. The measuring is real, the \
             model is not.",
        );
    }
}

fn shape(load: &Load, sweep: Option<&Sweep>) -> String {
    let arrival = load.arrival.map(|a| format!(", {a} arrivals")).unwrap_or_default();
    match (sweep, load.concurrency, load.rate_per_s) {
        (Some(sweep), ..) => format!("{} loop, sweep over {}{arrival}", load.shape, sweep.over),
        (None, Some(n), _) => format!("{} loop of {}", load.shape, count(n.into())),
        (None, None, Some(rate)) => format!("{} loop at {}/s{arrival}", load.shape, humanize::plain(rate)),
        (None, None, None) => load.shape.to_string(),
    }
}

/// What takes the figures their meaning stands before them.
fn verdict(page: &mut Page, report: &Report) {
    let mut invalid = report.validity.iter().filter(|v| v.level == Level::Invalid).peekable();
    if invalid.peek().is_none() {
        return;
    }
    page.blank();
    for v in invalid {
        page.tagged(Ink::Bad, "INVALID", &format!("{} [{}]", v.message, v.code));
    }
}

/// Warnings; what is `ok` stays in the JSON, and what the head says is not said twice.
fn doubts(page: &mut Page, report: &Report) {
    let said = |code: &str| report.run.mode == Mode::Demo && code == "synthetic_tokens";
    let mut worth_saying =
        report.validity.iter().filter(|v| v.level == Level::Warn && !said(&v.code)).peekable();
    if worth_saying.peek().is_none() {
        return;
    }
    page.heading("Read with care");
    for v in worth_saying {
        page.tagged(Ink::Warn, "warning", &format!("{} [{}]", v.message, v.code));
    }
}

fn insights(page: &mut Page, insights: &[Insight]) {
    if insights.is_empty() {
        return;
    }
    page.heading("What stands out");
    let mut insights = insights.iter().peekable();
    while let Some(insight) = insights.next() {
        let ink = if insight.severity == Severity::Warn { Ink::Warn } else { Ink::Good };
        page.tagged(ink, "•", &insight.headline);
        let evidence: Vec<String> =
            insight.evidence.iter().map(|(name, value)| figure(name, value)).collect();
        page.tagged(Ink::Plain, " ", &evidence.join(", "));
        // Like devices get the same advice, which is given once.
        if insights.peek().is_none_or(|next| next.advice != insight.advice) {
            page.tagged(Ink::Plain, " ", &insight.advice);
        }
    }
}

/// A figure by its name in the report, whose ending tells the unit.
fn figure(name: &str, value: &serde_json::Value) -> String {
    let shown = |name: &str, text: String| format!("{} {text}", name.replace('_', " "));
    match (value.as_u64(), name.rsplit_once('_')) {
        (Some(n), Some((name, "ns"))) => shown(name, nanos(n)),
        (Some(n), Some((name, "bytes"))) => shown(name, bytes(n as f64)),
        (Some(n), Some((name, "mw"))) => shown(name, watts(n as f64)),
        (Some(n), _) if name.contains("percent") => shown(&name.replace("_percent", ""), format!("{n}%")),
        (Some(n), _) if name.ends_with("pid") => shown(name, n.to_string()),
        (Some(n), _) => shown(name, count(n)),
        (None, _) if value.is_null() => shown(name, "unknown".to_owned()),
        (None, _) if name.contains("percent") && value.is_f64() => {
            let percent = value.as_f64().unwrap_or_default();
            shown(&name.replace("_percent", ""), format!("{percent:.1}%"))
        }
        (None, _) => shown(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    }
}

#[cfg(test)]
mod tests;
