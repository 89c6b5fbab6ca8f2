//! The report for a person at a terminal.
//!
//! Owns what is shown, in which order, and in which words: the answer first, then what makes it
//! doubtful, then the processes and devices, what stands out, and this program's own cost. Never
//! computes a figure beyond sums of what it folds into one line, and never looks whether it writes
//! to a terminal: colour is an argument. The same model gives the same text. Called through `report`.

mod client;
mod gpus;
mod humanize;
mod layout;
mod server;
mod table;

pub use layout::Style;

use humanize::{bytes, count, duration, nanos};
use layout::{Ink, Page};

use super::model::{Insight, Level, Mode, Own, Report, Severity};

/// At most 100 columns; ends in a newline.
#[must_use]
pub fn to_text(report: &Report, style: Style) -> String {
    let mut page = Page::new(style);
    head(&mut page, report);
    client::answer(&mut page, report);
    doubts(&mut page, report);
    client::failures(&mut page, &report.requests);
    server::processes(&mut page, report);
    gpus::gpus(&mut page, report);
    insights(&mut page, &report.insights);
    own(&mut page, &report.own);
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
        facts.push(match (load.concurrency, load.rate_per_s) {
            (Some(n), _) => format!("{}, {} loop of {n}", load.api, load.shape),
            (None, Some(rate)) => {
                format!("{}, {} loop at {}/s", load.api, load.shape, humanize::number(rate))
            }
            (None, None) => format!("{}, {} loop", load.api, load.shape),
        });
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

/// Warnings and worse; what is `ok` stays in the JSON, and what the head says is not said twice.
fn doubts(page: &mut Page, report: &Report) {
    let said = |code: &str| report.run.mode == Mode::Demo && code == "synthetic_tokens";
    let mut worth_saying =
        report.validity.iter().filter(|v| v.level > Level::Ok && !said(&v.code)).peekable();
    if worth_saying.peek().is_none() {
        return;
    }
    page.heading("Read with care");
    for v in worth_saying {
        let (ink, tag) = match v.level {
            Level::Invalid => (Ink::Bad, "INVALID"),
            _ => (Ink::Warn, "warning"),
        };
        page.tagged(ink, tag, &format!("{} [{}]", v.message, v.code));
    }
}

fn insights(page: &mut Page, insights: &[Insight]) {
    if insights.is_empty() {
        return;
    }
    page.heading("What stands out");
    for insight in insights {
        let ink = if insight.severity == Severity::Warn { Ink::Warn } else { Ink::Good };
        page.tagged(ink, "•", &insight.headline);
        let evidence: Vec<String> =
            insight.evidence.iter().map(|(name, value)| figure(name, value)).collect();
        page.tagged(Ink::Plain, " ", &evidence.join(", "));
        page.tagged(Ink::Plain, " ", &insight.advice);
    }
}

/// A figure by its name in the report, whose ending tells the unit.
fn figure(name: &str, value: &serde_json::Value) -> String {
    let shown = |name: &str, text: String| format!("{} {text}", name.replace('_', " "));
    match (value.as_u64(), name.rsplit_once('_')) {
        (Some(n), Some((name, "ns"))) => shown(name, nanos(n)),
        (Some(n), Some((name, "bytes"))) => shown(name, bytes(n as f64)),
        (Some(n), _) if name == "pid" => shown(name, n.to_string()),
        (Some(n), _) => shown(name, count(n)),
        (None, _) if value.is_null() => shown(name, "unknown".to_owned()),
        (None, _) => shown(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    }
}

fn own(page: &mut Page, own: &Own) {
    page.heading("inferscope itself");
    let unknown = || "unknown".to_owned();
    let cpu = own.cpu_ns.map_or_else(unknown, nanos);
    let rss = own.max_rss_bytes.map_or_else(unknown, |n| bytes(n as f64));
    page.pair("cost", &format!("{cpu} of CPU, {rss} at peak"));
    let kernel = match (own.bpf_run_ns, own.bpf_run_count) {
        (Some(ns), Some(runs)) => {
            let each = if runs > 0 {
                format!(" ({} each)", duration(ns as f64 / runs as f64))
            } else {
                String::new()
            };
            format!("{} in {} runs{each}", nanos(ns), count(runs))
        }
        _ => format!("unknown: {}", own.bpf_reason.as_deref().unwrap_or("not measured")),
    };
    page.pair("kernel program", &kernel);
}

#[cfg(test)]
mod tests;
