//! The roles of real process trees. What is told of made-up ones is in `inferscope::analysis::roles`.

use std::collections::BTreeMap;

use inferscope_tests::report::Named;
use inferscope_tests::{binary, requirements};

/// How many processes have each role.
fn roles_of(command: &[&str]) -> BTreeMap<String, usize> {
    let args = [&["exec", "--json", "--tracker", "ebpf", "--"], command].concat();
    let report = binary::run(&args).report();
    let mut roles = BTreeMap::new();
    for process in report["processes"].list("list") {
        *roles.entry(process.text("role").to_owned()).or_default() += 1;
    }
    roles
}

fn counted<const N: usize>(roles: [(&str, usize); N]) -> BTreeMap<String, usize> {
    roles.map(|(role, n)| (role.to_owned(), n)).into()
}

#[test]
fn pythons_own_processes_are_no_workers_however_they_are_started() {
    const WHAT: &str = "Python's multiprocessing";
    if !requirements::kernel(WHAT) {
        return;
    }
    let Some(python) = requirements::peer("python", WHAT) else { return };
    // What it leads to, as a wrapper of it would run helpers of its own.
    let python = python.canonicalize().unwrap();
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/py/multiprocessing_app.py");
    let of = |method| roles_of(&[python.to_str().unwrap(), app, method]);
    assert_eq!(of("fork"), counted([("arbiter", 1), ("worker", 2)]));
    assert_eq!(of("spawn"), counted([("arbiter", 1), ("service", 1), ("worker", 2)]));
    // The one that forks them is the arbiter; the program itself is the root.
    assert_eq!(of("forkserver"), counted([("arbiter", 1), ("root", 1), ("service", 1), ("worker", 2)]));
}

#[test]
fn the_parts_of_a_pipeline_are_workers_and_the_steps_before_it_are_helpers() {
    if !requirements::kernel("a shell's pipeline") {
        return;
    }
    let steps = "/bin/true; /bin/true; (sleep 0.7; /bin/true) | sleep 0.8; /bin/true";
    let roles = roles_of(&["/bin/bash", "-c", steps]);
    assert_eq!(roles.get("arbiter"), None, "{roles:?}");
    assert!(roles.get("worker").is_some_and(|n| *n >= 2), "{roles:?}");
    // The last command of a shell may take its place.
    assert!(roles.get("helper").is_some_and(|n| (2..=4).contains(n)), "{roles:?}");
}
