//! Prepares an eBPF toolchain out of Debian's packages, in the user's cache folder.
//!
//! Owns the recipe: which packages, how bpf-linker is built against their LLVM. Never installs a package
//! (`apt.rs` unpacks them). Called by `setup.rs` when `toolchain.rs` found nothing.
//!
//! Debian's `rustc-web` (the compiler that its browsers are built with) comes with a ready `core` for BPF,
//! where rustup would need a nightly that compiles `core` itself. It could not be installed beside rustup, but
//! unpacked it harms nobody.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::apt::{self, Apt, remove_tree};
use crate::steps::{captured, say, step};
use crate::toolchain::{self, BPF_TARGET, LINKER_VERSION, Prepared};
use crate::workspace::Workspace;

/// What has to be unpacked; the compiler's own libraries follow from the dependencies of these.
const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

const REMEDY: &str = "elsewhere than on Debian 12 use rustup's nightly:\n  \
     rustup toolchain install nightly --component rust-src && cargo install bpf-linker";

/// Makes the folder that [`toolchain::prepared`] names. Each stage ends with a rename and the stamp comes last, so the
/// next run after an interruption continues with the complete stages.
pub(crate) fn prepare(workspace: &Workspace) -> Result<()> {
    let prepared = toolchain::prepared().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    if let Some(tool) = apt::missing_tool() {
        bail!("cannot prepare an eBPF toolchain: there is no {tool}; {REMEDY}");
    }
    fs::create_dir_all(&prepared.dir)
        .with_context(|| format!("cannot make the folder {}", prepared.dir.display()))?;
    say(format_args!("preparing an eBPF toolchain in {} (needs 700 MB)", prepared.dir.display()));

    let _lock = apt::lock(&prepared.dir)?;
    if prepared.stamp().is_file() {
        return Ok(());
    }

    let rust = prepared.dir.join("rust");
    if !rust.is_dir() {
        unpack(&prepared.dir, &rust)?;
    }
    let library_dir = library_dir(&rust)?;
    write_wrapper(&prepared, &rust, &library_dir)?;
    let sysroot = captured(Command::new(prepared.rustc()).args(["--print", "sysroot"]))?;
    ensure!(
        Path::new(sysroot.trim()).join("lib/rustlib").join(BPF_TARGET).is_dir(),
        "the unpacked rustc has no core for {BPF_TARGET}; {REMEDY}"
    );
    if !prepared.linker().is_file() {
        build_linker(workspace, &prepared, &library_dir)?;
    }

    let stamp = fs::read_to_string(rust.join("packages"))? + "bpf-linker " + LINKER_VERSION + "\n";
    let unfinished = prepared.dir.join("stamp.tmp");
    fs::write(&unfinished, stamp)?;
    fs::rename(&unfinished, prepared.stamp())?;
    Ok(())
}

/// Fetches and unpacks the packages to `rust`, with the file `packages` inside that names them.
fn unpack(dir: &Path, rust: &Path) -> Result<()> {
    let apt = Apt::at(&dir.join("apt"))?;
    step("fetching Debian's package index", || apt.update())?;
    let packages = apt.with_dependencies(&PACKAGES, needs_unpacking).context(REMEDY)?;
    ensure!(
        packages.keys().any(|name| llvm_of(name).is_some()),
        "Debian's rustc-web depends on no libllvm here; {REMEDY}"
    );
    step(&format!("downloading and unpacking {} packages (about 115 MB)", packages.len()), || {
        apt.unpack(&packages, rust)
    })?;
    remove_tree(&dir.join("apt"))
}

/// The compiler's own libraries, always, and others as for any program.
fn needs_unpacking(name: &str) -> bool {
    let ours = PACKAGES.contains(&name) || name.starts_with("libstd-rust-web") || llvm_of(name).is_some();
    ours || apt::is_missing_library(name)
}

/// The major version in `libllvm22`.
fn llvm_of(package: &str) -> Option<u32> {
    package.strip_prefix("libllvm")?.parse().ok()
}

/// `usr/lib/<triplet>`, the folder of the compiler's driver.
fn library_dir(rust: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(rust.join("usr/lib"))? {
        let dir = entry?.path();
        let Ok(files) = fs::read_dir(&dir) else { continue };
        if files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("librustc_driver-")) {
            return Ok(dir);
        }
    }
    bail!("the unpacked packages hold no rustc driver; {REMEDY}")
}

/// The unpacked compiler looks for its libraries in `/usr/lib`.
fn write_wrapper(prepared: &Prepared, rust: &Path, library_dir: &Path) -> Result<()> {
    let relative = |path: &Path| path.strip_prefix(&prepared.dir).map(Path::to_path_buf);
    let text = format!(
        "#!/bin/sh\n# Made by `cargo xtask setup`.\nhere=${{0%/*}}\n\
         LD_LIBRARY_PATH=\"$here/{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\nexport LD_LIBRARY_PATH\n\
         exec \"$here/{}/usr/bin/rustc\" \"$@\"\n",
        relative(library_dir)?.display(),
        relative(rust)?.display()
    );
    fs::write(prepared.rustc(), text)?;
    fs::set_permissions(prepared.rustc(), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// bpf-linker reads the bitcode that rustc wrote, so it is built against that rustc's LLVM.
fn build_linker(workspace: &Workspace, prepared: &Prepared, library_dir: &Path) -> Result<()> {
    let packages = fs::read_to_string(prepared.dir.join("rust/packages"))?;
    let llvm = packages.split_whitespace().find_map(llvm_of).context("no libllvm was unpacked")?;
    let prefix = prepared.dir.join("llvm");
    let soname = soname_of_llvm(library_dir)?;
    remove_tree(&prefix)?;
    fs::create_dir_all(prefix.join("lib"))?;
    for name in ["libLLVM.so", &soname] {
        symlink(library_dir.join(&soname), prefix.join("lib").join(name))?;
    }

    let built = prepared.dir.join("bpf-linker.build");
    step(&format!("building bpf-linker {LINKER_VERSION} for LLVM {llvm} (about a minute)"), || {
        let mut command = workspace.cargo();
        command
            .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
            .arg(prepared.dir.join("bpf-linker"))
            .arg("--target-dir")
            .arg(&built)
            .env("LLVM_PREFIX", &prefix)
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        captured(&mut command).map(drop)
    })?;
    remove_tree(&built)
}

/// `libLLVM.so.22.1`: the versioned file among the links.
fn soname_of_llvm(library_dir: &Path) -> Result<String> {
    fs::read_dir(library_dir)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with("libLLVM.so."))
        .context("the unpacked packages hold no libLLVM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_comes_from_the_library_package_alone() {
        assert_eq!(llvm_of("libllvm22"), Some(22));
        assert_eq!(llvm_of("libllvm-22-dev"), None);
        assert_eq!(llvm_of("1.96.0"), None);
    }

    #[test]
    fn headers_and_programs_are_not_unpacked() {
        assert!(needs_unpacking("libstd-rust-web-1.99"));
        assert!(!needs_unpacking("gcc"));
        assert!(!needs_unpacking("libc6-dev"));
        assert!(!needs_unpacking("libc6"));
    }
}
