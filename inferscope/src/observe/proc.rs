//! Everything read from /proc.
//!
//! `handle` reads one process and can't be fooled by pid reuse; `tree` finds the members where the
//! kernel tracker can't be had; `sockets` finds who listens on a port; `stat` parses what a tick reads.

pub(super) mod handle;
pub(crate) mod mount;
pub(super) mod sockets;
mod stat;
pub(super) mod tree;

/// A file of /proc as text. Names in it (of processes, cgroups, mounts) are any bytes: what is no UTF-8 is replaced, and the
/// rest is as good as ever.
pub(crate) fn text(path: impl AsRef<std::path::Path>) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
