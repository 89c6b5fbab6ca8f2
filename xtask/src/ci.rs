//! `cargo xtask test` and `cargo xtask ci`: every check, the same by hand and in CI.
//!
//! Owns the list of checks and their order, the cheap ones first. Never repairs what a check finds. Called by
//! `main.rs`; `.ci/run` calls `cargo xtask ci`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::engine::ENGINE_VAR;
use crate::peers::PEERS_VAR;
use crate::steps::{say, seconds, visibly};
use crate::workspace::Workspace;
use crate::{audit, layers, schema, setup, vm};

/// Everything that is built for the host. The kernel program has another target and is built by the library's
/// build script.
const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "inferscope-ebpf"];

type Check = fn(&Workspace) -> Result<()>;

const CHECKS: [(&str, Check); 9] = [
    ("fmt", fmt),
    ("layers", layers::check),
    ("dependencies", audit::check),
    ("setup", |workspace| setup::with_engine(workspace).and(setup::peers_of_tests(workspace)).map(drop)),
    ("clippy", clippy),
    ("docs", docs),
    ("test", |workspace| test(workspace, &[])),
    ("vm", vm::gate),
    ("schema", |workspace| schema::run(workspace, true)),
];

/// Runs the checks up to the first that fails, and tells how long each took.
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

/// Unit tests, doc tests, kernel and engine tests; `args` go to `cargo test`.
pub(crate) fn test(workspace: &Workspace, args: &[String]) -> Result<()> {
    let engine = setup::with_engine(workspace)?;
    let peers = setup::peers_of_tests(workspace)?;
    // The integration tests run the binary and load the stand-in for a driver, which lie in other packages than theirs, and
    // take those of their own profile.
    let release = args.iter().take_while(|arg| *arg != "--").find(|arg| *arg == "--release" || *arg == "-r");
    visibly(
        workspace
            .cargo()
            .args(["build", "--package", "inferscope", "--package", "inferscope-nvml-standin"])
            .args(release),
    )?;
    let mut command = workspace.cargo();
    command.arg("test").args(HOST_PACKAGES).args(args).env(ENGINE_VAR, &engine.json);
    // It was set up just now, so a test that does not find it has a fault.
    command.env("INFERSCOPE_REQUIRE_ENGINE", "1").env(PEERS_VAR, &peers.json);
    if peers.missing.is_empty() {
        command.env("INFERSCOPE_REQUIRE_PEERS", "1");
    }
    visibly(&mut command)
}

fn fmt(workspace: &Workspace) -> Result<()> {
    visibly(workspace.cargo().args(["fmt", "--all", "--check"])).context("`cargo fmt --all` repairs it")
}

/// Not of the eBPF crate: clippy's driver has to be of the compiler that knows its target, and no toolchain that
/// `setup` finds or prepares has one for certain. Its warnings are those of its own build.
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
