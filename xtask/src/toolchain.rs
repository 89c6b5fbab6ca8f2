//! Finds the toolchain that can compile the kernel program.
//!
//! Owns the search order and the place of a prepared toolchain. Never downloads, builds or changes anything:
//! `debian.rs` prepares. Called by `cargo xtask` and, through `#[path]`, by `inferscope/build.rs`, so that both find
//! the same; it therefore uses nothing but `std`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A ready kernel object to embed; nothing is compiled.
pub(crate) const OBJECT_VAR: &str = "INFERSCOPE_EBPF_OBJECT";
/// A rustc whose sysroot holds a compiled `core` for [`BPF_TARGET`].
pub(crate) const RUSTC_VAR: &str = "INFERSCOPE_BPF_RUSTC";
/// A bpf-linker that is not on `PATH`. Its LLVM must not be older than the rustc's.
pub(crate) const LINKER_VAR: &str = "INFERSCOPE_BPF_LINKER";

/// Every variable that the search reads; a build script has to run again when one changes. `PATH` is left
/// out on purpose: editors and shells differ in it, and a failed build script runs again anyway.
pub(crate) const WATCHED_VARS: [&str; 6] =
    [OBJECT_VAR, RUSTC_VAR, LINKER_VAR, "XDG_CACHE_HOME", "HOME", "CARGO_HOME"];

pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";

/// The bpf-linker release that goes into the prepared toolchain.
pub(crate) const LINKER_VERSION: &str = "0.13.0";
/// Raised whenever the recipe of `debian.rs` changes, so that an older folder is not taken for a current one.
const RECIPE: &str = "r1";

/// What can turn the kernel program's source into an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The object is there already.
    Object(PathBuf),
    /// A rustc that brings `core` for BPF; any channel.
    Prebuilt { rustc: PathBuf, linker: PathBuf },
    /// rustup's nightly, which compiles `core` itself from rust-src. `rustc` is only watched.
    Nightly { rustc: PathBuf, linker: PathBuf },
    /// The folder that `cargo xtask setup` makes.
    Prepared(Prepared),
}

/// The layout of the folder that `cargo xtask setup` makes, given its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) dir: PathBuf,
}

impl Prepared {
    /// `${XDG_CACHE_HOME:-~/.cache}/inferscope/ebpf-toolchain/<recipe>`; `None` without a home.
    fn of(var: Var) -> Option<Self> {
        let cache = cache_of(var)?;
        let key = format!("{RECIPE}-bpf-linker-{LINKER_VERSION}-{}", std::env::consts::ARCH);
        Some(Self { dir: cache.join("ebpf-toolchain").join(key) })
    }

    /// Written last, so a folder without it is an interrupted set-up. Says which packages went in.
    pub(crate) fn stamp(&self) -> PathBuf {
        self.dir.join("stamp")
    }

    /// A wrapper script, because the unpacked compiler needs the path of its libraries.
    pub(crate) fn rustc(&self) -> PathBuf {
        self.dir.join("rustc")
    }

    pub(crate) fn linker(&self) -> PathBuf {
        self.dir.join("bpf-linker/bin/bpf-linker")
    }

    fn is_complete(&self) -> bool {
        self.stamp().is_file() && self.rustc().is_file() && self.linker().is_file()
    }
}

impl Toolchain {
    /// Files whose change means that the kernel program has to be compiled again.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        match self {
            Self::Object(object) => vec![object.clone()],
            Self::Prebuilt { rustc, linker } | Self::Nightly { rustc, linker } => {
                vec![rustc.clone(), linker.clone()]
            }
            Self::Prepared(prepared) => vec![prepared.stamp()],
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => write!(f, "ready object {}", object.display()),
            Self::Prebuilt { rustc, .. } => {
                write!(f, "{} with its own core for {BPF_TARGET}", rustc.display())
            }
            Self::Nightly { .. } => f.write_str("rustup's nightly with rust-src"),
            Self::Prepared(prepared) => write!(f, "prepared in {}", prepared.dir.display()),
        }
    }
}

