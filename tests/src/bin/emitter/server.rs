//! The loop: sockets, due times and slots.
//!
//! Owns the connections and the order of events on them. Decides neither what is written when (`schedule`) nor
//! how it looks (`chunks`). Called by `main`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use inferscope_tests::clock::monotonic_ns;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustls::ServerConfig;

use crate::chunks::{self, Counted};
use crate::log::{Entry, Written};
use crate::options::{Options, Usage};
use crate::request::{self, Api, Ask, Request};
use crate::schedule::{self, Script, Step, What, nanos};
use crate::socket;
use crate::tls::{self, Session};

const LISTENER: u64 = u64::MAX;
const SIGNALS: u64 = u64::MAX - 1;
/// Beyond the largest request of one read.
const READ_BYTES: usize = 64 << 10;
/// Connections of a burst that wait to be accepted.
const BACKLOG: i32 = 4096;

pub(crate) struct Server {
    options: Options,
    tls: Option<Arc<ServerConfig>>,
    listener: TcpListener,
    /// Open for as long as it is watched.
    _signals: OwnedFd,
    epoll: OwnedFd,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    due: BinaryHeap<Reverse<Due>>,
    /// Answers under way, and those that wait for a slot (descriptor and number of the answer).
    answering: usize,
    queue: VecDeque<(usize, usize)>,
    log: Vec<Entry>,
    /// Which answer a request gets: one that is sent again gets the same again.
    turns: HashMap<String, u64>,
    turn: u64,
    buffer: Vec<u8>,
}

/// When the answer with that number, on that descriptor, goes on. A descriptor may be another's by then.
type Due = (u64, usize, usize);

struct Connection {
    fd: OwnedFd,
    tls: Option<Session>,
    inbox: Vec<u8>,
    arrived_ns: u64,
    read_ns: u64,
    /// What the socket did not take yet; nothing is due while there is any.
    unsent: Vec<u8>,
    answer: Option<Answer>,
}

struct Answer {
    /// Its place in the log.
    number: usize,
    ask: Ask,
    script: Script,
    next: usize,
    completion: u32,
    last: bool,
    /// Its next step is among what is due.
    waits: bool,
    /// `None`: it waits for a slot.
    from_ns: Option<u64>,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    Open,
    Closed,
}

