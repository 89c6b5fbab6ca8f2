//! What comes in as a dependency: licences, sources, known faults, and what nobody uses.
//!
//! Owns the two tools that tell, in the user's cache folder, and what is asked of them; `deny.toml` has the rules.
//! Never changes a manifest. Called by `ci.rs`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::steps::{captured, say, step, visibly};
use crate::toolchain;
use crate::workspace::Workspace;

struct Tool {
    name: &'static str,
    version: &'static str,
}

const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };
const MACHETE: Tool = Tool { name: "cargo-machete", version: "0.9.2" };

/// Names what is not used, and asks cargo-deny for the rest.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let machete = MACHETE.prepare(workspace)?;
    visibly(
        Command::new(machete).current_dir(&workspace.root).args(["inferscope", "inferscope-common"]).args([
            "inferscope-ebpf",
            "tests",
            "xtask",
            "fuzz",
        ]),
    )
    .context("a dependency that nobody uses goes out of its Cargo.toml")?;
    let deny = DENY.prepare(workspace)?;
    let asked = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(&workspace.root).args(["--log-level", "error", "check"]).args(what);
        visibly(&mut command)
    };
    asked(&["bans", "licenses", "sources"])?;
    // Its database is a git repository; a machine without the way there can still check the rest.
    if !reaches_advisories() {
        say("cargo-deny: advisories not checked, because their database cannot be reached");
        return Ok(());
    }
    asked(&["advisories"])
}

impl Tool {
    /// Builds it once a version, in the cache folder.
    fn prepare(&self, workspace: &Workspace) -> Result<PathBuf> {
        let Self { name, version } = self;
        let cache = toolchain::cache().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
        let root = cache.join("tools").join(format!("{name}-{version}"));
        let program = root.join("bin").join(name);
        if !program.is_file() {
            step(&format!("building {name} {version} (some minutes, once)"), || {
                let mut install = workspace.cargo();
                install.args(["install", name, "--version", version, "--locked", "--no-default-features"]);
                // It runs for a second, and is built for minutes.
                install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
                install
                    .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
                    .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
                install.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
                captured(install.arg("--root").arg(&root)).map(drop)
            })?;
        }
        Ok(program)
    }
}

fn reaches_advisories() -> bool {
    let mut reach = Command::new("timeout");
    reach.args(["20", "git", "ls-remote", "https://github.com/rustsec/advisory-db", "HEAD"]);
    reach.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    reach.status().is_ok_and(|status| status.success())
}
