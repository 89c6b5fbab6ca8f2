//! What the integration tests in `it/` stand on.
//!
//! Owns running the `inferscope` binary as a user does, the servers that it is pointed at, and the end of
//! every process that a test starts. Never links against inferscope: what is tested is the program. Its
//! functions panic where a test has to fail.

pub mod binary;
pub mod bpf;
pub mod cgroup;
pub mod client;
pub mod clock;
pub mod contained_server;
pub mod container;
pub mod cpu;
pub mod elevated;
pub mod emitter;
pub mod gpu;
pub mod gunicorn;
pub mod known_load;
pub mod process;
pub mod recompute;
pub mod report;
pub mod requirements;
pub mod script;
pub mod server;
pub mod shell;
pub mod spun;
pub mod stamps;
pub mod stats;
pub mod storm;
pub mod terminal;
pub mod timed_server;
pub mod wait;
