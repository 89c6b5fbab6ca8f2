//! `cargo xtask demo`: from a fresh checkout to a report.
//!
//! Owns the output of the README's first command, and the place of its files. Never measures by itself: the binary
//! does. Called by `main.rs`.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::engine::Engine;
use crate::setup;
use crate::steps::{say, visibly};
use crate::workspace::Workspace;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// The server inside of inferscope, with synthetic tokens
    Builtin,
    /// llama.cpp's server with SmolLM2-135M, behind a shell as wrapper
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

pub(crate) fn run(workspace: &Workspace, kind: Kind) -> Result<()> {
    match kind {
        Kind::Builtin => {
            setup::toolchain(workspace)?;
            let inferscope = build(workspace)?;
            report(workspace, &inferscope, "inferscope-demo", &["demo"])
        }
        Kind::LlamaCpp => {
            let files = setup::with_engine(workspace)?;
            let inferscope = build(workspace)?;
            let log = folder(workspace)?.join("llama.cpp.log");
            let engine = Engine::start(workspace, &files, &log)?;
            say(format_args!(
                "engine: port {}, wrapper pid {}, log {}",
                engine.port,
                engine.pid(),
                log.display()
            ));
            let endpoint = format!("http://127.0.0.1:{}", engine.port);
            let pid = engine.pid().to_string();
            let profile = ["profile", "--endpoint", &endpoint, "--pid", &pid, "--requests", "4"];
            let prompt = ["--max-tokens", "64", "--prompt", "Tell a short story about a lighthouse keeper."];
            report(workspace, &inferscope, "inferscope-llama.cpp", &[&profile[..], &prompt].concat())
        }
    }
}

/// An optimised build, as the output includes the tool's own cost.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    say("building inferscope");
    visibly(workspace.cargo().args(["build", "--release", "--package", "inferscope"]))?;
    Ok(workspace.binary("release", "inferscope"))
}

fn folder(workspace: &Workspace) -> Result<PathBuf> {
    let dir = workspace.target.join("demo");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    Ok(dir)
}

/// Runs inferscope with its text report on stdout and in a file, and its JSON report beside that.
fn report(workspace: &Workspace, inferscope: &Path, name: &str, args: &[&str]) -> Result<()> {
    let dir = folder(workspace)?;
    let [json, text] = ["json", "txt"].map(|extension| dir.join(format!("{name}.{extension}")));
    let mut child = Command::new(inferscope)
        .args(args)
        .arg("-o")
        .arg(&json)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", inferscope.display()))?;
    let stdout = child.stdout.take().context("inferscope has no stdout")?;
    let copied = copy(stdout, &text);
    let status = child.wait()?;
    copied?;
    if !status.success() {
        bail!("`inferscope {}` ended with {status}", args.join(" "));
    }
    say(format_args!("text report: {}", text.display()));
    say(format_args!("JSON report: {}", json.display()));
    Ok(())
}

/// Copies the output to stdout and to a file as it arrives.
fn copy(mut from: impl Read, path: &Path) -> Result<()> {
    let mut file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut stdout = io::stdout().lock();
    let mut buffer = [0; 8192];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read inferscope's report"),
        };
        file.write_all(&buffer[..length]).with_context(|| format!("cannot write {}", path.display()))?;
        // A closed stdout (`| head`) must not cost the file.
        let _ = stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush());
    }
}
