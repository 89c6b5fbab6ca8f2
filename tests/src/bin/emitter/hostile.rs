//! Answers that no client should be sent, and some will be.
//!
//! Owns the kinds of garbage and the bytes of each. Pure. Called by `schedule`.

use crate::chunks::{self, STREAM_HEAD, framed};
use crate::options::Options;
use crate::schedule::{Step, What, nanos};

/// Beyond what inferscope takes as one line or event, which is 1 MiB.
const HUGE: usize = 2 << 20;
const DEEP: usize = 10_000;
/// Sooner, it would look like a kept-alive connection that was closed just before the request.
const LATE_NS: u64 = 400_000_000;
/// Between two pieces of what never ends.
const EVERY_NS: u64 = 20_000_000;

macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($kind,)* }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    NotHttp "not-http",
    Html500 "html-500",
    JsonDocument "json-document",
    ErrorDocument "error-document",
    TruncatedEvent "truncated-event",
    CutEvent "cut-event",
    InvalidUtf8 "invalid-utf8",
    HugeEvent "huge-event",
    EndlessLine "endless-line",
    EndlessComments "endless-comments",
    HugeHeaders "huge-headers",
    ShortLength "short-length",
    LongLength "long-length",
    NegativeLength "negative-length",
    BadChunkSize "bad-chunk-size",
    HugeChunkSize "huge-chunk-size",
    BrokenGzip "broken-gzip",
    ErrorInStream "error-in-stream",
    DoneAtOnce "done-at-once",
    EmptyBody "empty-body",
    NoContent "no-content",
    ChoicesType "choices-type",
    NegativeUsage "negative-usage",
    HugeUsage "huge-usage",
    DeepJson "deep-json",
    NulBytes "nul-bytes",
    NoDone "no-done",
    TwoAnswers "two-answers",
    RedirectLoop "redirect-loop",
    TooManyRequests "too-many-requests",
    CloseBeforeHead "close-before-head",
    SlowHead "slow-head",
    EndlessInformational "endless-informational",
    SwitchingProtocols "switching-protocols",
    Reset "reset",
    Silence "silence",
}

