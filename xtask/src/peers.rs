//! Programs of others that tests and benches need: runc, gunicorn, and the tools that measure the same things.
//!
//! Owns their list, their versions, the place where they are unpacked, and `peers.json` with that place. Never installs
//! one system-wide or into the user's Python. Called by `setup.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::apt::{self, Apt, remove_tree};
use crate::engine::make_venv;
use crate::steps::{captured, say, step};
use crate::toolchain;
use crate::workspace::Workspace;

/// Where the test package looks for `peers.json`.
pub(crate) const PEERS_VAR: &str = "INFERSCOPE_PEERS_JSON";

/// With all that they need, so that nothing moves under the tests. Wheels alone: a compiler may be missing.
const PYTHON: [&str; 10] = [
    "click==8.5.1",
    "gunicorn==27.0.1",
    "h11==0.16.0",
    "nvidia-ml-py==13.615.71",
    "psrecord==1.4",
    "psutil==7.2.2",
    "uvicorn==0.54.0",
    "uvicorn-worker==0.4.0",
    // uvicorn takes these two where they are there, as a server in earnest has them.
    "httptools==0.9.0; python_version < '3.15'",
    "uvloop==0.23.0; python_version < '3.15'",
];

/// Raised whenever what is unpacked changes, so that an older folder is not taken for a current one.
const RECIPE: &str = "r1";

/// A program out of a Debian package.
struct Program {
    name: &'static str,
    package: &'static str,
    /// Where the package puts it.
    path: &'static str,
    /// Arguments with which it prints its version.
    version: &'static [&'static str],
    wanted_by: Wanted,
}

/// The users of a program. The benches need everything that the tests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    ByTests,
    ByBenches,
}

const PROGRAMS: [Program; 3] = [
    // Its libseccomp2 is never missing where apt is there: apt needs it too. That matters, as runc runs itself
    // again without its environment, and so without the wrapper's library path.
    Program {
        name: "runc",
        package: "runc",
        path: "usr/sbin/runc",
        version: &["--version"],
        wanted_by: Wanted::ByTests,
    },
    Program {
        name: "bpftrace",
        package: "bpftrace",
        path: "usr/bin/bpftrace",
        version: &["--version"],
        wanted_by: Wanted::ByBenches,
    },
    Program {
        name: "pidstat",
        package: "sysstat",
        path: "usr/bin/pidstat",
        version: &["-V"],
        wanted_by: Wanted::ByBenches,
    },
];

pub(crate) struct Peers {
    /// `{"python": …, "runc": …, "bpftrace": …, "pidstat": …, "packages": […]}`; null for what was not set up.
    pub(crate) json: PathBuf,
    /// Wanted and not available here. The reason was printed.
    pub(crate) missing: Vec<&'static str>,
}

/// Sets up what is wanted and missing. Something unavailable is reported and does not affect the rest.
pub(crate) fn prepare(workspace: &Workspace, wanted: Wanted) -> Result<Peers> {
    let dir = workspace.target.join("peers");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let json = dir.join("peers.json");
    let written: Value =
        fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let mut peers = Peers { json, missing: Vec::new() };
    let python = python(workspace, &peers.json, &written);
    let python = peers.or_missing("python", python.map(Some));
    let packages = python.is_some().then_some(PYTHON);
    let mut described = serde_json::json!({ "python": python, "packages": packages });
    let cache = cache()?;
    for program in &PROGRAMS {
        let place = match program.wanted_by <= wanted {
            true => peers.or_missing(program.name, program.prepare(&cache)),
            false => program.find(&cache),
        };
        described[program.name] = serde_json::json!(place);
    }
    if written != described {
        fs::write(&peers.json, serde_json::to_string_pretty(&described)? + "\n")?;
    }
    Ok(peers)
}

impl Peers {
    fn or_missing(&mut self, name: &'static str, place: Result<Option<PathBuf>>) -> Option<PathBuf> {
        let place = place.unwrap_or_else(|error| {
            say(format_args!("peers: {name} can't be set up: {error:#}"));
            None
        });
        if place.is_none() {
            self.missing.push(name);
        }
        place
    }
}

/// The venv's interpreter. `written` vouches for an earlier installation.
fn python(workspace: &Workspace, json: &Path, written: &Value) -> Result<PathBuf> {
    let venv = workspace.target.join("peers-venv");
    let python = venv.join("bin/python");
    if written["packages"] == serde_json::json!(PYTHON) && python.exists() {
        say(format_args!("peers: Python packages in {}", venv.display()));
        return Ok(python);
    }
    // The stamp must not outlive an interrupted installation.
    fs::write(json, "{}\n")?;
    step("making a Python environment for gunicorn, psutil and psrecord", || {
        make_venv(&venv)?;
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]);
        captured(pip.args(PYTHON)).map(drop)
    })?;
    Ok(python)
}

