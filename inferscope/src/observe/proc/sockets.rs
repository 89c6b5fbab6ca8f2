//! The listeners of a TCP address of this machine, in any network namespace.
//!
//! Owns the search in /proc's socket tables. An address belongs to a namespace if one of its interfaces has it. A
//! loopback address belongs to each namespace and means the tracer's own.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process, all_processes};

use crate::privilege;

pub(crate) struct Listeners {
    /// Something listens, even if its owner is invisible.
    pub(crate) listening: bool,
    pub(crate) pids: BTreeSet<u32>,
    /// The network namespace in words, if it is not the tracer's own.
    pub(crate) elsewhere: Option<String>,
    /// A loopback address without a listener here: a process that listens on the port in another network namespace,
    /// which the address does not reach.
    pub(crate) namesake: Option<u32>,
}

/// Pids that hold a socket listening on `host:port`.
pub(crate) fn listeners(host: &str, port: u16) -> Listeners {
    let addresses: HashSet<IpAddr> =
        (host, port).to_socket_addrs().into_iter().flatten().map(|a| plain(a.ip())).collect();
    // This comes after the lookup above, which may load a resolver's library and read from the network.
    let _raised = privilege::raise();
    let found = holders(&addresses, port);
    let is_here = found.listening && found.elsewhere.is_none();
    // Only once: a listener may claim anything about itself.
    is_here.then(|| proxied(&found.pids, &addresses, port)).flatten().unwrap_or(found)
}

/// The holder of the socket, which may be a proxy.
fn holders(addresses: &HashSet<IpAddr>, port: u16) -> Listeners {
    let found = in_own_namespace(addresses, port);
    if found.listening {
        return found;
    }
    let loopback = addresses.iter().all(IpAddr::is_loopback);
    let mut namesake = None;
    for process in first_of_each_other_namespace() {
        let Some(tables) = Tables::of(&process) else { continue };
        if loopback {
            let inodes = tables.serving(port, |_| true);
            namesake = namesake.or_else(|| owners(&inodes).first().copied());
            continue;
        }
        let inodes = tables.serving(port, |local| serves(local, addresses, &tables.own_addresses));
        if inodes.is_empty() {
            continue;
        }
        let elsewhere = Some(format!("in the network namespace of process {}", process.pid));
        return Listeners { listening: true, pids: owners(&inodes), elsewhere, namesake: None };
    }
    Listeners { namesake, ..found }
}

fn in_own_namespace(addresses: &HashSet<IpAddr>, port: u16) -> Listeners {
    let tables = Process::myself().ok().and_then(|me| Tables::of(&me));
    let inodes = tables.map_or_else(HashSet::new, |tables| {
        tables.serving(port, |local| serves(local, addresses, &tables.own_addresses))
    });
    Listeners { listening: !inodes.is_empty(), pids: owners(&inodes), elsewhere: None, namesake: None }
}

/// Docker publishes a port by a process of its own, which holds the socket and does none of the work. The server is
/// where its arguments point.
fn proxied(pids: &BTreeSet<u32>, addresses: &HashSet<IpAddr>, port: u16) -> Option<Listeners> {
    let only = pids.first().filter(|_| pids.len() <= 2)?;
    let process = Process::new(i32::try_from(*only).ok()?).ok()?;
    let next = docker_proxy(&process.cmdline().ok()?)?;
    if next.port() == port && addresses.contains(&next.ip()) {
        return None;
    }
    let behind = holders(&HashSet::from([next.ip()]), next.port());
    (!behind.pids.is_empty()).then(|| Listeners {
        elsewhere: Some(format!("behind docker-proxy (pid {only}), at {next}")),
        ..behind
    })
}

/// Parses `docker-proxy … -container-ip A -container-port P`. A name instead of A is not Docker's, and is not looked
/// up.
fn docker_proxy(argv: &[String]) -> Option<SocketAddr> {
    argv.first().filter(|name| name.ends_with("docker-proxy"))?;
    let value = |flag: &str| argv.iter().skip_while(|a| *a != flag).nth(1);
    let ip: IpAddr = value("-container-ip")?.parse().ok()?;
    Some(SocketAddr::new(plain(ip), value("-container-port")?.parse().ok()?))
}

/// The files of a network namespace.
struct Tables {
    sockets: Vec<TcpNetEntry>,
    own_addresses: HashSet<IpAddr>,
}

