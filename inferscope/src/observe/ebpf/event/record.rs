//! The kernel program's records, in this program's own types.
//!
//! Owns the types that the process table applies, and what all decoders share. Never decodes a record itself.

use bytemuck::AnyBitPattern;
use inferscope_common::Run;
use inferscope_common::event::WireRecord;

use crate::clock::Mono;
use crate::event::ExitStatus;
use crate::observe::ebpf::usage::GroupUsage;

/// What the kernel program wrote of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) t: Mono,
    pub(crate) id: Id,
    /// In the tracer's pid namespace; 0 where it is not visible there.
    pub(crate) pid: u32,
    pub(crate) what: What,
}

/// Names a process for as long as the machine runs: pids are reused, not within one tick of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    /// In the initial pid namespace; in the tracer's own where it comes from /proc.
    pub(crate) host_pid: u32,
    pub(crate) start_boottime_ns: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Fork {
        parent: u32,
        cgroup_id: u64,
        comm: String,
    },
    Exec {
        comm: String,
        exe: Option<String>,
        argv: Option<Vec<String>>,
        /// `argv` holds only the beginning.
        cut: bool,
        /// The kernel's peak of what came before this program: its parent's pages of a fork among it.
        rss_before_bytes: u64,
    },
    Exit {
        status: ExitStatus,
        peak_threads: u32,
        usage: GroupUsage,
        base: Run,
        /// No [`What::Free`] follows.
        is_final: bool,
        comm: String,
    },
    Free {
        usage: GroupUsage,
        base: Run,
    },
    Migrate {
        to_cgroup_id: u64,
        /// It left the target's cgroup and stays a member.
        leaves: bool,
    },
    MoveIn(Alive),
    MoveOut {
        to_cgroup_id: u64,
        usage: GroupUsage,
        base: Run,
    },
    Oom,
    /// It lives: from the iterator.
    Alive(Alive),
    /// A further thread was marked: from the iterator.
    Thread,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    pub(crate) parent: u32,
    pub(crate) cgroup_id: u64,
    pub(crate) comm: String,
    /// What it had used before it came into the set; of running threads as of their last tick.
    pub(crate) base: Run,
    /// As of an exec.
    pub(crate) rss_before_bytes: u64,
}

/// A record becomes what happened.
pub(super) trait Decode: WireRecord {
    fn decode(&self, page_bytes: u64) -> What;
}

/// The ring keeps records 8-byte aligned but promises nothing to a slice, so they are copied out.
pub(super) fn read<T: AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

/// Up to the first NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
