//! The client side of a run: what is sent, when, what came back, and when it came, each against a server whose truth
//! is known.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy does not see helpers as tests"
)]

mod client_limit;
mod client_stall;
mod dialects;
mod hostile;
mod https;
mod interrupt;
mod keep_alive;
mod moments;
mod open_loop;
mod stamps;
mod token_timing;
mod window;
