//! The classification of HTTP errors.
//!
//! Owns the mapping of the transports' errors to a kind and one line. It goes by type, never by text: reqwest's own
//! kind first, then hyper's error and the `std::io::Error` in its chain. Pure. Used by `http`.

use std::error::Error;
use std::io::ErrorKind;

use super::budget::NoRoom;
use super::http::{self, TransportError};
use super::limit::Limit;
use super::server_message;
use crate::event::{Failure, FailureKind};

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
    if let Some(message) = tls().and_then(http::refused) {
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

/// The peer closed the connection before a response: what a kept-alive connection looks like after the server has
/// closed it.
pub(super) fn is_closed_before_response(error: &reqwest::Error) -> bool {
    error.is_request()
        && !error.is_connect()
        && chain(error).any(|e| {
            hyper_of(e).is_some_and(hyper::Error::is_incomplete_message)
                || io_of(e).is_some_and(|io| is_closed(io.kind()))
        })
}

/// The innermost cause, such as "connection refused".
pub(super) fn line(error: &(dyn Error + 'static)) -> String {
    let Some(last) = chain(error).last() else { return server_message::one_line(&error.to_string()) };
    let text = server_message::one_line(&last.to_string());
    match io_of(last).and_then(|io| Some((io.kind(), io.raw_os_error()?))) {
        Some((kind, _)) if named(kind) => kind.to_string(),
        Some((_, number)) => text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Bytes arrived that are no HTTP.
fn is_malformed(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|e| {
        hyper_of(e).is_some_and(|h| h.is_parse())
            || io_of(e)
                .is_some_and(|io| matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput))
    })
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
    )
}

/// The kinds whose name is enough without the system's text.
fn named(kind: ErrorKind) -> bool {
    is_closed(kind)
        || matches!(
            kind,
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::TimedOut
                | ErrorKind::AddrNotAvailable
                | ErrorKind::PermissionDenied
        )
}

fn io_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a std::io::Error> {
    error.downcast_ref()
}

fn hyper_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a hyper::Error> {
    error.downcast_ref()
}

/// `error` and everything beneath it. An `io::Error` that wraps another error is followed into it, because its `source`
/// skips that one.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| match io_of(e).and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => e.source(),
    })
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

    #[test]
    fn the_line_is_the_innermost_cause_without_an_error_number() {
        let refused = std::io::Error::from_raw_os_error(111);
        assert_eq!(line(&refused), "connection refused");
        let missing = std::io::Error::from_raw_os_error(2);
        assert_eq!(line(&missing), "No such file or directory");
        let wrapped = std::io::Error::other(std::io::Error::other("no certificate"));
        assert_eq!(line(&wrapped), "no certificate");
    }
}