/// No usable toolchain, with one line for each place that was looked at.
#[derive(Debug)]
pub(crate) struct NotFound {
    /// Something that was named explicitly can't be used, so another toolchain is no remedy.
    pub(crate) asked_for: bool,
    pub(crate) tried: Vec<String>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy =
            if self.asked_for { "correct or unset that variable" } else { "run `cargo xtask setup`" };
        write!(f, "no toolchain for the eBPF program: {remedy}")?;
        self.tried.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for NotFound {}

type Var<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Looks for a toolchain: a ready object, a rustc with a BPF `core`, rustup's nightly with rust-src, the
/// prepared folder. What an environment variable names is used or refused, never passed over in silence.
pub(crate) fn locate() -> Result<Toolchain, NotFound> {
    locate_in(&|name| std::env::var_os(name), &sysroot_of)
}

/// Where the prepared toolchain is or would be; `None` without a home directory.
pub(crate) fn prepared() -> Option<Prepared> {
    Prepared::of(&|name| std::env::var_os(name))
}

/// `${XDG_CACHE_HOME:-~/.cache}/inferscope`; `None` without a home directory.
pub(crate) fn cache() -> Option<PathBuf> {
    cache_of(&|name| std::env::var_os(name))
}

fn cache_of(var: Var) -> Option<PathBuf> {
    let named = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = match named("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        Some(cache) => cache,
        None => named("HOME")?.join(".cache"),
    };
    Some(cache.join("inferscope"))
}

/// The search, with the environment and the question "which sysroot?" passed in for the tests' sake.
fn locate_in(var: Var, sysroot: &dyn Fn(&[&str]) -> Option<PathBuf>) -> Result<Toolchain, NotFound> {
    let refuse = |line: String| Err(NotFound { asked_for: true, tried: vec![line] });
    let mut tried = Vec::new();

    if let Some(object) = var(OBJECT_VAR).map(PathBuf::from) {
        return match object.is_file() {
            true => Ok(Toolchain::Object(object)),
            false => refuse(format!("{OBJECT_VAR}: no file {}", object.display())),
        };
    }
    let linker = match var(LINKER_VAR).map(PathBuf::from) {
        Some(linker) if linker.is_file() && linker.ends_with("bpf-linker") => Some(linker),
        Some(linker) => return refuse(format!("{LINKER_VAR}: no file bpf-linker at {}", linker.display())),
        None => find_linker(var),
    };

    if let Some(rustc) = var(RUSTC_VAR).map(PathBuf::from) {
        let has_core = sysroot(&[&rustc.to_string_lossy()]).is_some_and(|root| has_bpf_core(&root));
        return match (has_core, linker) {
            (true, Some(linker)) => Ok(Toolchain::Prebuilt { rustc, linker }),
            (true, None) => refuse(format!("{RUSTC_VAR}: needs a bpf-linker on PATH or in {LINKER_VAR}")),
            (false, _) => refuse(format!("{RUSTC_VAR}: {} has no core for {BPF_TARGET}", rustc.display())),
        };
    }

    // Cargo names its rustc to a build script; elsewhere it is the one on PATH.
    let current = var("RUSTC").map_or("rustc".into(), |rustc| rustc.to_string_lossy().into_owned());
    let with_core = sysroot(&[&current]).filter(|root| has_bpf_core(root));
    let nightly = sysroot(&["rustup", "run", "nightly", "rustc"]).filter(|root| has_rust_src(root));
    match (with_core, nightly, linker) {
        (Some(root), _, Some(linker)) => {
            return Ok(Toolchain::Prebuilt { rustc: root.join("bin/rustc"), linker });
        }
        (_, Some(root), Some(linker)) => {
            return Ok(Toolchain::Nightly { rustc: root.join("bin/rustc"), linker });
        }
        (None, None, _) => {
            tried.push(format!("rustc: has no core for {BPF_TARGET}"));
            tried.push("rustup: has no nightly toolchain with the component rust-src".to_owned());
        }
        (_, _, None) => tried.push("bpf-linker: not on PATH (`cargo install bpf-linker`)".to_owned()),
    }

    match Prepared::of(var) {
        Some(prepared) if prepared.is_complete() => return Ok(Toolchain::Prepared(prepared)),
        Some(prepared) => tried.push(format!("not prepared yet: {}", prepared.dir.display())),
        None => tried.push("no cache folder: neither XDG_CACHE_HOME nor HOME is set".to_owned()),
    }
    Err(NotFound { asked_for: false, tried })
}

/// Asks a compiler for its sysroot. A compiler that is missing or fails has none.
fn sysroot_of(command: &[&str]) -> Option<PathBuf> {
    let (program, args) = command.split_first()?;
    let output = Command::new(program)
        .args(args)
        .args(["--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0") // looking must not download a toolchain
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn has_bpf_core(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(BPF_TARGET).join("lib").is_dir()
}

/// A nightly alone does not do: rustup installs it without the sources of `core`.
fn has_rust_src(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

/// `PATH` first, then where `cargo install` puts it, which is not on everybody's `PATH`.
fn find_linker(var: Var) -> Option<PathBuf> {
    let path = var("PATH").unwrap_or_default();
    let cargo_home = var("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(var("HOME")?).join(".cargo")))
        .map(|home| home.join("bin"));
    std::env::split_paths(&path)
        .chain(cargo_home)
        .map(|dir| dir.join("bpf-linker"))
        .find(|candidate| candidate.is_absolute() && candidate.is_file())
}

#[cfg(test)]
#[path = "toolchain_tests.rs"]
mod tests;
