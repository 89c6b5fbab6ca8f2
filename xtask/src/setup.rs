//! `cargo xtask setup`: makes sure that what the build (and, if asked, the engine tests) needs is there.
//!
//! Owns the decision what to prepare. Never prepares twice and never changes anything system-wide. Called by `main.rs`
//! and by every command that builds.

use anyhow::{Result, ensure};

use crate::debian;
use crate::engine::{self, EngineFiles};
use crate::peers::{self, Peers, Wanted};
use crate::steps::say;
use crate::toolchain::{self, NotFound};
use crate::workspace::Workspace;

/// Finds the eBPF toolchain or prepares one.
pub(crate) fn toolchain(workspace: &Workspace) -> Result<()> {
    let missing = match toolchain::locate() {
        Ok(found) => {
            say(format_args!("eBPF toolchain: {found}"));
            return Ok(());
        }
        Err(missing @ NotFound { asked_for: true, .. }) => return Err(missing.into()),
        Err(missing) => missing,
    };
    for line in &missing.tried {
        say(format_args!("looked for an eBPF toolchain: {line}"));
    }
    debian::prepare(workspace)?;
    say(format_args!("eBPF toolchain: {}", toolchain::locate()?));
    Ok(())
}

/// The toolchain, and the optional parts.
pub(crate) fn run(workspace: &Workspace, engine: bool, peers: bool) -> Result<()> {
    toolchain(workspace)?;
    if engine {
        engine::prepare(workspace)?;
    }
    if peers {
        let peers = peers::prepare(workspace, Wanted::ByBenches)?;
        ensure!(peers.missing.is_empty(), "missing: {}", peers.missing.join(", "));
        say(format_args!("peers: described in {}", peers.json.display()));
    }
    Ok(())
}

/// The programs that the benches compare with. A bench leaves out those that are unavailable.
pub(crate) fn peers_of_benches(workspace: &Workspace) -> Result<Peers> {
    peers::prepare(workspace, Wanted::ByBenches)
}

/// The foreign programs that the tests need. An unavailable one skips its tests.
pub(crate) fn peers_of_tests(workspace: &Workspace) -> Result<Peers> {
    peers::prepare(workspace, Wanted::ByTests)
}

/// The real engine and its model, besides the toolchain.
pub(crate) fn with_engine(workspace: &Workspace) -> Result<EngineFiles> {
    toolchain(workspace)?;
    engine::prepare(workspace)
}
