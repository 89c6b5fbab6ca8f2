//! `recompute REPORT.json…`: reports against a second reckoning from their own lists.
//!
//! Owns reading the files and telling what differs. Run by hand; `it/report/recompute.rs` is the same over reports of its own.

use std::process::ExitCode;

use inferscope_tests::recompute::recompute;

fn main() -> ExitCode {
    let mut differ = 0;
    for path in std::env::args().skip(1) {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) => {
                eprintln!("error: {path}: {e}");
                return ExitCode::FAILURE;
            }
        };
        let report = match serde_json::from_slice(&text) {
            Ok(report) => report,
            Err(e) => {
                eprintln!("error: {path}: {e}");
                return ExitCode::FAILURE;
            }
        };
        let outcome = recompute(&report);
        println!("{path}: {} figures, {} differ", outcome.figures.len(), outcome.differ.len());
        for d in &outcome.differ {
            println!("  {}: told {}, recomputed {}: {}", d.path, d.told, d.recomputed, d.definition);
        }
        for path in &outcome.withheld {
            println!("  withheld with a reason: {path}");
        }
        for path in &outcome.unknown {
            println!("  neither recomputed nor known not to be: {path}");
        }
        differ += outcome.differ.len();
    }
    if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
