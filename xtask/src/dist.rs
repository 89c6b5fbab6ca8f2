//! `cargo xtask dist`: the binary for distribution.
//!
//! Owns the flags that keep the builder's paths out of the binary, and the check that builds in two places give the
//! same bytes. Never publishes anything. Called by `main.rs`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::setup;
use crate::steps::{captured, say, step};
use crate::workspace::Workspace;

/// Builds `target/dist/inferscope`; with `check` in two other places too, which must agree with each other.
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<()> {
    setup::toolchain(workspace)?;
    if check {
        return reproducible(workspace);
    }
    let build = Build { root: workspace.root.clone(), target: workspace.target.join("dist-build") };
    let built = step("building the release binary, stripped, without this machine's paths", || build.run())?;
    let dist = workspace.target.join("dist");
    fs::create_dir_all(&dist)?;
    let binary = dist.join("inferscope");
    fs::copy(&built, &binary).with_context(|| format!("cannot write {}", binary.display()))?;
    build.has_no_path(&binary)?;
    say(format_args!("{}  {}", sha256(&binary)?, binary.display()));
    Ok(())
}

/// One build in a checkout of its own.
struct Build {
    root: PathBuf,
    target: PathBuf,
}

impl Build {
    fn run(&self) -> Result<PathBuf> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.root)
            .args(["build", "--release", "--locked", "--package", "inferscope", "--target-dir"])
            .arg(&self.target)
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", self.remapped("--remap-path-prefix=", "\x1f"))
            // aws-lc's C code names its files in assertions.
            .env("CFLAGS", self.remapped("-ffile-prefix-map=", " "));
        captured(&mut command)?;
        Ok(self.target.join("release/inferscope"))
    }

    /// The folders whose names a build leaves in a binary, each with its replacement. The last match wins.
    fn places(&self) -> Vec<(PathBuf, &'static str)> {
        let mut places = Vec::new();
        if let Some(home) = cargo_home() {
            places.push((home.clone(), "/cargo"));
            // The folder's name holds a hash of the registry's address, which a mirror changes.
            let sources = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
            places.extend(sources.map(|source| (source.path(), "/registry")));
        }
        places.push((self.root.clone(), "/inferscope"));
        places.push((self.target.clone(), "/target"));
        places
    }

    fn remapped(&self, flag: &str, between: &str) -> OsString {
        let mut flags = OsString::new();
        for (from, to) in self.places() {
            if !flags.is_empty() {
                flags.push(between);
            }
            flags.push(flag);
            flags.push(from);
            flags.push("=");
            flags.push(to);
        }
        flags
    }

    fn has_no_path(&self, binary: &Path) -> Result<()> {
        let bytes = fs::read(binary)?;
        for (place, _) in self.places() {
            ensure!(
                !contains(&bytes, place.as_os_str().as_bytes()),
                "{} names {}, a folder of the machine that built it",
                binary.display(),
                place.display()
            );
        }
        Ok(())
    }
}

/// Two clones of HEAD under different names give one hash.
fn reproducible(workspace: &Workspace) -> Result<()> {
    let dir = workspace.target.join("dist-check");
    // HEAD may move meanwhile.
    let commit = captured(git_in(&workspace.root).args(["rev-parse", "HEAD"]))?;
    let mut hashes = Vec::new();
    for name in ["first", "second-with-a-longer-name"] {
        let root = dir.join(name);
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&dir)?;
        captured(
            Command::new("git").args(["clone", "--quiet", "--no-hardlinks"]).args([&workspace.root, &root]),
        )?;
        captured(git_in(&root).args(["checkout", "--quiet", commit.trim()]))?;
        let build = Build { target: root.join("target"), root };
        let binary = step(&format!("building in {}", build.root.display()), || build.run())?;
        build.has_no_path(&binary)?;
        hashes.push(sha256(&binary)?);
        say(format_args!("{}  {}", hashes[hashes.len() - 1], binary.display()));
    }
    if hashes[0] != hashes[1] {
        bail!("two builds of one commit differ; both are under {}", dir.display());
    }
    fs::remove_dir_all(&dir)?;
    say(
        "two builds of one commit in different folders: one hash, and neither names a folder of this machine",
    );
    Ok(())
}

fn git_in(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(dir);
    git
}

fn cargo_home() -> Option<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
}

fn sha256(file: &Path) -> Result<String> {
    let output = captured(Command::new("sha256sum").arg(file))?;
    output.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}

fn contains(bytes: &[u8], sought: &[u8]) -> bool {
    bytes.windows(sought.len()).any(|window| window == sought)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_that_names_a_folder_of_its_builder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let build = Build { root: dir.path().join("checkout"), target: dir.path().join("target") };
        let binary = dir.path().join("binary");
        fs::write(&binary, b"\x7fELF /inferscope/src/main.rs").unwrap();
        build.has_no_path(&binary).unwrap();
        fs::write(&binary, [b"\x7fELF ", build.root.as_os_str().as_bytes(), b"/src/main.rs"].concat())
            .unwrap();
        assert!(build.has_no_path(&binary).unwrap_err().to_string().contains("a folder of the machine"));
    }

    #[test]
    fn each_place_is_mapped_once() {
        let build = Build { root: "/home/a/checkout".into(), target: "/home/a/checkout/target".into() };
        let flags = build.remapped("--remap-path-prefix=", "\x1f").into_string().unwrap();
        assert!(flags.contains("--remap-path-prefix=/home/a/checkout=/inferscope"), "{flags}");
        assert!(flags.ends_with("--remap-path-prefix=/home/a/checkout/target=/target"), "{flags}");
    }
}