/// Unpacked programs are the same for every checkout.
fn cache() -> Result<PathBuf> {
    let cache = toolchain::cache().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    Ok(cache.join("peers").join(format!("{RECIPE}-{}", std::env::consts::ARCH)))
}

impl Program {
    /// Its place, if it was set up before.
    fn find(&self, cache: &Path) -> Option<PathBuf> {
        let start = cache.join(self.package).join("start");
        start.is_file().then_some(start)
    }

    /// Unpacks it if necessary. `None`: this machine can't and has none itself.
    fn prepare(&self, cache: &Path) -> Result<Option<PathBuf>> {
        if let Some(found) = self.find(cache) {
            say(format_args!("peers: {} in {}", self.name, found.display()));
            return Ok(Some(found));
        }
        if let Some(tool) = apt::missing_tool() {
            let own = apt::on_path(self.name).then(|| PathBuf::from(self.name));
            let there = if own.is_some() { "the one on PATH is taken" } else { "it is left out" };
            say(format_args!("peers: {}: there is no {tool} to fetch Debian's, {there}", self.name));
            return Ok(own);
        }
        fs::create_dir_all(cache)?;
        let _lock = apt::lock(cache)?;
        if self.find(cache).is_none() {
            step(&format!("unpacking Debian's {} with what it needs", self.package), || self.unpack(cache))?;
        }
        Ok(self.find(cache))
    }

    /// The link or script `start` vouches for the folder, so it comes last.
    fn unpack(&self, cache: &Path) -> Result<()> {
        let dir = cache.join(self.package);
        remove_tree(&dir)?;
        let apt = Apt::at(&cache.join("apt"))?;
        apt.update()?;
        let packages = apt.with_dependencies(&[self.package], apt::is_missing_library)?;
        apt.unpack(&packages, &dir)?;
        let program = dir.join(self.path);
        let unfinished = dir.join("start.partial");
        match library_dirs(&dir)?.as_slice() {
            [] => std::os::unix::fs::symlink(&program, &unfinished)?,
            dirs => write_wrapper(&unfinished, dirs, &program)?,
        }
        captured(Command::new(&unfinished).args(self.version))
            .with_context(|| format!("the unpacked {} does not start", self.name))?;
        fs::rename(&unfinished, dir.join("start"))?;
        remove_tree(&cache.join("apt"))
    }
}

/// `usr/lib/<triplet>` and its subfolders, which hold the unpacked libraries.
pub(crate) fn library_dirs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for base in ["usr/lib", "lib"] {
        let Ok(entries) = fs::read_dir(dir.join(base)) else { continue };
        for entry in entries {
            let sub = entry?.path();
            let Ok(files) = fs::read_dir(&sub) else { continue };
            if files.flatten().any(|file| file.file_name().to_string_lossy().contains(".so")) {
                dirs.push(sub);
            }
        }
    }
    dirs.sort();
    Ok(dirs)
}

/// The loader looks for unpacked libraries in `/usr/lib`.
fn write_wrapper(path: &Path, libraries: &[PathBuf], program: &Path) -> Result<()> {
    let libraries: Vec<String> = libraries.iter().map(|dir| dir.display().to_string()).collect();
    let text = format!(
        "#!/bin/sh\n# Made by `cargo xtask setup`.\n\
         LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\nexport LD_LIBRARY_PATH\n\
         exec \"{}\" \"$@\"\n",
        libraries.join(":"),
        program.display()
    );
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_runs_the_program_with_the_unpacked_libraries() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libx.so.1"), "").unwrap();
        fs::create_dir_all(dir.path().join("usr/lib/systemd")).unwrap();
        let dirs = library_dirs(dir.path()).unwrap();
        assert_eq!(dirs, std::slice::from_ref(&lib));
        let wrapper = dir.path().join("start");
        write_wrapper(&wrapper, &dirs, Path::new("/usr/bin/env")).unwrap();
        let mut command = Command::new(&wrapper);
        let output = captured(command.env_remove("LD_LIBRARY_PATH")).unwrap();
        assert!(output.lines().any(|line| line == format!("LD_LIBRARY_PATH={}", lib.display())), "{output}");
    }
}
