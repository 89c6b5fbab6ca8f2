//! Compiles the kernel program and hands it to the library as `OUT_DIR/inferscope-ebpf.o`.
//!
//! Owns the one command line that builds `inferscope-ebpf`, and what makes it run again. Never looks for a
//! toolchain by its own rules (that is `xtask/src/toolchain.rs`, included here) and never installs one. Run
//! by Cargo.

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "xtask uses what is dead here")]
mod toolchain;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use toolchain::{BPF_TARGET, Toolchain};

const PACKAGE: &str = "inferscope-ebpf";

/// How the script ends the build.
enum Failure {
    /// The message says it all.
    Told(String),
    /// The compiler has said it on stderr, which Cargo shows when a script exits with a failure.
    SeeLog(String),
}

impl<T: Into<String>> From<T> for Failure {
    fn from(message: T) -> Self {
        Self::Told(message.into())
    }
}

fn main() -> ExitCode {
    let (message, code) = match build() {
        Ok(()) => return ExitCode::SUCCESS,
        // An error line fails the build by itself; a bad exit code would add this script's whole log.
        Err(Failure::Told(message)) => (message, ExitCode::SUCCESS),
        Err(Failure::SeeLog(message)) => (message, ExitCode::FAILURE),
    };
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    code
}

fn build() -> Result<(), Failure> {
    let manifest_dir = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir.parent().ok_or("the package lies outside of its workspace")?;
    let out_dir = PathBuf::from(required("OUT_DIR")?);

    watch_sources(root);
    emit_commit(root);

    let toolchain = toolchain::locate().map_err(|error| error.to_string())?;
    for path in toolchain.watched() {
        rerun_if_changed(&path);
    }
    let object = match &toolchain {
        Toolchain::Object(object) => object.clone(),
        compiler => compile(compiler, root, &out_dir)?,
    };
    let embedded = out_dir.join("inferscope-ebpf.o");
    fs::copy(&object, &embedded).map(drop).map_err(|error| {
        format!("cannot copy {} to {}: {error}", object.display(), embedded.display()).into()
    })
}

/// Runs a second Cargo on the eBPF crate.
fn compile(toolchain: &Toolchain, root: &Path, out_dir: &Path) -> Result<PathBuf, Failure> {
    let cargo = required("CARGO")?;
    let (mut command, linker) = match toolchain {
        Toolchain::Prebuilt { rustc, linker } => (with_rustc(&cargo, rustc), linker.clone()),
        Toolchain::Prepared(prepared) => (with_rustc(&cargo, &prepared.rustc()), prepared.linker()),
        Toolchain::Nightly { linker, .. } => {
            let mut command = clean(Command::new("rustup"));
            command.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            (command, linker.clone())
        }
        Toolchain::Object(object) => return Ok(object.clone()),
    };

    let target_dir = target_dir(out_dir);
    command
        .current_dir(root)
        .args(["--package", PACKAGE, "--release", "--target", BPF_TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("PATH", path_starting_with(linker.parent())?)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?)
        .stdin(Stdio::null());
    let status = command
        .status()
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        let message = format!("the eBPF program did not compile ({toolchain}); its errors are below");
        return Err(Failure::SeeLog(message));
    }
    Ok(target_dir.join(BPF_TARGET).join("release").join(PACKAGE))
}

/// Not the usual target directory, as the outer Cargo holds its lock until this script ends. One for all of
/// the builds (debug, release, clippy) that have a script run of their own, else each compiles `core`'s users
/// and aya again, which takes 20 s: `target/ebpf`, four levels above `target/debug/build/inferscope-…/out`.
fn target_dir(out_dir: &Path) -> PathBuf {
    let is_usual_layout = out_dir.ancestors().nth(2).is_some_and(|dir| dir.ends_with("build"));
    let shared = out_dir.ancestors().nth(4).filter(|_| is_usual_layout);
    shared.map_or_else(|| out_dir.join("ebpf-target"), |target| target.join("ebpf"))
}

