//! The in-process server: a loopback listener whose every connection gets a thread of its own.
//!
//! Owns the listener, the threads and the connections, all of which end with it, and the reading of requests. What is
//! answered is its caller's: a script (`timed_server`), or any bytes. For a truth that this process's own threads must
//! not disturb there is the emitter, a process of its own. Called by `timed_server` and by tests whose server answers
//! what no server should.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Nothing that a client or a test forgot keeps a thread for longer.
const LIMIT: Duration = Duration::from_secs(60);
/// Of a thread; there may be a thousand.
const STACK_BYTES: usize = 256 << 10;

/// Ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    open: Arc<Mutex<Open>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Open {
    ending: bool,
    /// To be shut at the end, so that no thread stays in a read.
    streams: Vec<Weak<TcpStream>>,
}

/// A client's connection, without Nagle's delay.
#[derive(Debug)]
pub struct Connection {
    stream: Arc<TcpStream>,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// The lines of its head, the first one too.
    pub head: Vec<String>,
    pub body: Vec<u8>,
}

impl Server {
    /// `answer` is called for each connection, on a thread of its own; the connection is closed when it returns.
    ///
    /// # Panics
    /// When loopback can't be listened on.
    #[must_use]
    pub fn start(answer: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::new(Mutex::new(Open::default()));
        let acceptor = std::thread::spawn({
            let open = Arc::clone(&open);
            move || accept(&listener, &open, &answer)
        });
        Self { address, open, acceptor: Some(acceptor) }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        {
            // A thread that panicked has failed the test already.
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.ending = true;
            for stream in open.streams.iter().filter_map(Weak::upgrade) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    open: &Mutex<Open>,
    answer: &(impl Fn(&mut Connection) -> io::Result<()> + Sync),
) {
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            let Ok(stream) = stream.map(Arc::new) else { break };
            {
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                if open.ending {
                    break;
                }
                open.streams.push(Arc::downgrade(&stream));
            }
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let started = thread.spawn_scoped(scope, move || {
                let mut connection = Connection { stream, unread: Vec::new() };
                // A client may go away at any time.
                let _ = connection.limit().and_then(|()| answer(&mut connection));
            });
            drop(started.expect("a thread a connection"));
        }
    });
}

impl Connection {
    fn limit(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(LIMIT))?;
        self.stream.set_write_timeout(Some(LIMIT))
    }

    /// The next request; `None` when the client is done.
    ///
    /// # Errors
    /// The connection broke, or there is no HTTP on it.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_more()? {
                return Ok(None);
            }
        };
        let head = String::from_utf8(self.unread[..head_end].to_vec()).map_err(|_| malformed())?;
        let head: Vec<String> = head.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let mut words = head.first().ok_or_else(malformed)?.split(' ').map(str::to_owned);
        let (method, path) = words.next().zip(words.next()).ok_or_else(malformed)?;
        let mut request = Request { method, path, head, body: Vec::new() };
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.unread.len() < head_end + length {
            if !self.read_more()? {
                return Err(malformed());
            }
        }
        request.body = self.unread[head_end..head_end + length].to_vec();
        self.unread.drain(..head_end + length);
        Ok(Some(request))
    }

    fn read_more(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 8 << 10];
        let n = (&*self.stream).read(&mut buffer)?;
        self.unread.extend_from_slice(&buffer[..n]);
        Ok(n > 0)
    }

    /// As one write(2), where the socket's buffer takes it at once.
    ///
    /// # Errors
    /// The client is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    /// An answer of that length.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn respond(&mut self, status: u16, content_type: &str, body: &[u8]) -> io::Result<()> {
        self.send(&answer(status, content_type, "keep-alive", body))
    }

    /// The same, and the connection ends with it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn respond_and_close(&mut self, status: u16, content_type: &str, body: &[u8]) -> io::Result<()> {
        self.send(&answer(status, content_type, "close", body))?;
        self.finish()
    }

    /// Says that no more comes, and waits until the client has read all: an early close would be a reset.
    ///
    /// # Errors
    /// The connection broke.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.wait_for_end()
    }

    /// Reads until the client has had enough.
    ///
    /// # Errors
    /// The connection broke.
    pub fn wait_for_end(&mut self) -> io::Result<()> {
        while self.read_more()? {
            self.unread.clear();
        }
        Ok(())
    }

    /// Closes it in the middle of an answer.
    ///
    /// # Errors
    /// Always, so that nothing more is sent.
    pub fn break_off(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Both)?;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

fn answer(status: u16, content_type: &str, connection: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl Request {
    #[must_use]
    pub fn header(&self, wanted: &str) -> Option<&str> {
        let mut headers = self.head.iter().filter_map(|line| line.split_once(':'));
        headers.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim()))
    }

    /// The client wants the connection closed after the answer.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client;

    #[test]
    fn requests_are_answered_until_the_server_ends() {
        let server = Server::start(|connection| {
            while let Some(request) = connection.request()? {
                let said = format!("{} {} {}", request.method, request.path, request.body.len());
                connection.respond(200, "text/plain", said.as_bytes())?;
                if request.is_last() {
                    break;
                }
            }
            Ok(())
        });
        let port = server.port();
        assert_eq!(client::request(port, "POST", "/x", "abc").unwrap().body, "POST /x 3");
        // One that is kept open does not keep the server.
        let kept = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(server);
        assert!(client::request(port, "GET", "/", "").is_err());
        drop(kept);
    }
}