impl Server {
    pub(crate) fn bind(options: Options) -> io::Result<Self> {
        let tls = options.tls.as_deref().map(tls::config).transpose()?;
        // A connection each for a thousand streams.
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let most = rustix::process::Rlimit { current: limits.maximum, ..limits };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, most)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        socket::ask_for_times(listener.as_fd())?;
        let signals = socket::ending_signals()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let readable = epoll::EventFlags::IN;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), readable)?;
        epoll::add(&epoll, &signals, epoll::EventData::new_u64(SIGNALS), readable)?;
        Ok(Self {
            options,
            tls,
            listener,
            _signals: signals,
            epoll,
            connections: Vec::new(),
            due: BinaryHeap::new(),
            answering: 0,
            queue: VecDeque::new(),
            log: Vec::new(),
            turns: HashMap::new(),
            turn: 0,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// # Panics
    /// Never: it is bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("the listener is bound")
    }

    /// Serves until a signal or the end of its lifetime; gives the log.
    pub(crate) fn run(&mut self) -> io::Result<&[Entry]> {
        let ends_ns = monotonic_ns() + nanos(self.options.lifetime);
        let mut events = Vec::with_capacity(1024);
        loop {
            let now = monotonic_ns();
            if now >= ends_ns {
                return Ok(&self.log);
            }
            while let Some(&Reverse((due_ns, fd, number))) = self.due.peek() {
                if due_ns > now {
                    break;
                }
                self.due.pop();
                self.is_due(fd, number);
            }
            let next_ns = self.due.peek().map_or(ends_ns, |Reverse((due_ns, ..))| ends_ns.min(*due_ns));
            let left_ns = next_ns.saturating_sub(monotonic_ns());
            let timeout = Timespec {
                tv_sec: (left_ns / 1_000_000_000) as i64,
                tv_nsec: (left_ns % 1_000_000_000) as i64,
            };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    SIGNALS => return Ok(&self.log),
                    fd => self.ready(fd as usize, event.flags),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let fd = match rustix::net::accept_with(
                &self.listener,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            ) {
                Ok(fd) => fd,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
            let index = index(fd.as_fd());
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&self.epoll, &fd, data, epoll::EventFlags::IN)?;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            let tls = self.tls.as_ref().map(Session::new).transpose()?;
            let connection = Connection {
                fd,
                tls,
                inbox: Vec::new(),
                arrived_ns: 0,
                read_ns: 0,
                unsent: Vec::new(),
                answer: None,
            };
            self.connections[index] = Some(connection);
            // What came with the connection is told by the next wait.
        }
    }

    fn ready(&mut self, fd: usize, flags: epoll::EventFlags) {
        let Some(connection) = self.connections.get_mut(fd).and_then(Option::as_mut) else { return };
        if flags.contains(epoll::EventFlags::OUT) {
            match connection.send_unsent(&self.epoll) {
                Now::Open => self.go_on(fd),
                Now::Closed => return self.close(fd),
            }
        }
        if !flags.contains(epoll::EventFlags::OUT) || flags != epoll::EventFlags::OUT {
            self.read(fd);
        }
    }

    fn read(&mut self, fd: usize) {
        let Some(connection) = self.connections.get_mut(fd).and_then(Option::as_mut) else { return };
        match socket::receive(connection.fd.as_fd(), &mut self.buffer) {
            Ok(received) if received.bytes > 0 => {
                let Connection { tls, inbox, .. } = connection;
                let bytes = &self.buffer[..received.bytes];
                let answer = match tls {
                    None => {
                        inbox.extend_from_slice(bytes);
                        Vec::new()
                    }
                    Some(session) => match session.receive(bytes, inbox) {
                        Ok(answer) => answer,
                        // A client that does not want the certificate.
                        Err(_) => return self.close(fd),
                    },
                };
                if !answer.is_empty() && connection.send_raw(&self.epoll, &answer) == Now::Closed {
                    return self.close(fd);
                }
                connection.read_ns = received.read_ns;
                connection.arrived_ns = received.arrived_ns.unwrap_or(received.read_ns);
                self.next_request(fd);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Ok(_) | Err(_) => self.close(fd),
        }
    }

    /// Takes up the requests that are there; while one is answered, the next one waits.
    fn next_request(&mut self, fd: usize) {
        while let Some(connection) = self.connections.get_mut(fd).and_then(Option::as_mut) {
            if connection.answer.is_some() {
                return;
            }
            match request::take(&mut connection.inbox) {
                Ok(Some(request)) => self.answer(fd, request),
                Ok(None) => return,
                Err(why) => {
                    eprintln!("emitter: {why}");
                    return self.close(fd);
                }
            }
        }
    }

    fn answer(&mut self, fd: usize, request: Request) {
        let whole = match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/chat/completions") => return self.complete(fd, Api::Chat, request),
            ("POST", "/v1/completions") => return self.complete(fd, Api::Completions, request),
            ("GET", "/v1/models") => chunks::response("200 OK", &chunks::models()),
            ("GET", "/health") => chunks::response("200 OK", &serde_json::json!({})),
            // Where the redirect loop goes round.
            (_, path) if path.starts_with("/loop/") => {
                format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {path}\r\nContent-Length: 0\r\n\r\n")
                    .into_bytes()
            }
            _ => {
                let error = serde_json::json!({"error": {"message": "no such path"}});
                chunks::response("404 Not Found", &error)
            }
        };
        let Some(connection) = self.connections.get_mut(fd).and_then(Option::as_mut) else { return };
        if connection.send(&self.epoll, &whole) == Now::Closed || request.last {
            self.close(fd);
        }
    }

    fn complete(&mut self, fd: usize, api: Api, request: Request) {
        let Some(connection) = self.connections.get_mut(fd).and_then(Option::as_mut) else { return };
        let ask = Ask::of(api, &request.body);
        let number = self.log.len();
        let next = self.turn;
        let turn = request.id.clone().map_or(next, |id| *self.turns.entry(id).or_insert(next));
        self.turn += u64::from(turn == next);
        let script = schedule::script(&self.options, ask, turn);
        self.log.push(Entry {
            id: request.id,
            arrived_ns: connection.arrived_ns,
            read_ns: connection.read_ns,
            prompt_bytes: ask.prompt_bytes,
            writes: Vec::with_capacity(script.steps.len()),
            outcome: None,
        });
        let arrived_ns = connection.arrived_ns;
        let answer = Answer {
            number,
            ask,
            script,
            next: 0,
            completion: 0,
            last: request.last,
            waits: false,
            from_ns: None,
        };
        connection.answer = Some(answer);
        if self.options.slots.is_some_and(|slots| self.answering >= slots) {
            self.queue.push_back((fd, number));
        } else {
            self.begin(fd, arrived_ns);
        }
    }

    fn begin(&mut self, fd: usize, from_ns: u64) {
        let connection = self.connections.get_mut(fd).and_then(Option::as_mut);
        if let Some(answer) = connection.and_then(|connection| connection.answer.as_mut()) {
            answer.from_ns = Some(from_ns);
            self.answering += 1;
            self.go_on(fd);
        }
    }

    fn is_due(&mut self, fd: usize, number: usize) {
        let connection = self.connections.get_mut(fd).and_then(Option::as_mut);
        let answer = connection.and_then(|connection| connection.answer.as_mut());
        if let Some(answer) = answer.filter(|answer| answer.number == number) {
            answer.waits = false;
            self.go_on(fd);
        }
    }

    /// Plays what is due of the answer under way.
    fn go_on(&mut self, fd: usize) {
        loop {
            let Some(connection) = self.connections.get_mut(fd).and_then(Option::as_mut) else { return };
            let Some(answer) = &mut connection.answer else { return };
            let Some(from_ns) = answer.from_ns else { return };
            if answer.waits || !connection.unsent.is_empty() {
                return;
            }
            let Some(step) = answer.script.steps.get(answer.next) else { return self.finish(fd) };
            let due_ns = from_ns + step.at_ns;
            if due_ns > monotonic_ns() {
                answer.waits = true;
                self.due.push(Reverse((due_ns, fd, answer.number)));
                return;
            }
            let step = step.clone();
            match connection.play(step, due_ns, &self.options, &mut self.log, &self.epoll) {
                Some(Now::Open) => {}
                Some(Now::Closed) => return self.close(fd),
                None => return,
            }
        }
    }

    /// The answer was written to its end.
    fn finish(&mut self, fd: usize) {
        let Some(connection) = self.connections.get_mut(fd).and_then(Option::as_mut) else { return };
        let Some(answer) = connection.answer.take() else { return };
        self.log[answer.number].outcome = Some(answer.script.outcome);
        if answer.last {
            self.connections[fd] = None;
        }
        self.free_slot();
        self.next_request(fd);
    }

    /// Closes the connection; the answer that was under way on it, if any, got that far.
    fn close(&mut self, fd: usize) {
        let Some(connection) = self.connections.get_mut(fd).and_then(Option::take) else { return };
        let Some(answer) = connection.answer else { return };
        let is_its_end = answer.script.is_garbage || answer.next >= answer.script.steps.len();
        let outcome = if is_its_end { answer.script.outcome } else { "client_closed".to_owned() };
        self.log[answer.number].outcome = Some(outcome);
        match answer.from_ns {
            Some(_) => self.free_slot(),
            None => self.queue.retain(|waiting| *waiting != (fd, answer.number)),
        }
    }

    fn free_slot(&mut self) {
        self.answering -= 1;
        if let Some((fd, _)) = self.queue.pop_front() {
            self.begin(fd, monotonic_ns());
        }
    }
}