impl Kind {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// The steps of one such answer.
pub(crate) fn steps(kind: Kind, options: &Options) -> Vec<Step> {
    let first = nanos(options.first_token);
    let gap = nanos(options.interval);
    let at = |at_ns, what| Step { at_ns, what };
    let now = |what| at(0, what);
    let raw = |text: &[u8]| now(What::Raw(text.to_vec()));
    let token = |n: u64| at(first + gap * n, What::Tokens { n: 1, reasoning: false });
    let after_tokens = |what| at(first + gap, what);
    // A stream that begins well.
    let begun = |rest: Vec<What>| {
        let rest = rest.into_iter().map(after_tokens);
        [now(What::StreamHead), token(0), token(1)].into_iter().chain(rest).collect::<Vec<_>>()
    };
    // A stream of one event, whole in HTTP's terms.
    let event = |data: &[u8]| {
        let event = [b"data: ", data, b"\n\n"].concat();
        vec![now(What::StreamHead), raw(&framed(&event)), now(What::Done)]
    };
    match kind {
        Kind::NotHttp => vec![raw(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), now(What::Close)],
        Kind::Html500 => vec![raw(&whole("500 Internal Server Error", "text/html", b"<html><h1>oops</h1></html>"))],
        Kind::JsonDocument => vec![at(first, What::Document { tokens: 2 })],
        Kind::ErrorDocument => {
            vec![raw(&whole("200 OK", "application/json", br#"{"error": {"message": "no such adapter"}}"#))]
        }
        Kind::TruncatedEvent => event(br#"{"choices":[{"index":0,"delta":{"content":" to"#),
        Kind::CutEvent => {
            begun(vec![What::Raw(framed(br#"data: {"choices":[{"index":0,"de"#)), What::LastChunk])
        }
        Kind::InvalidUtf8 => event(b"{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\xff\xfe\xc0\"}}]}"),
        Kind::HugeEvent => {
            let text = "x".repeat(HUGE);
            event(format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#).as_bytes())
        }
        Kind::EndlessLine => {
            let bytes = framed("x".repeat(64 << 10).as_bytes());
            vec![now(What::StreamHead), raw(&framed(b"data: ")), now(What::Forever { bytes, every_ns: 1_000_000 })]
        }
        Kind::EndlessComments => {
            vec![now(What::StreamHead), now(What::Forever { bytes: framed(b": ping\n\n"), every_ns: EVERY_NS })]
        }
        Kind::HugeHeaders => {
            let head = format!("HTTP/1.1 200 OK\r\nX-Filler: {}\r\n", "x".repeat(1 << 20));
            vec![raw(head.as_bytes()), raw(b"Content-Length: 0\r\n\r\n")]
        }
        // The body is longer than it says: what is beyond belongs to no request.
        Kind::ShortLength => vec![raw(&of_length("20", b"data: [DONE]\n\n"))],
        Kind::LongLength => vec![raw(&of_length("2000", b"")), at(first, What::Close)],
        Kind::NegativeLength => vec![raw(&of_length("-5", b"data: [DONE]\n\n"))],
        Kind::BadChunkSize => begun(vec![What::Raw(b"zz\r\ndata: {}\n\n\r\n".to_vec()), What::LastChunk]),
        Kind::HugeChunkSize => begun(vec![What::Raw(b"ffffffffffffffffff\r\ndata: {}\n\n\r\n".to_vec())]),
        Kind::BrokenGzip => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\n";
            vec![raw(&[&head[..], b"\x1f\x8b\x08\x00nothing."].concat())]
        }
        Kind::ErrorInStream => begun(vec![What::Error, What::LastChunk]),
        Kind::DoneAtOnce => vec![now(What::StreamHead), now(What::Done)],
        Kind::EmptyBody => vec![now(What::StreamHead), now(What::LastChunk)],
        Kind::NoContent => vec![raw(b"HTTP/1.1 204 No Content\r\n\r\n")],
        Kind::ChoicesType => event(br#"{"choices":42}"#),
        Kind::NegativeUsage => {
            begun(vec![What::Raw(usage("-5", "-2")), What::Finish, What::Done])
        }
        Kind::HugeUsage => begun(vec![What::Raw(usage("1e300", "99999999999999999999")), What::Finish, What::Done]),
        Kind::DeepJson => event(&[b"{\"choices\":", "[".repeat(DEEP).as_bytes(), "]".repeat(DEEP).as_bytes(), b"}"].concat()),
        Kind::NulBytes => event(&[0; 64]),
        Kind::NoDone => begun(vec![What::LastChunk]),
        // A good answer, and behind it one that nobody asked for, with tokens.
        Kind::TwoAnswers => {
            let unasked = [STREAM_HEAD, &chunks::tokens(crate::request::Api::Chat, 7, false, None), &chunks::done()];
            let ending = [chunks::done(), unasked.concat()].concat();
            begun(vec![What::Finish, What::Raw(ending)])
        }
        Kind::RedirectLoop => vec![raw(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /loop/v1/chat/completions\r\nContent-Length: 0\r\n\r\n")],
        Kind::TooManyRequests => {
            let status = "429 Too Many Requests\r\nRetry-After: 1";
            vec![raw(&whole(status, "application/json", br#"{"error": {"message": "rate limited"}}"#))]
        }
        Kind::CloseBeforeHead => vec![at(LATE_NS, What::Close)],
        Kind::SlowHead => {
            vec![raw(b"HTTP/1.1 200 OK\r\nX-Slow: "), now(What::Forever { bytes: b"x".to_vec(), every_ns: EVERY_NS })]
        }
        Kind::EndlessInformational => {
            vec![now(What::Forever { bytes: b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), every_ns: EVERY_NS })]
        }
        Kind::SwitchingProtocols => {
            vec![raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi"), at(first, What::Close)]
        }
        Kind::Reset => begun(vec![What::Reset]),
        Kind::Silence => begun(vec![What::Hang]),
    }
}

/// An answer in one piece.
fn whole(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A stream of one token, whose head tells that length.
fn of_length(length: &str, ending: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {length}\r\n\r\n");
    let event = br#"data: {"choices":[{"index":0,"delta":{"content":" tok"}}]}"#;
    [head.as_bytes(), event, b"\n\n", ending].concat()
}

fn usage(prompt: &str, completion: &str) -> Vec<u8> {
    let numbers = format!(r#""prompt_tokens":{prompt},"completion_tokens":{completion}"#);
    framed(format!("data: {{\"choices\":[],\"usage\":{{{numbers}}}}}\n\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_something_to_send() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(Kind::ALL.iter().position(|other| other.name() == kind.name()), Some(index));
            assert_eq!(Kind::named(kind.name()), Some(*kind));
            assert!(!steps(*kind, &Options::default()).is_empty());
        }
        assert!(Kind::ALL.len() >= 20);
    }
}
