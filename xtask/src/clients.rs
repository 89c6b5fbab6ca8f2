//! The load tools that `bench client` compares inferscope with, each in a private Python environment.
//!
//! Owns their list, their versions, the place where they are installed (`target/clients/NAME`), and `clients.json` with that
//! place. An unavailable one is reported and does not affect the rest. Called by `bench.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::engine::make_venv_with;
use crate::steps::{captured, say, step};
use crate::workspace::Workspace;

/// Where the bench looks for `clients.json`.
pub(crate) const CLIENTS_VAR: &str = "INFERSCOPE_CLIENTS_JSON";

struct Client {
    name: &'static str,
    /// Its dependencies are what pip finds for it on the day: what is measured is what a user gets.
    requirement: &'static str,
    /// The oldest Python 3 that it runs on.
    python_minor: u32,
    size: &'static str,
}

const CLIENTS: [Client; 3] = [
    Client { name: "aiperf", requirement: "aiperf==0.13.0", python_minor: 10, size: "1.2 GB" },
    // Most of it is PyTorch with CUDA, which it imports to shuffle prompts; PyPI has no other for Linux.
    Client { name: "guidellm", requirement: "guidellm==0.8.1", python_minor: 10, size: "6 GB" },
    Client { name: "inference-perf", requirement: "inference-perf==0.7.0", python_minor: 12, size: "0.8 GB" },
];

/// Installs what is not there yet and returns `clients.json`: `{"aiperf": {"program": …, "version": …}, …}`, null for
/// what can't be had.
pub(crate) fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    let dir = workspace.target.join("clients");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let mut described = serde_json::Map::new();
    for client in &CLIENTS {
        let place = client.prepare(&dir).unwrap_or_else(|error| {
            say(format_args!("clients: {} can't be set up: {error:#}", client.name));
            Value::Null
        });
        described.insert(client.name.to_owned(), place);
    }
    let json = dir.join("clients.json");
    fs::write(&json, serde_json::to_string_pretty(&described)? + "\n")?;
    Ok(json)
}

impl Client {
    fn prepare(&self, clients: &Path) -> Result<Value> {
        let venv = clients.join(self.name);
        let program = venv.join("bin").join(self.name);
        let place = serde_json::json!({ "program": program, "version": self.requirement });
        // Written last, so that it vouches for the rest.
        let installed = venv.join("installed");
        if fs::read_to_string(&installed).is_ok_and(|what| what == self.requirement) && program.is_file() {
            say(format_args!("clients: {} in {}", self.requirement, venv.display()));
            return Ok(place);
        }
        let python = python(self.python_minor)?;
        step(&format!("installing {} ({})", self.requirement, self.size), || {
            make_venv_with(&python, &venv)?;
            let mut pip = Command::new(venv.join("bin/python"));
            pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--only-binary", ":all:"]);
            // Kept twice, what is large already would fill a disk.
            captured(pip.args(["--no-cache-dir", self.requirement])).map(drop)
        })?;
        fs::write(&installed, self.requirement)?;
        Ok(place)
    }
}

/// An interpreter that is new enough: the usual one, one named by its version, or one of pyenv's, whose own links
/// answer only for the versions that are switched on.
fn python(minor: u32) -> Result<PathBuf> {
    let named = (minor..minor + 4).map(|minor| PathBuf::from(format!("python3.{minor}")));
    let candidates = std::iter::once(PathBuf::from("python3")).chain(named).chain(pyenv());
    let script = format!("import sys; sys.exit(sys.version_info < (3, {minor}))");
    for python in candidates {
        if captured(Command::new(&python).args(["-c", &script])).is_ok() {
            return Ok(python);
        }
    }
    bail!("there is no Python 3.{minor} or newer")
}

fn pyenv() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let mut pythons: Vec<PathBuf> =
        versions.into_iter().flatten().flatten().map(|version| version.path().join("bin/python3")).collect();
    pythons.sort();
    pythons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_new_enough_or_refused() {
        let python = python(6).unwrap();
        let version =
            captured(Command::new(python).args(["-c", "import sys; print(sys.version_info[1])"])).unwrap();
        assert!(version.trim().parse::<u32>().unwrap() >= 6, "{version}");
        assert!(super::python(900).unwrap_err().to_string().contains("3.900"));
    }
}
