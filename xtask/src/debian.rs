//! Prepares an eBPF toolchain out of Debian's packages, in the user's cache folder.
//!
//! Owns the recipe: which packages, how they are unpacked, how bpf-linker is built against their LLVM. Never
//! installs a package, never touches apt's own state and needs no root: index and archives live in the cache
//! folder too. Called by `setup.rs` when `toolchain.rs` found nothing.
//!
//! Debian's `rustc-web` (the compiler that its browsers are built with) comes with a ready `core` for BPF,
//! where rustup would need a nightly that compiles `core` itself. It could not be installed beside rustup, but
//! unpacked it harms nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::steps::{captured, say, step};
use crate::toolchain::{self, BPF_TARGET, LINKER_VERSION, Prepared};
use crate::workspace::Workspace;

/// What has to be unpacked; the compiler's own libraries follow from the dependencies of these.
const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

const REMEDY: &str = "elsewhere than on Debian 12 use rustup's nightly:\n  \
     rustup toolchain install nightly --component rust-src && cargo install bpf-linker";

/// Makes the folder that [`toolchain::prepared`] names. Each stage is finished by a rename and the stamp comes
/// last, so that after an interruption the next run goes on with what is whole.
pub(crate) fn prepare(workspace: &Workspace) -> Result<()> {
    let prepared = toolchain::prepared().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    for tool in ["apt-get", "apt-cache", "dpkg", "dpkg-query"] {
        ensure!(on_path(tool), "cannot prepare an eBPF toolchain: there is no {tool}; {REMEDY}");
    }
    fs::create_dir_all(&prepared.dir)
        .with_context(|| format!("cannot make the folder {}", prepared.dir.display()))?;
    say(format_args!("preparing an eBPF toolchain in {} (needs 700 MB)", prepared.dir.display()));

    // Two set-ups at once would build the same thing in the same place; the second one waits.
    let lock = fs::File::create(prepared.dir.join("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        step("waiting for another set-up", || {
            flock(&lock, FlockOperation::LockExclusive).context("cannot lock the toolchain's folder")
        })?;
    }
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
    let partial = dir.join("rust.partial");
    remove_tree(&partial)?;
    let apt = Apt::at(&dir.join("apt"))?;
    let archives = dir.join("debs");
    remove_tree(&archives)?;
    fs::create_dir_all(&archives)?;

    step("fetching Debian's package index", || apt.update())?;
    let packages = apt.with_dependencies()?;
    let list: String = packages.iter().map(|(name, version)| format!("{name} {version}\n")).collect();
    step(&format!("downloading {} packages (about 115 MB)", packages.len()), || {
        let mut command = apt.command("apt-get");
        command.current_dir(&archives).args(["--quiet", "download"]);
        captured(command.args(packages.iter().map(|(name, version)| format!("{name}={version}")))).map(drop)
    })?;
    step("unpacking them", || {
        for archive in fs::read_dir(&archives)? {
            captured(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(&partial))?;
        }
        fs::write(partial.join("packages"), list)?;
        fs::rename(&partial, rust).context("cannot put the unpacked compiler in place")
    })?;
    remove_tree(&archives)?;
    remove_tree(&dir.join("apt"))
}

/// apt with an index and an archive folder of its own. The system's sources and keys are used, its state isn't.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn at(dir: &Path) -> Result<Self> {
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let options = [
            format!("Dir::State={}", dir.join("state").display()),
            format!("Dir::Cache={}", dir.join("cache").display()),
            "Dir::State::status=/var/lib/dpkg/status".to_owned(),
            // root's apt would otherwise download as the user _apt, who cannot enter this folder.
            "APT::Sandbox::User=".to_owned() + if rustix::process::geteuid().is_root() { "root" } else { "" },
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Package names and fields are parsed, so they have to be the untranslated ones.
        command.args(&self.options).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn update(&self) -> Result<()> {
        captured(self.command("apt-get").args(["--quiet", "update"])).map(drop)
    }

    /// The packages with what they need: the compiler's own libraries always, any other only where the system
    /// lacks it (a slim container may have no libz3). Names to versions.
    fn with_dependencies(&self) -> Result<BTreeMap<String, String>> {
        let mut wanted: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
        let mut found = BTreeMap::new();
        let mut passed_over = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            if found.contains_key(&name) || passed_over.contains(&name) {
                continue;
            }
            if !needs_unpacking(&name) {
                passed_over.insert(name);
                continue;
            }
            let record = captured(self.command("apt-cache").args(["show", "--no-all-versions", &name]))
                .with_context(|| format!("Debian's index has no package {name}; {REMEDY}"))?;
            let version = field(&record, "Version").with_context(|| format!("{name} has no version"))?;
            found.insert(name, version.to_owned());
            wanted.extend(dependencies(&record));
        }
        ensure!(
            found.keys().any(|name| llvm_of(name).is_some()),
            "Debian's rustc-web depends on no libllvm here; {REMEDY}"
        );
        Ok(found)
    }
}

/// The compilers and headers that rustc-web depends on are the user's own affair.
fn needs_unpacking(name: &str) -> bool {
    let ours = PACKAGES.contains(&name) || name.starts_with("libstd-rust-web") || llvm_of(name).is_some();
    ours || (name.starts_with("lib") && !name.ends_with("-dev") && !is_installed(name))
}

fn is_installed(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", name]);
    captured(&mut query).is_ok_and(|status| status == "installed")
}

/// The major version in `libllvm22`.
fn llvm_of(package: &str) -> Option<u32> {
    package.strip_prefix("libllvm")?.parse().ok()
}

fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Names in `Depends`, the first of alternatives, without versions and architectures.
fn dependencies(record: &str) -> Vec<String> {
    let names = field(record, "Depends").unwrap_or_default().split(',');
    let names = names.filter_map(|entry| entry.split(['|', '(', ':']).next());
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// `usr/lib/<triplet>`, where the compiler's driver is.
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

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "Package: libllvm22\nVersion: 1:22.1.8-1~deb12u1\n\
        Depends: libc6 (>= 2.34), libedit2 (>= 2.11-20080614-0), gcc:amd64, a | b (>= 1)\n";

    #[test]
    fn record_gives_version_and_first_alternatives() {
        assert_eq!(field(RECORD, "Version"), Some("1:22.1.8-1~deb12u1"));
        assert_eq!(dependencies(RECORD), ["libc6", "libedit2", "gcc", "a"]);
        assert_eq!(dependencies("Package: x\n"), Vec::<String>::new());
    }

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
