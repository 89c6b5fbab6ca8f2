//! The protocol between inferscope and its janitor.
//!
//! Owns the messages, and the socket pair that keeps their boundaries. Never decides anything. The end of either
//! process closes its end of the pair, which the other one sees whatever the cause.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::privilege::InForce;

/// Longest message: some paths and a sentence.
const MAX_BYTES: usize = 16 << 10;

/// A message from inferscope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JanitorRequest {
    /// Let the command run.
    Open,
    /// End the command and all that is left of it: SIGTERM, the grace period, SIGKILL. Without `ask`, the SIGTERM was
    /// already sent.
    End { ask: bool },
    /// End it without a grace period.
    Kill,
    /// Send the command this signal.
    Signal { signal: i32 },
    /// Leave living processes alone, remove the cgroup, and exit.
    Release,
}

/// A message from the janitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JanitorReply {
    /// The command waits at its gate.
    Ready { pid: u32, cgroup: Result<CgroupPlacement, String>, left: InForce },
    /// The fork failed. Nothing is left.
    NotForked { what: String, errno: i32 },
    /// The command has become the program.
    Started,
    /// The exec failed, and the command is gone.
    NotStarted { errno: i32 },
    /// The command ended with this status of wait(2).
    Ended { status: u32 },
    /// The reply to `End` and `Kill`: all is gone except for this many processes, which could not be killed.
    Cleared { left: u32 },
    /// The reply to `Release`, with the directories that could not be removed.
    Released { left: Vec<String> },
}

/// The command's own cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlacement {
    pub dir: String,
    /// Its path within the v2 hierarchy, as in /proc/PID/cgroup.
    pub name: String,
    /// The inode number of its directory.
    pub id: u64,
    /// Directories of the same name in v1 hierarchies that account.
    pub accounting: Vec<String>,
}

#[derive(Debug)]
pub(super) struct JanitorChannel(OwnedFd);

impl JanitorChannel {
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// # Errors
    /// The other end is gone.
    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        send(&self.0, &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for the next message. `None`: the other end is gone.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        loop {
            match self.receive_with(RecvFlags::empty()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                received => return received,
            }
        }
    }

    /// The next message without waiting, or [`io::ErrorKind::WouldBlock`].
    pub(super) fn receive_now<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: RecvFlags) -> io::Result<Option<T>> {
        let mut bytes = vec![0; MAX_BYTES];
        let (length, _) = match recv(&self.0, &mut bytes, flags) {
            // The other side ended without reading everything.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => received?,
        };
        // No message is empty.
        if length == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&bytes[..length])?))
    }
}

impl AsFd for JanitorChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for JanitorChannel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_an_end_is_seen() {
        let (a, b) = JanitorChannel::pair().unwrap();
        a.send(&JanitorRequest::Open).unwrap();
        a.send(&JanitorRequest::End { ask: true }).unwrap();
        assert_eq!(b.receive::<JanitorRequest>().unwrap(), Some(JanitorRequest::Open));
        assert_eq!(b.receive::<JanitorRequest>().unwrap(), Some(JanitorRequest::End { ask: true }));
        assert_eq!(b.receive_now::<JanitorRequest>().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let left = InForce {
            role: crate::privilege::ThreadRole::Janitor,
            effective: Some(vec!["CAP_KILL".into()]),
            permitted: None,
            no_new_privs: Some(true),
            seccomp: false,
            seccomp_reason: None,
            files_as_uid: None,
            files_as_uid_reason: None,
        };
        b.send(&JanitorReply::Ready { pid: 7, cgroup: Err("why".into()), left }).unwrap();
        drop(b);
        assert!(matches!(a.receive().unwrap(), Some(JanitorReply::Ready { pid: 7, .. })));
        assert_eq!(a.receive::<JanitorReply>().unwrap(), None);
        assert!(a.send(&JanitorRequest::Kill).is_err(), "and no signal ends this process");
    }
}