impl Connection {
    /// Plays one step. `None`: nothing more is to be done until a due time or the client.
    fn play(
        &mut self,
        step: Step,
        due_ns: u64,
        options: &Options,
        log: &mut [Entry],
        epoll: &OwnedFd,
    ) -> Option<Now> {
        let answer = self.answer.as_mut()?;
        answer.next += 1;
        let api = answer.ask.api;
        let mut written = None;
        if let What::Tokens { n: tokens, reasoning } = step.what {
            answer.completion += tokens;
            written = Some((tokens, reasoning));
        } else if let What::Document { tokens } = step.what {
            answer.completion += tokens;
            written = Some((tokens, false));
        }
        let counted = Counted { prompt: answer.ask.prompt_bytes.div_ceil(4), completion: answer.completion };
        let bytes = match step.what {
            What::StreamHead => chunks::STREAM_HEAD.to_vec(),
            What::Role => chunks::role(api),
            What::Tokens { n, reasoning } => {
                chunks::tokens(api, n, reasoning, (options.usage == Usage::Continuous).then_some(counted))
            }
            What::Finish => chunks::finish(api),
            What::Usage => chunks::usage(api, counted),
            What::Done => chunks::done(),
            What::Error => chunks::error(),
            What::LastChunk => chunks::LAST_CHUNK.to_vec(),
            What::Document { .. } => chunks::response("200 OK", &chunks::document(api, counted)),
            What::Raw(bytes) => bytes,
            What::Forever { bytes, every_ns } => {
                // Due again, in the place of the step that it was.
                answer.next -= 1;
                answer.script.steps[answer.next].at_ns += every_ns;
                bytes
            }
            What::Hang => {
                answer.next -= 1;
                return None;
            }
            What::Close => return Some(Now::Closed),
            What::Reset => {
                // Where it fails the connection ends all the same.
                let _ = socket::reset_on_close(self.fd.as_fd());
                return Some(Now::Closed);
            }
        };
        if let Some((tokens, reasoning)) = written {
            let writes = &mut log[answer.number].writes;
            let at_ns = monotonic_ns();
            writes.push(Written { at_ns, after_ns: at_ns, due_ns, tokens, reasoning });
            let now = self.send(epoll, &bytes);
            if let Some(written) = writes.last_mut() {
                written.after_ns = monotonic_ns();
            }
            return Some(now);
        }
        Some(self.send(epoll, &bytes))
    }

