//! An OpenAI-compatible server whose truth is known: it streams on a schedule and logs when it wrote what.
//!
//! Owns the process: its options, its life and its end. Never measures anybody else. Started by tests and
//! benches, through `inferscope_tests::emitter`.
//!
//! One thread, sockets that don't block and a heap of due times, so that a thousand streams of 50 tokens/s leave
//! most of one CPU free. The log's times are CLOCK_MONOTONIC: right before each write(2) with a token, and the
//! kernel's own receive time of each request.

mod chunks;
mod hostile;
mod log;
mod options;
mod request;
mod schedule;
mod server;
mod socket;
mod tls;

use std::io::Write;
use std::process::ExitCode;

use options::Options;
use server::Server;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> std::io::Result<()> {
    let log = options.log.clone();
    let mut server = Server::bind(options)?;
    println!("listening {}", server.address());
    std::io::stdout().flush()?;
    let entries = server.run()?;
    log.map_or(Ok(()), |path| log::write(&path, entries))
}
