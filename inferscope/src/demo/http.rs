//! The part of HTTP/1.1 that the demo's server speaks: one request for each connection, a JSON response or a stream.
//!
//! Owns the bytes on the wire; knows nothing of models and tokens. Every response has `Connection: close`, so that a
//! client can't hold on to a worker that is about to be replaced, and requests spread over the workers. Called by the
//! worker.

use std::io::{self, Read, Write};

use serde_json::Value;

const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_BODY_BYTES: usize = 8 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// The path without the query.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// Why there is no request to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nobody can be answered: the connection was closed, was reset or timed out.
    Gone,
    /// The response to send: this status and message.
    Refused(u16, &'static str),
}

/// Reads one request, head and body.
pub(super) fn read(stream: &mut impl Read) -> Result<Request, Unread> {
    let mut bytes = Vec::new();
    let head_end = loop {
        // The network may have cut the blank line anywhere.
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > MAX_HEAD_BYTES {
            return Err(Unread::Refused(431, "the request's head is larger than 64 KiB"));
        }
        read_more(stream, &mut bytes)?;
    };
    let body_start = head_end + b"\r\n\r\n".len();
    let head = std::str::from_utf8(&bytes[..head_end]).map_err(|_| MALFORMED)?;
    let head = Head::parse(head)?;
    if head.body_bytes > MAX_BODY_BYTES {
        return Err(Unread::Refused(413, "the request's body is larger than 8 MiB"));
    }
    while bytes.len() < body_start + head.body_bytes {
        read_more(stream, &mut bytes)?;
    }
    let body = bytes[body_start..body_start + head.body_bytes].to_vec();
    Ok(Request { method: head.method, path: head.path, body })
}

const MALFORMED: Unread = Unread::Refused(400, "this is no HTTP/1.1 request");

struct Head {
    method: String,
    path: String,
    body_bytes: usize,
}

impl Head {
    fn parse(text: &str) -> Result<Self, Unread> {
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version)) = (first.next(), first.next(), first.next()) else {
            return Err(MALFORMED);
        };
        if !version.starts_with("HTTP/1.") {
            return Err(MALFORMED);
        }
        let mut body_bytes = 0;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
            if name.eq_ignore_ascii_case("content-length") {
                body_bytes = value.trim().parse().map_err(|_| MALFORMED)?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Unread::Refused(411, "the request's body needs a Content-Length"));
            }
        }
        let path = target.split('?').next().unwrap_or_default();
        Ok(Self { method: method.to_owned(), path: path.to_owned(), body_bytes })
    }
}

fn read_more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<(), Unread> {
    let mut buffer = [0; 8 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(Unread::Gone),
            Ok(n) => {
                bytes.extend_from_slice(&buffer[..n]);
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Unread::Gone),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Writes a whole response.
pub(super) fn answer(stream: &mut impl Write, status: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        reason(status),
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

/// Server-sent events. Each one is one chunk of the transfer and one write.
pub(super) struct Events<'a, W>(&'a mut W);

impl<'a, W: Write> Events<'a, W> {
    /// Writes the head.
    pub(super) fn begin(stream: &'a mut W) -> io::Result<Self> {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
              Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        )?;
        Ok(Self(stream))
    }

    pub(super) fn event(&mut self, data: &Value) -> io::Result<()> {
        self.chunk(&format!("data: {data}\n\n"))
    }

    /// Writes `[DONE]` and the end of the transfer.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.chunk("data: [DONE]\n\n")?;
        self.0.write_all(b"0\r\n\r\n")
    }

    fn chunk(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out what it holds, at most `step` bytes a read.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(buffer.len());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn a_request_is_the_same_however_the_network_cuts_it() {
        let wire = b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: h\r\ncontent-length: 4\r\n\r\nbody";
        for step in 1..=wire.len() {
            let request = read(&mut Dripping(wire, step)).unwrap();
            assert_eq!(request.method, "POST");
            assert_eq!(request.path, "/v1/chat/completions");
            assert_eq!(request.body, b"body");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_or_dropped() {
        let read = |wire: &[u8]| read(&mut Dripping(wire, usize::MAX)).unwrap_err();
        assert_eq!(read(b""), Unread::Gone);
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost"), Unread::Gone);
        assert_eq!(read(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort"), Unread::Gone);
        for garbage in
            ["hello\r\n\r\n", "GET /\r\n\r\n", "GET / FTP/1\r\n\r\n", "GET / HTTP/1.1\r\nnocolon\r\n\r\n"]
        {
            assert_eq!(read(garbage.as_bytes()), MALFORMED, "{garbage}");
        }
        let status = |wire: &[u8]| match read(wire) {
            Unread::Refused(status, _) => status,
            Unread::Gone => 0,
        };
        assert_eq!(status(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"), 413);
        assert_eq!(status(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 411);
        assert_eq!(status(&[b'a'; MAX_HEAD_BYTES + 1]), 431);
    }

    #[test]
    fn a_stream_is_chunked_and_ends_with_done() {
        let mut wire = Vec::new();
        let mut events = Events::begin(&mut wire).unwrap();
        events.event(&serde_json::json!({"a": 1})).unwrap();
        events.end().unwrap();
        let wire = String::from_utf8(wire).unwrap();
        let (_, body) = wire.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "f\r\ndata: {\"a\":1}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    }
}
