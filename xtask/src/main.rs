//! `cargo xtask …`: everything one does with this repository, as one command each.
//!
//! Owns the command line. Does no work itself: each command has its module. Called by people, by `.ci/run` and by the
//! README's two commands.

mod apt;
mod audit;
mod bench;
mod ci;
mod clients;
mod debian;
mod demo;
mod dist;
mod engine;
mod fuzz;
mod layers;
mod peers;
mod schema;
mod setup;
mod steps;
mod test_run;
#[expect(dead_code, reason = "inferscope/build.rs includes it too and uses what is dead here")]
mod toolchain;
mod tools;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, shows and checks inferscope", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or prepare what the build needs, in the user's cache folder and under target/
    Setup {
        /// Also the real engine and its model, which the engine tests and the engine demo use
        #[arg(long)]
        engine: bool,
        /// Also runc, gunicorn, and the tools that the benches compare with: bpftrace, pidstat, psrecord
        #[arg(long)]
        peers: bool,
    },
    /// Set up, build, and show a report of a run; its text and JSON are left under target/demo/
    Demo {
        /// What is measured
        #[arg(long, value_enum, default_value = "builtin")]
        engine: demo::Kind,
    },
    /// Set up and run every test, those on the kernel and on the real engine included
    ///
    /// `--test NAME` takes one of the integration binaries (client, gpu, processes, report) or a module of one, such as
    /// token_timing; a word takes the tests whose name holds it.
    Test {
        /// `--test NAME`; anything else is passed on to `cargo nextest run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure what inferscope costs and what it sees, beside other tools; prints Markdown
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Run every check: fmt, layers, dependencies, clippy, docs, tests, four kernels, schema
    Ci,
    /// Build the binary that is given away, target/dist/inferscope: stripped, without this machine's paths
    Dist {
        /// Build HEAD in two folders and compare: one commit gives one hash
        #[arg(long)]
        check: bool,
    },
    /// Fuzz what reads a server's bytes and a data set: sse, interpret, dataset, request; needs a C++ compiler
    Fuzz {
        /// One of them; all in turn where left out
        target: Option<String>,
        /// How long each
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Check that dependencies between inferscope's modules point one way
    Layers {
        /// Show the rules: which module may use which
        #[arg(long)]
        print: bool,
    },
    /// Boot Debian's kernels under QEMU (no KVM, no root) and check what inferscope reports on them
    Vm(vm::Options),
    /// Write inferscope/schema/report.v1.json
    Schema {
        /// Compare only, and fail when it differs from the types
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::discover()?;
    match task {
        Task::Setup { engine, peers } => setup::run(&workspace, engine, peers),
        Task::Demo { engine } => demo::run(&workspace, engine),
        Task::Test { args } => test_run::run(&workspace, &args),
        Task::Bench { bench } => bench::run(&workspace, bench),
        Task::Ci => ci::ci(&workspace),
        Task::Dist { check } => dist::run(&workspace, check),
        Task::Fuzz { target, seconds } => fuzz::run(&workspace, target.as_deref(), seconds),
        Task::Vm(options) => vm::run(&workspace, &options),
        Task::Layers { print: true } => {
            layers::print();
            Ok(())
        }
        Task::Layers { print: false } => layers::check(&workspace),
        Task::Schema { check } => {
            setup::toolchain(&workspace)?;
            schema::run(&workspace, check)
        }
    }
}
