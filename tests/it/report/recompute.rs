//! Every figure of many real reports against a second reckoning from the reports' own lists.
//!
//! The runs are short and several at a time: what is judged is arithmetic, not the machine.

mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use inferscope_tests::binary;
use inferscope_tests::recompute::{Outcome, recompute};
use inferscope_tests::requirements::say;
use serde_json::Value;

/// At a time.
const RUNNERS: usize = 3;
const LEAST_REPORTS: usize = 40;

struct Done {
    name: &'static str,
    report: Value,
    outcome: Outcome,
}

#[test]
fn every_figure_is_what_its_definition_makes_of_the_reports_own_lists() {
    let runs = runs::all();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..RUNNERS {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let reckoned = (run.run)().map(|report| Done {
                        name: run.name,
                        outcome: recompute(&report),
                        report,
                    });
                    let mut done = done.lock().expect("no other run has panicked");
                    done.push(reckoned.map_err(|why| format!("{}: {why}", run.name)));
                }
            });
        }
    });
    let done = done.into_inner().expect("no run has panicked");
    let (done, failed): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).collect();
    let done: Vec<Done> = done.into_iter().filter_map(Result::ok).collect();
    let figures: usize = done.iter().map(|run| run.outcome.figures.len()).sum();
    let differ: usize = done.iter().map(|run| run.outcome.differ.len()).sum();
    let withheld: usize = done.iter().map(|run| run.outcome.withheld.len()).sum();
    tell_what_was_left_out(&done);
    say(&format!(
        "{} reports, {figures} figures, {differ} differ; {withheld} withheld with a reason",
        done.len()
    ));
    for run in &done {
        if !run.outcome.differ.is_empty() {
            keep(run);
        }
        for d in &run.outcome.differ {
            say(&format!(
                "{}: {}: told {}, recomputed {}: {}",
                run.name, d.path, d.told, d.recomputed, d.definition
            ));
        }
    }
    assert!(failed.is_empty(), "no report: {failed:#?}");
    let unknown: BTreeSet<&String> = done.iter().flat_map(|run| &run.outcome.unknown).collect();
    assert_eq!(differ, 0, "the figures above differ from what their definitions say");
    assert!(
        unknown.is_empty(),
        "neither recomputed nor told why not (tests/src/recompute/left_out.rs): {unknown:#?}"
    );
    assert!(done.len() >= LEAST_REPORTS, "{} reports", done.len());
    for run in &done {
        assert!(!run.outcome.figures.is_empty(), "{}: nothing could be recomputed", run.name);
    }
    for name in ["a sweep that saturates", "a device", "the demo's server"] {
        let run = done.iter().find(|run| run.name == name).unwrap_or_else(|| panic!("no run {name}"));
        notices_what_is_changed(run);
    }
}

/// For whoever looks into it.
fn keep(run: &Done) {
    let dir = binary::target_dir().join("recompute");
    let path = dir.join(run.name.replace([' ', ','], "_") + ".json");
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&path, run.report.to_string()))
        .expect("target/ is ours");
    say(&format!("kept: {}", path.display()));
}

fn tell_what_was_left_out(done: &[Done]) {
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (pattern, why) in done.iter().flat_map(|run| &run.outcome.left_out) {
        all.entry(*why).or_default().insert(pattern);
    }
    for (why, patterns) in all {
        let patterns: Vec<&str> = patterns.into_iter().collect();
        say(&format!("not recomputed ({why}): {}", patterns.join(" ")));
    }
}

/// A reckoning that finds nothing wrong has to find wrong what is: each figure of a report is changed, one at a time.
fn notices_what_is_changed(run: &Done) {
    let mut report = run.report.clone();
    let (mut tried, mut unnoticed) = (BTreeSet::new(), Vec::new());
    for path in &run.outcome.figures {
        // One of a list stands for the others.
        let kind: Vec<&str> =
            path.split('/').map(|key| if key.parse::<u32>().is_ok() { "*" } else { key }).collect();
        let Some(told) = report.pointer(path).filter(|told| told.is_number()).cloned() else { continue };
        if !tried.insert(kind.join("/")) {
            continue;
        }
        let value = told.as_f64().expect("it is a number");
        let mut is_noticed = |value: f64| {
            let value = if told.is_u64() { Value::from(value.round() as u64) } else { Value::from(value) };
            *report.pointer_mut(path).expect("it was there") = value;
            !recompute(&report).differ.is_empty()
        };
        // Where the lists leave a figure open within bounds, it takes more.
        if ![value * 1.07 + 3.0, value * 0.5, value * 10.0 + 1e9].into_iter().any(&mut is_noticed) {
            unnoticed.push(path);
        }
        *report.pointer_mut(path).expect("it was there") = told;
    }
    say(&format!("{}: {} figures changed, one at a time", run.name, tried.len()));
    assert!(unnoticed.is_empty(), "{}: nobody notices when these are wrong: {unnoticed:#?}", run.name);
}
