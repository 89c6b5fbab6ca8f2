//! Checks of the dependencies: licences, sources, advisories, and unused ones.
//!
//! Owns the calls of the two tools; `deny.toml` has the rules. Never changes a manifest. Called by `ci.rs`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::steps::{say, visibly};
use crate::tools::Tool;
use crate::workspace::Workspace;

const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", features: &[], wheel: None };
const MACHETE: Tool = Tool { name: "cargo-machete", version: "0.9.2", features: &[], wheel: None };

/// Reports unused dependencies, and calls cargo-deny for the rest.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let machete = MACHETE.prepare(workspace, None)?;
    visibly(
        Command::new(machete).current_dir(&workspace.root).args(["inferscope", "inferscope-common"]).args([
            "inferscope-ebpf",
            "tests",
            "xtask",
            "fuzz",
        ]),
    )
    .context("a dependency that nobody uses goes out of its Cargo.toml")?;
    let deny = DENY.prepare(workspace, None)?;
    let asked = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(&workspace.root).args(["--log-level", "error", "check"]).args(what);
        visibly(&mut command)
    };
    asked(&["bans", "licenses", "sources"])?;
    // Its database is a git repository. A machine without access to it can still check the rest.
    if !reaches_advisories() {
        say("cargo-deny: advisories not checked, because their database cannot be reached");
        return Ok(());
    }
    asked(&["advisories"])
}

fn reaches_advisories() -> bool {
    let mut reach = Command::new("timeout");
    reach.args(["20", "git", "ls-remote", "https://github.com/rustsec/advisory-db", "HEAD"]);
    reach.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    reach.status().is_ok_and(|status| status.success())
}
