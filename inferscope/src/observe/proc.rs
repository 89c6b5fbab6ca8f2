//! The reads of /proc.
//!
//! `handle` reads one process and is safe from pid reuse. `tree` finds the members without the kernel tracker.
//! `sockets` finds the listener of a port. `stat` parses what a tick reads.

pub(super) mod handle;
pub(crate) mod mount;
pub(super) mod sockets;
mod stat;
pub(super) mod tree;

/// A file of /proc as text. Names in it (of processes, cgroups, mounts) are any bytes. Invalid UTF-8 is replaced; the
/// rest stays.
pub(crate) fn text(path: impl AsRef<std::path::Path>) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
