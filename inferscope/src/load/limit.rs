//! The client's own limits: what keeps it from opening another connection and is none of the server's doing.
//!
//! Owns which system errors are such a limit, and what to do about each. Pure, but for the look whether an address can
//! be reached at all. Called by `http::error` and by the transports.

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Limit {
    #[error(
        "inferscope may open no more files: raise the limit (ulimit -Hn, LimitNOFILE=), or ask for fewer requests at a time"
    )]
    OpenFiles,
    #[error("this machine may open no more files: raise fs.file-max, or ask for fewer requests at a time")]
    OpenFilesOfAll,
    #[error(
        "no local port is free: widen net.ipv4.ip_local_port_range, or open fewer connections (a closed one keeps its port \
         for a minute)"
    )]
    Ports,
    #[error(
        "no thread can be started to look up the server's name: raise the limit (ulimit -u, TasksMax=, pids.max), or give \
         its address"
    )]
    Threads,
    #[error("this machine's kernel has no memory for another connection: ask for fewer requests at a time")]
    Memory,
}

impl Limit {
    /// What `error` says by its number alone. Used-up ports share theirs with addresses that can't be reached: see
    /// [`no_port_to`].
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMFILE => Some(Self::OpenFiles),
            libc::ENFILE => Some(Self::OpenFilesOfAll),
            libc::ENOBUFS | libc::ENOMEM => Some(Self::Memory),
            _ => None,
        }
    }
}

/// Whether a TCP connection to `to` failed with `error` because no port was free. UDP has ports of its own, and takes an
/// address for the same reasons; nothing is sent.
pub(super) fn no_port_to(to: SocketAddr, error: &io::Error) -> bool {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
        && UdpSocket::bind(any).and_then(|socket| socket.connect(to)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_this_machines_own_limits_are_limits() {
        let of = |number| Limit::of(&io::Error::from_raw_os_error(number));
        assert_eq!(of(libc::EMFILE), Some(Limit::OpenFiles));
        assert_eq!(of(libc::ENFILE), Some(Limit::OpenFilesOfAll));
        assert_eq!([libc::ENOBUFS, libc::ENOMEM].map(of), [Some(Limit::Memory); 2]);
        for servers in [libc::ECONNREFUSED, libc::ECONNRESET, libc::ETIMEDOUT, libc::EADDRNOTAVAIL] {
            assert_eq!(of(servers), None, "{servers}");
        }
        assert_eq!(Limit::of(&io::Error::other("x")), None);
    }

    #[test]
    fn an_address_that_this_machine_can_not_reach_is_no_lack_of_ports() {
        let error = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        assert!(no_port_to(([127, 0, 0, 1], 9).into(), &error));
        assert!(!no_port_to(([127, 0, 0, 1], 9).into(), &io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        // Port 0 is nobody's, and a multicast source none at all: whatever the kernel refuses is no lack of ports.
        assert!(!no_port_to(
            "[ff02::1]:0".parse().unwrap(),
            &io::Error::from_raw_os_error(libc::ENETUNREACH)
        ));
    }
}
