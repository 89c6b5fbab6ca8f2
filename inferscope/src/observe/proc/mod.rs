//! Everything read from /proc.
//!
//! `handle` reads one process and can't be fooled by pid reuse; `tree` finds the members where the
//! kernel tracker can't be had; `sockets` finds who listens on a port; `stat` parses what a tick reads.

pub(super) mod handle;
pub(crate) mod mount;
pub(super) mod sockets;
mod stat;
pub(super) mod tree;
