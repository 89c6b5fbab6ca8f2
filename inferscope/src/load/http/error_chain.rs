//! The causes beneath an error, and their one line.
//!
//! Owns the walk through the sources of an error, and what they show about the connection. It goes by type, never by text.
//! Pure. Used by `error`, `tls` and the transports.

use std::error::Error;
use std::io::ErrorKind;

use crate::load::server_message;

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
pub(super) fn is_malformed(error: &(dyn Error + 'static)) -> bool {
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

pub(super) fn io_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a std::io::Error> {
    error.downcast_ref()
}

pub(super) fn hyper_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a hyper::Error> {
    error.downcast_ref()
}

/// `error` and everything beneath it. An `io::Error` that wraps another error is followed into it, because its `source`
/// skips that one.
pub(super) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| match io_of(e).and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => e.source(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
