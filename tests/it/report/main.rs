//! What a user reads: reports recomputed from their own raw data, the schema, the text, progress, refusals of bad input,
//! and the servers that the tests and the demo stand on.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy does not see helpers as tests"
)]

mod bad_input;
mod bad_inputs;
mod demo;
mod demo_server;
mod documents;
mod emitter_log;
mod limits;
mod output;
mod progress;
mod recompute;
mod schema;
mod words;
mod wrapper;
