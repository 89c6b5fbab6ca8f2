//! The `inferscope` binary: parses, calls `session`, prints the error, sets the exit code.

#![deny(clippy::print_stderr, clippy::print_stdout, clippy::dbg_macro)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use inferscope::cli::{
    self, Cli, Command, DemoArgs, DoctorArgs, EarlyExit, ExecArgs, ObserveCommandArgs, ProfileArgs,
};
use inferscope::plan::{self, Environment, PlanError};
use inferscope::privilege::LibraryRefused;
use inferscope::session::{self, RunError, exit};
use inferscope::signals::Signals;
use inferscope::{console, demo, privilege, report, secrets};

fn main() -> ExitCode {
    // This comes first, so that no signal ends a run without its report.
    let signals = Signals::block();
    // Nothing of the caller's may be read with privileges that the caller lacks.
    privilege::begin();
    console::take_panics();
    // The message is written by then.
    session::end(catch_unwind(AssertUnwindSafe(|| started(signals))).unwrap_or(exit::INTERNAL))
}

fn started(signals: std::io::Result<Signals>) -> u8 {
    let signals = match signals {
        Ok(signals) => signals,
        Err(e) => {
            let why =
                anyhow::anyhow!("signals can't be read: {e}\n  check the limit of open files (ulimit -n)");
            return fail(&why);
        }
    };
    session::begin();
    console::hide(plan::known(None, secrets::Redact::Names, &environment("OPENAI_API_KEY")));
    match cli::parse() {
        Ok(cli) => command(cli, &signals).unwrap_or_else(|e| fail(&e)),
        Err(answer) => {
            signals.restore();
            match answer {
                EarlyExit::Help(text) => print(text.as_bytes()).unwrap_or_else(|e| fail(&e)),
                EarlyExit::Mistake(text) => {
                    console::say(&text);
                    exit::USAGE
                }
            }
        }
    }
}

fn command(cli: Cli, signals: &Signals) -> Result<u8> {
    let argv: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let library = match &cli.command {
        None => cli.profile.observe.nvml_lib.as_deref(),
        Some(Command::Profile(args)) => args.observe.nvml_lib.as_deref(),
        Some(Command::Observe(args)) => args.observe.nvml_lib.as_deref(),
        Some(Command::Exec(args)) => args.observe.nvml_lib.as_deref(),
        Some(Command::Doctor(args)) => args.nvml_lib.as_deref(),
        Some(_) => None,
    };
    privilege::refuse_library(library)?;
    if !matches!(
        cli.command,
        None | Some(
            Command::Profile(_)
                | Command::Observe(_)
                | Command::Exec(_)
                | Command::Demo(_)
                | Command::Doctor(_)
        )
    ) {
        privilege::as_caller();
    }
    if cli.command.as_ref().is_some_and(|command| !command.measures()) {
        signals.restore();
    }
    match cli.command {
        None => profile(&cli.profile, &argv, signals),
        Some(Command::Profile(args)) => profile(&args, &argv, signals),
        Some(Command::Observe(args)) => observe(&args, &argv, signals),
        Some(Command::Exec(args)) => exec(&args, &argv, signals),
        Some(Command::Demo(args)) => run_demo(&args, &argv, signals),
        Some(Command::Doctor(args)) => doctor(&args),
        Some(Command::Schema) => print(report::json_schema().as_bytes()),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "inferscope", &mut script);
            print(&script)
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(cli::manual()).render(&mut page).context("the manual can't be made")?;
            print(&page)
        }
        Some(Command::DemoServer(args)) => {
            demo::serve(&args)?;
            Ok(exit::OK)
        }
        Some(Command::DemoHelper) => {
            demo::helper();
            Ok(exit::OK)
        }
    }
}

fn profile(args: &ProfileArgs, argv: &[String], signals: &Signals) -> Result<u8> {
    console::start_log();
    let env = environment(&args.load.api_key_env);
    console::hide(plan::known(Some(&args.load), args.output.redact.into(), &env));
    Ok(session::profile(&plan::profile(args, &env, argv)?, signals)?)
}

fn observe(args: &ObserveCommandArgs, argv: &[String], signals: &Signals) -> Result<u8> {
    console::start_log();
    let env = environment("OPENAI_API_KEY");
    console::hide(plan::known(None, args.output.redact.into(), &env));
    Ok(session::observe(&plan::observe(args, &env, argv)?, signals)?)
}

fn exec(args: &ExecArgs, argv: &[String], signals: &Signals) -> Result<u8> {
    console::start_log();
    let env = environment(&args.load.api_key_env);
    console::hide(plan::known(Some(&args.load), args.output.redact.into(), &env));
    Ok(session::exec(&plan::exec(args, &env, argv)?, signals)?)
}

fn run_demo(args: &DemoArgs, argv: &[String], signals: &Signals) -> Result<u8> {
    console::start_log();
    let env = environment("OPENAI_API_KEY");
    console::hide(plan::known(None, args.output.redact.into(), &env));
    let server = ["--workers".to_owned(), args.workers.to_string()];
    let result: Result<_, PlanError> = session::demo(&server, signals, |port, wrapper_pid| {
        plan::demo(args, (port, wrapper_pid), &env, argv)
    });
    Ok(result??)
}

fn doctor(args: &DoctorArgs) -> Result<u8> {
    console::start_log();
    let diagnosis = inferscope::doctor::examine(args.nvml_lib.as_deref());
    let said = if args.json { diagnosis.to_json() } else { diagnosis.to_text() };
    let code = print(said.as_bytes())?;
    Ok(if diagnosis.works() { code } else { exit::PRIVILEGE_MISSING })
}

fn environment(api_key_env: &str) -> Environment {
    Environment {
        // Text that is not UTF-8 is refused as any malformed URL is.
        openai_base_url: std::env::var_os("OPENAI_BASE_URL")
            .map(|url| url.to_string_lossy().into_owned())
            .filter(|url| !url.is_empty()),
        api_key: std::env::var_os(api_key_env),
        secrets: secrets_of_the_environment(),
        drawn_seed: drawn_seed(),
    }
}

/// Keys by the names of their variables, and the secrets in the URLs of proxies.
fn secrets_of_the_environment() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .flat_map(|(name, value)| {
            let mut found = secrets::of_url(&value);
            found.extend(secrets::of_variable(&name, &value));
            found
        })
        .collect()
}

/// A seed from the system's randomness, as for hash maps. Every reader of JSON keeps 53 bits.
fn drawn_seed() -> u64 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one(0u8) >> 11
}

/// Writes past std's buffer, whose failures at the end nobody would see.
fn print(bytes: &[u8]) -> Result<u8> {
    match session::print(bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            let remedy = "send it to where there is room";
            Err(anyhow::anyhow!("can't write to stdout: {e}\n  {remedy}"))
        }
        // The reader of `inferscope … | head` has what it wanted.
        _ => Ok(exit::OK),
    }
}

fn fail(error: &anyhow::Error) -> u8 {
    let code = exit_code(error);
    // The typed errors include their causes themselves.
    match code {
        Some(_) => console::error(error),
        None => console::error(&format_args!("{error:#}")),
    }
    code.unwrap_or(exit::INTERNAL)
}

/// The exit code of an error.
fn exit_code(error: &anyhow::Error) -> Option<u8> {
    let run = error.downcast_ref::<RunError>().map(RunError::exit_code);
    let usage = error.is::<PlanError>() || error.is::<LibraryRefused>();
    run.or_else(|| usage.then_some(exit::USAGE))
}
