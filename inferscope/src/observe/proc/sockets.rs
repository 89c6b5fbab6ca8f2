//! Who listens on a TCP port of this machine.

use std::collections::{BTreeSet, HashSet};

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, all_processes};

/// Pids that hold a socket listening on `port` of a loopback or wildcard address.
pub(crate) fn listeners(port: u16) -> Listeners {
    let entries = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
    let inodes: HashSet<u64> = entries.filter(|e| serves(e, port)).map(|e| e.inode).collect();
    if inodes.is_empty() {
        return Listeners { listening: false, pids: BTreeSet::new() };
    }
    let mut pids = BTreeSet::new();
    for process in all_processes().into_iter().flatten().flatten() {
        // A process of another user can't be looked into; what ended is of no interest.
        let Ok(fds) = process.fd() else { continue };
        let holds = fds.flatten().any(|fd| matches!(fd.target, FDTarget::Socket(i) if inodes.contains(&i)));
        if let (true, Ok(pid)) = (holds, u32::try_from(process.pid)) {
            pids.insert(pid);
        }
    }
    Listeners { listening: true, pids }
}

pub(crate) struct Listeners {
    /// Something listens, whether or not its owner could be seen.
    pub(crate) listening: bool,
    pub(crate) pids: BTreeSet<u32>,
}

fn serves(entry: &TcpNetEntry, port: u16) -> bool {
    let ip = entry.local_address.ip();
    let local = ip.is_unspecified()
        || ip.is_loopback()
        || matches!(ip, std::net::IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()));
    entry.state == TcpState::Listen && entry.local_address.port() == port && local
}
