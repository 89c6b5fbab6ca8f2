//! The parts of a response besides its stamps: status, redirect, coding, body.
//!
//! Owns the reading of an error's body, the choice of the decoder, and the message for an unsuccessful status. Decides
//! nothing about events. Used by `http`.

use std::ops::ControlFlow;

use reqwest::Url;
use reqwest::header;

use super::decode::Decoder;
use super::error::TransportError;
use super::transport::TransportResponse;
use crate::clock::Mono;
use crate::event::{Failure, FailureKind};
use crate::load::request::{RequestState, Wanted};
use crate::load::server_message;

/// Most bytes read of an error's body.
pub(super) const ERROR_BODY_BYTES: usize = 64 << 10;
pub(super) async fn status_failure(answer: TransportResponse, url: &Url) -> Failure {
    let status = answer.status();
    let location = location(&answer, url);
    // A body that breaks off is as good as its beginning.
    let reported = match body(answer, ERROR_BODY_BYTES).await {
        Ok(body) => server_message::in_body(&body),
        Err(_) => None,
    };
    let name = status.canonical_reason().unwrap_or("no reason given");
    let message = match (location, reported) {
        (Some(to), _) if status.is_redirection() => format!("HTTP {}: redirects to {to}", status.as_u16()),
        (_, Some(reported)) => format!("HTTP {}: {reported}", status.as_u16()),
        (_, None) => format!("HTTP {} ({name})", status.as_u16()),
    };
    Failure { kind: FailureKind::Status, message }
}

/// The decoder for the response's coding.
pub(super) fn decoder(answer: &TransportResponse) -> Result<Option<Decoder>, Failure> {
    let Some(coding) = answer.headers().get(header::CONTENT_ENCODING) else { return Ok(None) };
    Decoder::of(coding.as_bytes()).map_err(|_| {
        let coding = server_message::excerpt(coding.as_bytes());
        let message = format!("the answer is encoded ({coding}), which was not asked for");
        Failure { kind: FailureKind::Malformed, message }
    })
}

/// Hands a piece of the body, received at `t`, to the state.
pub(super) fn read(
    decoder: &mut Option<Decoder>,
    t: Mono,
    bytes: &[u8],
    state: &mut RequestState,
) -> Result<Wanted, Failure> {
    let Some(decoder) = decoder else { return Ok(state.read(t, bytes)) };
    let mut wanted = Wanted::More;
    let fed = decoder.feed(bytes, |plain| {
        wanted = state.read(t, plain);
        if wanted == Wanted::More { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    fed.map(|()| wanted).map_err(|e| {
        let message = format!("the answer is not encoded as it says: {e}");
        Failure { kind: FailureKind::Malformed, message }
    })
}

/// The first `most` bytes of the body.
pub(super) async fn body(mut answer: TransportResponse, most: usize) -> Result<Vec<u8>, TransportError> {
    // An unknown coding shows in what the body then looks like.
    let mut decoder = decoder(&answer).ok().flatten();
    let mut body = Vec::new();
    let mut take = |bytes: &[u8]| {
        body.extend_from_slice(&bytes[..bytes.len().min(most - body.len())]);
        if body.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    while let Some((bytes, _)) = answer.piece().await? {
        let mut enough = false;
        match &mut decoder {
            None => enough = take(&bytes).is_break(),
            Some(decoder) => {
                let fed = decoder.feed(&bytes, |plain| {
                    let flow = take(plain);
                    enough = flow.is_break();
                    flow
                });
                enough |= fed.is_err();
            }
        }
        if enough {
            return Ok(body);
        }
    }
    answer.finish().await;
    Ok(body)
}

/// The target of the redirect in the response to `url`, without user and query, which may be secret.
pub(super) fn location(answer: &TransportResponse, url: &Url) -> Option<String> {
    let to = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut url = url.join(to).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for a URL that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(server_message::one_line(url.as_str()))
}