impl Tables {
    fn of(process: &Process) -> Option<Self> {
        let sockets: Vec<_> = process.tcp().into_iter().chain(process.tcp6()).flatten().collect();
        let text = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/net/{file}", process.pid)).unwrap_or_default()
        };
        let own_addresses = own_v4(&text("fib_trie")).chain(own_v6(&text("if_inet6"))).collect();
        (!sockets.is_empty()).then_some(Self { sockets, own_addresses })
    }

    fn serving(&self, port: u16, serves: impl Fn(IpAddr) -> bool) -> HashSet<u64> {
        let listens = |e: &&TcpNetEntry| {
            e.state == TcpState::Listen && e.local_address.port() == port && serves(e.local_address.ip())
        };
        self.sockets.iter().filter(listens).map(|e| e.inode).collect()
    }
}

/// A socket bound to `local` receives what is sent to one of `wanted`, in a namespace with the addresses `own`.
fn serves(local: IpAddr, wanted: &HashSet<IpAddr>, own: &HashSet<IpAddr>) -> bool {
    let local = plain(local);
    wanted.iter().any(|ip| local == *ip || local.is_unspecified() && (ip.is_loopback() || own.contains(ip)))
}

/// The IPv4 address in an IPv6 one.
fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// Addresses in fib_trie: a line `|-- A` with a following line `/32 host LOCAL`.
fn own_v4(fib_trie: &str) -> impl Iterator<Item = IpAddr> + '_ {
    fib_trie.lines().zip(fib_trie.lines().skip(1)).filter_map(|(address, kind)| {
        let address = address.trim().strip_prefix("|-- ")?;
        kind.trim().starts_with("/32 host LOCAL").then(|| address.parse().ok()).flatten()
    })
}

/// Addresses in if_inet6: the first column, 32 hexadecimal digits.
fn own_v6(if_inet6: &str) -> impl Iterator<Item = IpAddr> + '_ {
    if_inet6.lines().filter_map(|line| {
        let digits = line.split_whitespace().next().filter(|d| d.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(|bits| IpAddr::V6(bits.into()))
    })
}

/// One process of each network namespace but the tracer's own.
fn first_of_each_other_namespace() -> Vec<Process> {
    let inode = |process: &Process| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(format!("/proc/{}/ns/net", process.pid)).ok().map(|m| m.ino())
    };
    let mut known: HashSet<u64> = Process::myself().ok().as_ref().and_then(inode).into_iter().collect();
    let all = all_processes().into_iter().flatten().flatten();
    // A process of another user can't be read; without privileges the search ends here.
    all.filter(|process| inode(process).is_some_and(|inode| known.insert(inode))).collect()
}

fn owners(inodes: &HashSet<u64>) -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    if inodes.is_empty() {
        return pids;
    }
    for process in all_processes().into_iter().flatten().flatten() {
        // A process of another user can't be read, and one that has ended does not matter.
        let Ok(fds) = process.fd() else { continue };
        let holds = fds.flatten().any(|fd| matches!(fd.target, FDTarget::Socket(i) if inodes.contains(&i)));
        if let (true, Ok(pid)) = (holds, u32::try_from(process.pid)) {
            pids.insert(pid);
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &[&str]) -> HashSet<IpAddr> {
        text.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn a_wildcard_socket_serves_the_addresses_of_its_own_namespace() {
        let own = ips(&["10.0.0.2"]);
        let serves = |local: &str, wanted: &str| super::serves(local.parse().unwrap(), &ips(&[wanted]), &own);
        assert!(serves("0.0.0.0", "10.0.0.2"));
        assert!(serves("::", "10.0.0.2"));
        assert!(serves("127.0.0.1", "127.0.0.1"));
        assert!(serves("::ffff:10.0.0.2", "10.0.0.2"));
        assert!(!serves("0.0.0.0", "10.0.0.3"));
        assert!(!serves("127.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn own_addresses_are_read_from_the_kernels_tables() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.2\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert_eq!(own_v4(trie).collect::<HashSet<_>>(), ips(&["10.0.0.2"]));
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\nbad line\n";
        assert_eq!(own_v6(inet6).collect::<HashSet<_>>(), ips(&["::1"]));
    }

    #[test]
    fn the_server_behind_a_published_port_is_where_dockers_proxy_points() {
        let argv = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
        let proxy = argv(
            "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8000 -container-ip 172.17.0.2 -container-port 80",
        );
        assert_eq!(docker_proxy(&proxy), "172.17.0.2:80".parse().ok());
        assert_eq!(docker_proxy(&argv("nginx -container-ip 1.2.3.4 -container-port 1")), None);
        assert_eq!(docker_proxy(&argv("docker-proxy -container-ip")), None);
        // No resolver is asked for a name that a stranger chose.
        assert_eq!(docker_proxy(&argv("docker-proxy -container-ip a.example -container-port 1")), None);
    }
}