    fn send(&mut self, epoll: &OwnedFd, bytes: &[u8]) -> Now {
        match self.tls.as_mut().map(|session| session.send(bytes)) {
            None => self.send_raw(epoll, bytes),
            Some(Ok(records)) => self.send_raw(epoll, &records),
            Some(Err(_)) => Now::Closed,
        }
    }

    fn send_raw(&mut self, epoll: &OwnedFd, bytes: &[u8]) -> Now {
        let sent = if self.unsent.is_empty() { write(&self.fd, bytes) } else { Some(0) };
        let Some(sent) = sent else { return Now::Closed };
        if sent < bytes.len() {
            self.unsent.extend_from_slice(&bytes[sent..]);
            self.watch(epoll, epoll::EventFlags::IN | epoll::EventFlags::OUT);
        }
        Now::Open
    }

    fn send_unsent(&mut self, epoll: &OwnedFd) -> Now {
        let Some(sent) = write(&self.fd, &self.unsent) else { return Now::Closed };
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.watch(epoll, epoll::EventFlags::IN);
        }
        Now::Open
    }

    fn watch(&self, epoll: &OwnedFd, flags: epoll::EventFlags) {
        let data = epoll::EventData::new_u64(index(self.fd.as_fd()) as u64);
        epoll::modify(epoll, &self.fd, data, flags).expect("it was added when it was accepted");
    }
}

/// How much the socket took; `None`: the client is gone.
fn write(fd: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    match rustix::io::write(fd, bytes) {
        Ok(sent) => Some(sent),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}

fn index(fd: BorrowedFd<'_>) -> usize {
    usize::try_from(fd.as_raw_fd()).expect("a descriptor is not negative")
}
