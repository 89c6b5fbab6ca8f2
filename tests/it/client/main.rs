//! The client side of a run: what is sent, when, what came back, and when it came, each against a server whose truth
//! is known.

mod client_limit;
mod client_stall;
mod hostile;
mod https;
mod interrupt;
mod keep_alive;
mod moments;
mod open_loop;
mod stamps;
mod timing;
mod token_timing;
mod window;
