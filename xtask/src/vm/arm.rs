//! Builds for 64-bit ARM out of Debian's packages: its cross gcc, and its Rust with that architecture's `std`.
//!
//! Owns the recipe and where it is unpacked. Never installs a package. Called by `vm.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::initramfs::Programs;
use crate::apt::{self, Apt, Packages, remove_tree};
use crate::debian;
use crate::peers::library_dirs;
use crate::steps::{captured, say, step, visibly};
use crate::toolchain;
use crate::workspace::Workspace;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// `std` for that target, of the version that Debian's compiler here has.
const STD: &str = "libstd-rust-web-dev";
/// What the two programs need at run time, where the cross compiler's libraries lie and where a guest looks.
const LIBRARIES: [(&str, &str); 4] = [
    ("ld-linux-aarch64.so.1", "lib/ld-linux-aarch64.so.1"),
    ("libc.so.6", "lib/aarch64-linux-gnu/libc.so.6"),
    ("libm.so.6", "lib/aarch64-linux-gnu/libm.so.6"),
    ("libgcc_s.so.1", "lib/aarch64-linux-gnu/libgcc_s.so.1"),
];

/// Builds both programs and finds what they need.
pub(super) fn programs(
    workspace: &Workspace,
    cache: &Path,
    system: &dyn Fn() -> Result<Apt>,
) -> Result<Programs> {
    let dir = cache.join("arm64");
    if !dir.join("stamp").is_file() {
        let _lock = apt::lock(cache)?;
        prepare(workspace, &dir, system)?;
    }
    // One folder of its own: another compiler would rebuild what is under the usual one at each change of sides.
    let target = workspace.target.join("vm/arm64-build");
    let [rustc, cc, ar] = ["rustc", "cc", "ar"].map(|name| dir.join(name));
    let mut command = workspace.cargo();
    command.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--package",
        "inferscope",
        "--bin",
        "inferscope",
    ]);
    command.args(["--package", "inferscope-tests", "--bin", "forkstorm"]);
    command.env("RUSTC", rustc).env("CARGO_TARGET_DIR", &target).env("CC_aarch64_unknown_linux_gnu", &cc);
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", &cc);
    command.env("AR_aarch64_unknown_linux_gnu", ar);
    // Either way it takes minutes of a CPU, and the emulation hides the difference.
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    say("building for 64-bit ARM");
    visibly(&mut command)?;
    let built = target.join(TARGET).join("release");
    let libraries = dir.join("gcc/usr/aarch64-linux-gnu/lib");
    Ok(Programs {
        busybox: ["bin/busybox", "usr/bin/busybox"]
            .map(|place| dir.join("guest").join(place))
            .into_iter()
            .find(|place| place.is_file())
            .context("the unpacked packages hold no busybox for 64-bit ARM")?,
        inferscope: built.join("inferscope"),
        forkstorm: built.join("forkstorm"),
        libraries: LIBRARIES.iter().map(|(from, to)| (libraries.join(from), (*to).to_owned())).collect(),
    })
}

/// The stamp comes last, so everything is repeated after an interruption.
fn prepare(workspace: &Workspace, dir: &Path, system: &dyn Fn() -> Result<Apt>) -> Result<()> {
    let host = toolchain::prepared().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    if !host.stamp().is_file() {
        debian::prepare(workspace)?;
    }
    remove_tree(dir)?;
    fs::create_dir_all(dir)?;
    let apt = step("fetching the index of packages for 64-bit ARM", || {
        let release = codename()?;
        let security = format!("{release}-security");
        let suites = [("Debian", &*release), ("Debian-Security", &*security)];
        let apt = system()?.of_suites(&dir.join("apt"), &suites, &["amd64", "arm64"])?;
        apt.update()?;
        Ok(apt)
    })?;
    let cross = |name: &str| {
        name.ends_with("-arm64-cross") || name.contains("aarch64-linux-gnu") || name == "gcc-12-cross-base"
    };
    let needed = |name: &str| cross(name) || apt::is_missing_library(name);
    let gcc = apt.with_dependencies(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"], needed)?;
    step(&format!("unpacking the cross compiler, {} packages", gcc.len()), || {
        apt.unpack(&gcc, &dir.join("gcc"))
    })?;

    let packages = fs::read_to_string(host.dir.join("rust/packages"))?;
    let version = packages.lines().find_map(|line| line.strip_prefix(STD)?.strip_prefix(' '));
    let version = version.with_context(|| format!("the unpacked toolchain has no {STD}"))?;
    let rust = Packages::from([(format!("{STD}:arm64"), version.to_owned())]);
    step("unpacking Rust's library", || apt.unpack(&rust, &dir.join("std")))?;
    let busybox =
        apt.version("busybox-static:arm64").context("Debian has no busybox-static for 64-bit ARM")?;
    let guest = Packages::from([("busybox-static:arm64".to_owned(), busybox)]);
    step("unpacking busybox", || apt.unpack(&guest, &dir.join("guest")))?;

    // Both architectures' `std` in one place, as the compiler takes one alone.
    let rustlib = dir.join("sysroot/lib/rustlib");
    fs::create_dir_all(&rustlib)?;
    let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    symlink(host.dir.join("rust/usr/lib/rustlib").join(&here), rustlib.join(&here))?;
    symlink(dir.join("std/usr/lib/rustlib").join(TARGET), rustlib.join(TARGET))?;
    script(
        &dir.join("rustc"),
        &format!("exec {} --sysroot {} \"$@\"", host.rustc().display(), dir.join("sysroot").display()),
    )?;
    // A linker script of the C library names its parts from the root, so that has to be the unpacked one.
    let root = format!("--sysroot={}", dir.join("gcc").display());
    script(&dir.join("cc"), &unpacked(&dir.join("gcc"), "aarch64-linux-gnu-gcc", &root)?)?;
    script(&dir.join("ar"), &unpacked(&dir.join("gcc"), "aarch64-linux-gnu-ar", "")?)?;
    captured(Command::new(dir.join("cc")).arg("--version"))
        .context("the unpacked cross compiler does not start")?;
    remove_tree(&dir.join("apt"))?;
    fs::write(dir.join("stamp"), version)?;
    Ok(())
}

/// Runs one of the unpacked programs with the unpacked libraries.
fn unpacked(dir: &Path, program: &str, arguments: &str) -> Result<String> {
    let libraries: Vec<String> = library_dirs(dir)?.iter().map(|dir| dir.display().to_string()).collect();
    Ok(format!(
        "LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\nexport LD_LIBRARY_PATH\n\
         exec {} {arguments} \"$@\"",
        libraries.join(":"),
        dir.join("usr/bin").join(program).display(),
    ))
}

fn script(path: &PathBuf, body: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n# Made by `cargo xtask vm`.\n{body}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// This machine's release, in the form of apt's suites.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let named = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(named.context("/etc/os-release names no VERSION_CODENAME")?.trim_matches('"').to_owned())
}
