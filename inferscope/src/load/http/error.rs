//! The errors of a connection, and their classification.
//!
//! Owns the transports' error type and its mapping to a kind and one line. It goes by type, never by text: reqwest's own
//! kind first, then hyper's error and the `std::io::Error` in its chain. Pure. Used by `http`.

use std::error::Error;
use std::io;

use super::error_chain::{chain, io_of, is_malformed, line};
use super::tls;
use crate::event::{Failure, FailureKind};
use crate::load::budget::NoRoom;
use crate::load::limit::Limit;

/// An error of the connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::load) enum TransportError {
    #[error(transparent)]
    Reqwest(reqwest::Error),
    /// The connection failed.
    #[error(transparent)]
    Connect(io::Error),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(io::Error),
    /// A limit of this machine prevents a connection.
    #[error(transparent)]
    Limit(Limit),
    #[error(transparent)]
    NoRoom(NoRoom),
    #[error("no connection within the time for it")]
    ConnectTimeout,
    #[error(transparent)]
    Http(hyper::Error),
}

/// An error of the connection, before the response's head or in its body, as a failed request.
pub(super) fn failure(error: &TransportError) -> Failure {
    let (kind, cause): (_, &(dyn Error + 'static)) = match error {
        TransportError::NoRoom(no_room) => (FailureKind::Memory, no_room),
        TransportError::Limit(limit) => (FailureKind::ClientLimit, limit),
        TransportError::Reqwest(e) if e.is_connect() => (FailureKind::Connect, e),
        TransportError::Reqwest(e) if e.is_timeout() => (FailureKind::Timeout, e),
        TransportError::Connect(e) | TransportError::Tls(e) => (FailureKind::Connect, e),
        TransportError::ConnectTimeout => (FailureKind::Connect, error),
        TransportError::Reqwest(e) => (answered(e), e),
        TransportError::Http(e) => (answered(e), e),
    };
    if let Some(no_room) = chain(cause).find_map(|e| e.downcast_ref::<NoRoom>()) {
        return Failure { kind: FailureKind::Memory, message: no_room.to_string() };
    }
    let tls = || chain(cause).find_map(|e| e.downcast_ref::<rustls::Error>());
    if let Some(message) = tls().and_then(tls::refused) {
        return Failure { kind: FailureKind::Certificate, message };
    }
    if let Some(rustls::Error::InvalidMessage(_)) = tls() {
        let message = "what answers there does not speak TLS".to_owned();
        return Failure { kind: FailureKind::Connect, message };
    }
    match chain(cause).find_map(|e| Limit::of(io_of(e)?)) {
        Some(limit) => Failure { kind: FailureKind::ClientLimit, message: limit.to_string() },
        None => Failure { kind, message: line(cause) },
    }
}

/// The kind of an error after the connection was open: it ended, or its bytes are no HTTP.
fn answered(error: &(dyn Error + 'static)) -> FailureKind {
    if is_malformed(error) { FailureKind::Malformed } else { FailureKind::Disconnect }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_clients_is_none_of_the_servers_failures() {
        for (error, kind, said) in [
            (std::io::Error::from_raw_os_error(24), FailureKind::ClientLimit, "ulimit -Hn"),
            (
                std::io::Error::other(std::io::Error::from_raw_os_error(105)),
                FailureKind::ClientLimit,
                "no memory",
            ),
            (std::io::Error::from_raw_os_error(111), FailureKind::Connect, "connection refused"),
        ] {
            let failure = failure(&TransportError::Connect(error));
            assert!(failure.kind == kind && failure.message.contains(said), "{failure:?}");
        }
        let ports = failure(&TransportError::Limit(Limit::Ports));
        assert!(
            ports.kind == FailureKind::ClientLimit && ports.message.contains("ip_local_port_range"),
            "{ports:?}"
        );
    }
}
