//! The plan of a command: how it starts, how it ends, where its output goes.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{PlanError, TargetPlan};
use crate::cli;
use crate::units::Nanos;

/// `inferscope exec`: the command that is the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPlan {
    /// The program and its arguments; never empty.
    pub argv: Vec<OsString>,
    pub output: CommandOutput,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Nanos,
    /// Longest wait for the endpoint's first response.
    pub ready_timeout: Nanos,
}

/// Where the command's two output streams go. Never to standard output, which belongs to the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutput {
    /// Both go to inferscope's standard error.
    Stderr,
    Null,
    File(PathBuf),
}

pub(super) fn command(args: &cli::ExecArgs) -> Result<CommandPlan, PlanError> {
    let program = args.command.first();
    if program.is_none_or(|p| p.is_empty()) {
        return Err(PlanError::Value {
            what: "the command".into(),
            why: "it is empty".into(),
            remedy: "write it after --, such as `inferscope exec -- python server.py`",
        });
    }
    let output = match args.command_output.to_str() {
        Some("stderr") => CommandOutput::Stderr,
        Some("null") => CommandOutput::Null,
        _ => CommandOutput::File(args.command_output.clone()),
    };
    Ok(CommandPlan {
        argv: args.command.clone(),
        output,
        grace: args.grace.into(),
        ready_timeout: args.ready_timeout.into(),
    })
}

/// The flags of a load have no effect without an endpoint.
pub(super) fn no_load(args: &cli::LoadArgs) -> Result<(), PlanError> {
    if args.requests.is_some() || args.warmup != 0 || args.model.is_some() || drives(args) {
        return Err(PlanError::Conflict {
            what: "flags of a load (--requests, --concurrency, --model …) without --endpoint",
            remedy: "name the server that the command starts with --endpoint URL",
        });
    }
    Ok(())
}

fn drives(args: &cli::LoadArgs) -> bool {
    args.concurrency.is_some() || args.rate.is_some() || args.sweep.is_some() || args.dataset.is_some()
}

/// The target is the command, which `session` starts, so there is nothing to search for.
pub(super) const TARGET: TargetPlan = TargetPlan::None;
