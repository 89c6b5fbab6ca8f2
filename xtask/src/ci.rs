//! `cargo xtask ci`: every check, the same by hand and in CI.
//!
//! Owns the list of checks and their order, the cheap ones first. Never repairs what a check finds. Called by
//! `main.rs`; `.ci/run` calls `cargo xtask ci`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::steps::{say, seconds, visibly};
use crate::workspace::Workspace;
use crate::{audit, layers, schema, setup, test_run, vm};

/// Everything that is built for the host. The kernel program has another target and is built by the library's
/// build script.
pub(crate) const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "inferscope-ebpf"];

type Check = fn(&Workspace) -> Result<()>;

const CHECKS: [(&str, Check); 9] = [
    ("fmt", fmt),
    ("layers", layers::check),
    ("dependencies", audit::check),
    ("setup", |workspace| setup::with_engine(workspace).and(setup::peers_of_tests(workspace)).map(drop)),
    ("clippy", clippy),
    ("docs", docs),
    ("test", |workspace| test_run::run(workspace, &[])),
    ("vm", vm::gate),
    ("schema", |workspace| schema::run(workspace, true)),
];

/// Runs the checks up to the first failure, and prints the duration of each.
pub(crate) fn ci(workspace: &Workspace) -> Result<()> {
    let mut took: Vec<(&str, Duration)> = Vec::new();
    let mut failed = None;
    for (name, check) in CHECKS {
        say(format_args!("── {name} ──"));
        let started = Instant::now();
        let result = check(workspace);
        took.push((name, started.elapsed()));
        if let Err(error) = result {
            failed = Some(error.context(format!("ci: {name} failed")));
            break;
        }
    }
    say("── summary ──");
    for (index, (name, duration)) in took.iter().enumerate() {
        let outcome = if failed.is_some() && index + 1 == took.len() { "FAILED" } else { "ok" };
        say(format_args!("{name:<12}{outcome:<8}{:>9}", seconds(*duration)));
    }
    for (name, _) in &CHECKS[took.len()..] {
        say(format_args!("{name:<12}not run"));
    }
    say(format_args!("{:<20}{:>9}", "total", seconds(took.iter().map(|(_, duration)| *duration).sum())));
    failed.map_or(Ok(()), Err)
}

fn fmt(workspace: &Workspace) -> Result<()> {
    visibly(workspace.cargo().args(["fmt", "--all", "--check"])).context("`cargo fmt --all` repairs it")
}

/// clippy does not run on the eBPF crate: its driver must belong to a compiler that knows the target, and not every
/// toolchain of `setup` has one. That crate's own build reports its warnings.
fn clippy(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.arg("clippy").args(HOST_PACKAGES).args(["--all-targets", "--", "-D", "warnings"]);
    visibly(&mut command)?;
    say("clippy: inferscope-ebpf not checked, because clippy cannot compile for its target");
    Ok(())
}

fn docs(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command
        .args(["doc", "--no-deps", "--lib", "--package", "inferscope", "--package", "inferscope-common"])
        .env("RUSTDOCFLAGS", "-D warnings");
    visibly(&mut command)
}
