//! `cargo xtask fuzz`: runs the fuzz targets under `fuzz/`.
//!
//! Owns the flags that instrument a build with a stable compiler, which is all that cargo-fuzz and a nightly would
//! add, and where the fuzzer keeps what it finds. Never part of `ci`: a test replays the corpus there. Called by
//! `main.rs`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::setup;
use crate::steps::{captured, say, step, visibly};
use crate::workspace::Workspace;

const TARGETS: [&str; 4] = ["sse", "interpret", "dataset", "request"];

/// What libFuzzer wants to know: which edges were taken, and what was compared with what.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Fuzzes one target, or each in turn, for so many seconds.
pub(crate) fn run(workspace: &Workspace, target: Option<&str>, seconds: u32) -> Result<()> {
    if let Some(target) = target {
        ensure!(TARGETS.contains(&target), "there is no target '{target}'; there are {}", TARGETS.join(", "));
    }
    setup::toolchain(workspace)?;
    let dir = workspace.target.join("fuzz");
    let host = host(workspace)?;
    // Naming the host as the target keeps the flags from build scripts and macros, which can't be linked with them.
    step("building the fuzz targets", || {
        let mut build = workspace.cargo();
        build.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &host]);
        captured(build.arg("--target-dir").arg(&dir).env("RUSTFLAGS", INSTRUMENTED)).map(drop)
    })?;
    for name in TARGETS.iter().filter(|name| target.is_none_or(|target| target == **name)) {
        one(workspace, &dir, &host, name, seconds)?;
    }
    Ok(())
}

fn one(workspace: &Workspace, dir: &Path, host: &str, name: &str, seconds: u32) -> Result<()> {
    say(format_args!("── {name} ──"));
    let (corpus, found) = (dir.join("corpus").join(name), dir.join("found").join(name));
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let program = dir.join(host).join("release").join(name);
    let mut fuzzer = std::process::Command::new(&program);
    // Grows the first folder and begins with what both hold.
    fuzzer.arg(&corpus).arg(workspace.root.join("fuzz/corpus").join(name));
    fuzzer.arg(format!("-artifact_prefix={}/", found.display())).arg(format!("-max_total_time={seconds}"));
    fuzzer.args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"]);
    if let Err(error) = visibly(&mut fuzzer) {
        bail!(
            "{error}\n  what it found is under {}; run {} with that file to see it again, and keep it as \
             fuzz/corpus/{name}/found-…",
            found.display(),
            program.display()
        );
    }
    Ok(())
}

fn host(workspace: &Workspace) -> Result<String> {
    let mut rustc = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output = captured(rustc.arg("-vV").current_dir(&workspace.root))?;
    let host = output.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
