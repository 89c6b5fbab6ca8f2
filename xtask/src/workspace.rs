//! The places of the workspace, and calls of Cargo on it.
//!
//! Owns the workspace's root, its target directory and the environment of an inner Cargo. Never builds by itself.
//! Called by every command.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps;

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's output directory here, by `CARGO_TARGET_DIR` and the configuration files.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn discover() -> Result<Self> {
        // Set by `cargo run`; the compile-time value serves a binary that is started by hand.
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir.parent().context("xtask lies outside of its workspace")?.to_path_buf();
        let metadata =
            steps::captured(cargo_in(&root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&metadata).context("`cargo metadata` wrote no JSON")?;
        let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target")?;
        Ok(Self { target: PathBuf::from(target), root })
    }

    /// Cargo, run at the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        cargo_in(&self.root)
    }

    /// The path of a binary of the given profile's folder.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }
}

fn cargo_in(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // `cargo run` sets variables for this program. Build scripts that watch them (ring's does) would see a changed
    // environment, and rebuild half of the tree at each change of sides.
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| shown.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}