/// `RUSTC_BOOTSTRAP` names the crates that need unstable features (inline assembly for this target). The value 1 would open them to every
/// crate and make aya's own build script ask for build-std.
fn with_rustc(cargo: &OsString, rustc: &Path) -> Command {
    let mut command = clean(Command::new(cargo));
    command.arg("build").env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "aya_ebpf,inferscope_ebpf");
    command
}

/// The kernel's headers differ between architectures, so aya's register access has to know the one that the
/// program will run on: the one that inferscope itself is built for. The object names its sources, as it would
/// the machine that built it.
fn rustflags(root: &Path) -> Result<OsString, String> {
    let arch = required("CARGO_CFG_TARGET_ARCH")?;
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", arch.to_string_lossy());
    let mut flags = OsString::from([arch.as_str(), "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"));
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let sources = home.iter().flat_map(|home| fs::read_dir(home.join("registry/src"))).flatten().flatten();
    let sources = sources.map(|source| (source.path(), "=/registry"));
    for (from, to) in sources.chain([(root.to_path_buf(), "=/inferscope")]) {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push(to);
    }
    Ok(flags)
}

/// Takes away what Cargo, clippy and the caller set for the outer build: wrappers and flags meant for the
/// host's compiler, profile overrides, per-package variables. The registry's set-up and the job server stay.
fn clean(mut command: Command) -> Command {
    const DROPPED: [&str; 4] = ["CARGO", "RUSTC", "RUSTDOC", "DEP_"];
    const DROPPED_EXACTLY: [&str; 8] =
        ["RUSTFLAGS", "TARGET", "HOST", "OUT_DIR", "NUM_JOBS", "OPT_LEVEL", "PROFILE", "DEBUG"];
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_TERM_",
    ];
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| shown.starts_with(prefix));
        if DROPPED_EXACTLY.contains(&&*shown) || (starts(&DROPPED) && !starts(&KEPT)) {
            command.env_remove(&name);
        }
    }
    // An empty value also overrides a wrapper from the user's Cargo configuration.
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    command
}

/// rustc finds `bpf-linker` by name.
fn path_starting_with(dir: Option<&Path>) -> Result<OsString, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = dir.map(Path::to_path_buf).into_iter().chain(env::split_paths(&path));
    env::join_paths(dirs).map_err(|error| format!("the linker's folder cannot be put on PATH: {error}"))
}

fn watch_sources(root: &Path) {
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "inferscope-ebpf/Cargo.toml",
        "inferscope-ebpf/src",
        "inferscope-common/Cargo.toml",
        "inferscope-common/src",
        "inferscope/build.rs",
        "xtask/src/toolchain.rs",
    ] {
        rerun_if_changed(&root.join(path));
    }
    for var in toolchain::WATCHED_VARS {
        println!("cargo::rerun-if-env-changed={var}");
    }
}

/// Tells the library which commit it was built from. Unknown in a source archive, even one unpacked inside of
/// somebody else's repository.
fn emit_commit(root: &Path) {
    let git = |args: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(root).args(args).stderr(Stdio::null()).output().ok()?;
        let text = output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let ours = git(&["rev-parse", "--show-toplevel"])
        .and_then(|top| Some(fs::canonicalize(top).ok()? == fs::canonicalize(root).ok()?))
        .unwrap_or(false);
    let commit = ours.then(|| git(&["rev-parse", "--short=12", "HEAD"])).flatten();
    println!("cargo::rustc-env=INFERSCOPE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    if !ours {
        return;
    }

    // HEAD changes with the branch, the branch's file with each commit. A path that is missing would make
    // Cargo run this script every time, so the folder of the branches stands in for a file not yet written.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs", branch.as_deref().unwrap_or("HEAD")] {
        let Some(path) = git(&["rev-parse", "--git-path", name]).map(|path| root.join(path)) else {
            continue;
        };
        let watched = [path.as_path()].into_iter().chain(path.parent()).find(|path| path.exists());
        match watched {
            Some(path) if path.is_file() || name.starts_with("refs/") => rerun_if_changed(path),
            _ => {}
        }
    }
}

/// Cargo takes a path that does not exist for one that has changed.
fn rerun_if_changed(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn required(name: &str) -> Result<OsString, String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this script is run by cargo"))
}
