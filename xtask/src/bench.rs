//! `cargo xtask bench …`: what inferscope costs and sees, beside other tools.
//!
//! Owns setting up and building what the benches run, in release. Never measures by itself: that is the work of
//! `tests/src/bin/bench/`. Called by `main.rs`.

use std::process::Command;

use anyhow::Result;
use clap::Subcommand;

use crate::clients::{self, CLIENTS_VAR};
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
        /// Runs everything under SCHED_FIFO, so that half a percent can be seen on a machine that is not quiet; other
        /// programs get next to no CPU meanwhile
        #[arg(long)]
        fifo: bool,
    },
    /// A gunicorn that recycles workers and spawns helpers, as inferscope, psrecord and pidstat see it (as root)
    Gunicorn,
    /// Error, CPU, memory and overhead of inferscope, aiperf, guidellm and inference-perf against one server whose
    /// times are known; the others are installed under target/clients (8 GB)
    Client {
        /// Medians are of this many rounds
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Requests of each run, four at a time
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(4..=500))]
        requests: u32,
    },
    /// 100 to 2,000 streams of 50 tokens/s at once: how late inferscope's stamps are, and what it takes
    Streams,
    /// Each stamp at concurrency 1, 8 and 64 against the write that it is of; the machine should be quiet
    Stamps,
    /// Polling devices of a stand-in for NVIDIA's driver: its cost, and what a slow driver does to the tokens' stamps
    Gpu,
}

pub(crate) fn run(workspace: &Workspace, bench: Bench) -> Result<()> {
    setup::toolchain(workspace)?;
    // Where inferscope's peers are, told to the bench in the variable that it looks for them in.
    let peers = match bench {
        Bench::Tracker { .. } | Bench::Gunicorn | Bench::Gpu => {
            Some((PEERS_VAR, setup::peers_of_benches(workspace)?.json))
        }
        Bench::Client { .. } => Some((CLIENTS_VAR, clients::prepare(workspace)?)),
        Bench::Streams | Bench::Stamps => None,
    };
    say("building inferscope and the benches");
    let build = ["build", "--release", "--package", "inferscope", "--package", "inferscope-tests", "--bins"];
    visibly(workspace.cargo().args(build))?;
    visibly(workspace.cargo().args(["build", "--release", "--package", "inferscope-nvml-standin"]))?;
    let mut command = Command::new(workspace.binary("release", "bench"));
    match bench {
        Bench::Tracker { rounds, fifo } => {
            command.args(["tracker", &rounds.to_string()]).args(fifo.then_some("--fifo"))
        }
        Bench::Gunicorn => command.arg("gunicorn"),
        Bench::Client { rounds, requests } => {
            command.args(["client", &rounds.to_string(), &requests.to_string()])
        }
        Bench::Streams => command.arg("streams"),
        Bench::Stamps => command.arg("stamps"),
        Bench::Gpu => command.arg("gpu"),
    };
    visibly(command.envs(peers))
}
