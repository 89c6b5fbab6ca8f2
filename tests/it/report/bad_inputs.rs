//! What a command line, an environment, a server, a target or an output can get wrong, one thing at a time: over 300 of them.
//!
//! Each is a run of its own. Whatever it meets, it ends in time with a documented exit code, says an error in one
//! line and its remedy in the next, writes no control character and no half report, and panics never. `cargo xtask
//! test --test bad_inputs -- --nocapture` prints the table.

mod case;
mod environment;
mod flags;
mod output;
mod server;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::Case;

/// Runs at a time: most of a run is a wait.
const WORKERS: usize = 6;

#[test]
fn whatever_is_wrong_is_told_and_ends_with_a_documented_code() {
    let dir = tempfile::tempdir().unwrap();
    let served = server::Server::start();
    let cases: Vec<Case> = [
        flags::cases(dir.path()),
        environment::cases(dir.path(), &served.good()),
        server::cases(&served),
        target::cases(dir.path()),
        output::cases(dir.path(), &served.good()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let names: BTreeSet<(&str, &str)> = cases.iter().map(|case| (case.area, case.name.as_str())).collect();
    assert_eq!(names.len(), cases.len(), "each is tried once");
    assert!(cases.len() >= 300, "{} are too few", cases.len());

    let (next, wrong, table) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ended = case.run();
                    let faults = case.faults(ended.as_ref());
                    *table
                        .lock()
                        .unwrap()
                        .entry((case.area, ended.as_ref().and_then(|ended| ended.code)))
                        .or_insert(0_u32) += 1;
                    if !faults.is_empty() {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{} · {}: {faults:?}\n{ended:#?}", case.area, case.name));
                    }
                }
            });
        }
    });
    print_table(&table.into_inner().unwrap(), cases.len());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

fn print_table(table: &BTreeMap<(&str, Option<i32>), u32>, tried: usize) {
    let areas: BTreeSet<&str> = table.keys().map(|(area, _)| *area).collect();
    let codes: BTreeSet<Option<i32>> = table.keys().map(|(_, code)| *code).collect();
    let shown = |code: &Option<i32>| code.map_or("none".to_owned(), |code| format!("exit {code}"));
    println!("| what is wrong | tried | {} |", codes.iter().map(shown).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "--:|".repeat(codes.len() + 1));
    for area in areas {
        let of = |code: &Option<i32>| table.get(&(area, *code)).copied().unwrap_or(0);
        let counts: Vec<String> = codes.iter().map(|code| of(code).to_string()).collect();
        let sum: u32 = codes.iter().map(of).sum();
        println!("| {area} | {sum} | {} |", counts.join(" | "));
    }
    println!("| all | {tried} |");
}
