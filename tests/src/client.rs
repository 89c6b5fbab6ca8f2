//! The simplest HTTP client that will do, for looking at a server without inferscope.
//!
//! Owns one request a connection, read to its end. Never times anything.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    /// As it came: a chunked body is still in chunks.
    pub body: String,
}

impl Answered {
    /// # Panics
    /// When the body is no JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON: {e}: {self:?}"))
    }

    /// The data of a stream's events, the end mark left out.
    ///
    /// # Panics
    /// When one of them is no JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = data.filter(|data| *data != "[DONE]");
        events.map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"))).collect()
    }
}

/// Sends one request to a loopback port.
///
/// # Errors
/// There is no connection, or no HTTP on it.
pub fn request(port: u16, method: &str, path: &str, body: &str) -> io::Result<Answered> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(malformed)?;
    Ok(Answered { status, body: body.to_owned() })
}
