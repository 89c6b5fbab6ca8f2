//! `cargo xtask bench …`: what inferscope costs and sees, beside other tools.
//!
//! Owns setting up and building what the benches run, in release. Never measures by itself: that is the work of
//! `tests/src/bin/bench/`. Called by `main.rs`.

use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::peers::PEERS_VAR;
use crate::setup;
use crate::steps::{say, visibly};
use crate::workspace::Workspace;

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Bench {
    /// A fork storm with and without tracers, and the sampler beside other readers of /proc (as root)
    Tracker {
        /// Medians are of this many rounds
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// A gunicorn that recycles workers and spawns helpers, as inferscope, psrecord and pidstat see it (as root)
    Gunicorn,
    /// Polling devices of a stand-in for NVIDIA's driver: its cost, and what a slow driver does to the tokens' stamps
    Gpu,
}

pub(crate) fn run(workspace: &Workspace, bench: Bench) -> Result<()> {
    setup::toolchain(workspace)?;
    let peers = setup::peers_of_benches(workspace)?;
    say("building inferscope and the benches");
    let build = ["build", "--release", "--package", "inferscope", "--package", "inferscope-tests", "--bins"];
    visibly(workspace.cargo().args(build))?;
    visibly(workspace.cargo().args(["build", "--release", "--package", "inferscope-nvml-standin"]))?;
    let mut command = Command::new(workspace.binary("release", "bench"));
    match bench {
        Bench::Tracker { rounds } => command.args(["tracker", &rounds.to_string()]),
        Bench::Gunicorn => command.arg("gunicorn"),
        Bench::Gpu => command.arg("gpu"),
    };
    visibly(command.env(PEERS_VAR, &peers.json))
}
