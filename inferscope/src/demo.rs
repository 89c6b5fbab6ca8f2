//! The built-in server that `inferscope demo` drives and observes.
//!
//! Owns a server in the shape of production: an arbiter pre-forks workers that share a listener and a preloaded
//! "model", and replaces them after some requests. Each request runs a short-lived helper process before the server
//! streams tokens at a known pace. Also owns the wrapper that starts the server. The tokens are synthetic; the
//! processes, their memory and their CPU time are real.
//!
//! Never imports what it tests (`load`, `observe`, `figures`, `report`), and no async runtime: a process that forks
//! must have a single thread. `main` calls [`serve`] and [`helper`] before any thread exists; `session` starts and ends
//! a [`Wrapped`].

mod arbiter;
mod chat;
mod http;
mod work;
mod worker;
mod wrapped;

use std::io;
use std::path::PathBuf;

pub use arbiter::serve;
pub use worker::helper;
pub use wrapped::Wrapped;

/// The only model of the server.
pub const MODEL: &str = "inferscope-demo";

/// The names of the two subcommands, as in `cli`.
const SERVER_COMMAND: &str = "demo-server";
const HELPER_COMMAND: &str = "demo-helper";

/// The text before the port on the server's one line of output.
const ANNOUNCEMENT: &str = "listening ";

/// Why the demo's server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the demo's server can't listen on 127.0.0.1: {0}\n  check that the loopback interface is up")]
    Listen(#[source] io::Error),
    #[error(
        "the demo's server can't write its port to standard output: {0}\n  start it with a standard output"
    )]
    Announce(#[source] io::Error),
    #[error(
        "the demo's server can't fork from a process of {threads} threads\n  this is a bug of inferscope"
    )]
    Threads { threads: usize },
    #[error("the demo's server can't fork a worker: {0}\n  raise the limit of processes (ulimit -u)")]
    Fork(#[source] io::Error),
    #[error("the demo's server can't wait for its workers: {0}\n  it needs pidfd_open, Linux 5.3 or newer")]
    Wait(#[source] io::Error),
    #[error("{failures} workers of the demo's server failed in a row\n  their messages are above")]
    Workers { failures: u32 },
    #[error("can't start the demo's server {} under a shell: {source}\n  it needs bash or sh on PATH", exe.display())]
    Shell { exe: PathBuf, source: io::Error },
    #[error("the demo's server gave no port within {seconds} s\n  the machine may be overloaded; try again")]
    Silent { seconds: u64 },
    #[error("interrupted before the demo's server was ready\n  start it again")]
    Interrupted,
    #[error("the demo's server ended before it was ready\n  its own message is above")]
    Ended,
    #[error("the demo's server announced '{line}' where its port was expected\n  is {} an inferscope?", exe.display())]
    Announcement { exe: PathBuf, line: String },
}
