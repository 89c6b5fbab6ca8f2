//! A worker: answers one request after another on the inherited listener, then makes room for another worker.
//!
//! Owns one process with two threads: this one speaks HTTP and runs the helper, the engine makes tokens at their times.
//! Never forks a process that stays. The arbiter calls it in the forked child; `main` calls [`helper`] as `inferscope
//! demo-helper`.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use super::chat::{self, ApiError, Ask, ChatCompletion};
use super::{HELPER_COMMAND, http, work};
use crate::console;

/// The memory that a worker has for itself.
const PRIVATE_BYTES: usize = 16 << 20;
/// Most CPU time for each token; never more than half of the interval.
const TOKEN_CPU: Duration = Duration::from_millis(1);

const HELPER_BYTES: usize = 32 << 20;
const HELPER_CPU: Duration = Duration::from_millis(5);
/// The name of the helper's thread.
const HELPER_NAME: &str = "tokenize-helper";

/// Time limit for a client that neither sends nor reads.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Settings {
    /// The program that runs as the helper.
    pub(super) executable: PathBuf,
    /// Requests until the worker is replaced; 0: no limit.
    pub(super) max_requests: u32,
    pub(super) first_token: Duration,
    pub(super) token_interval: Duration,
}

/// Serves until the worker must be replaced. Returns the exit code of the process.
pub(super) fn run(listener: &TcpListener, settings: &Settings, model: &[u8], arbiter: Pid) -> i32 {
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        console::say(&format!("demo worker: can't tie itself to the arbiter: {e}"));
        return 1;
    }
    // The arbiter may have died before that.
    if getppid() != Some(arbiter) {
        return 1;
    }
    work::name_thread(c"demo-worker");
    std::hint::black_box(model);
    let private = work::touched(PRIVATE_BYTES);
    let (jobs, engine_jobs) = channel();
    if let Err(e) = thread::Builder::new().name("engine".into()).spawn(move || engine(&engine_jobs)) {
        console::say(&format!("demo worker: can't start its engine: {e}"));
        return 1;
    }
    let mut server = Server { settings, jobs, answered: 0 };
    while settings.max_requests == 0 || server.answered < settings.max_requests {
        match listener.accept() {
            Ok((stream, _)) => server.connection(stream),
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(e) => {
                console::say(&format!("demo worker: can't accept: {e}"));
                return 1;
            }
        }
    }
    drop(std::hint::black_box(private));
    0
}

/// The simulated tokenizer: a process of its own, large and short-lived.
pub fn helper() {
    work::name_thread(c"tokenize-helper");
    let memory = work::touched(HELPER_BYTES);
    work::burn(HELPER_CPU);
    drop(std::hint::black_box(memory));
}

fn run_helper(executable: &Path) -> io::Result<ExitStatus> {
    Command::new(executable).arg0(HELPER_NAME).arg(HELPER_COMMAND).stdin(Stdio::null()).status()
}

/// Tokens to make, and their destination.
struct Job {
    first: Instant,
    interval: Duration,
    tokens: u32,
    made: Sender<u32>,
}

/// Makes each token at its own time, counted from the first one, so that one late token delays no other.
fn engine(jobs: &Receiver<Job>) {
    for job in jobs {
        for index in 0..job.tokens {
            work::burn(TOKEN_CPU.min(job.interval / 2));
            let due = job.first + job.interval * index;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if job.made.send(index).is_err() {
                // The client is gone.
                break;
            }
        }
    }
}

struct Server<'a> {
    settings: &'a Settings,
    jobs: Sender<Job>,
    answered: u32,
}

impl Server<'_> {
    fn connection(&mut self, mut stream: TcpStream) {
        // A client that breaks its own connection is no failure of the worker.
        let _ = self.exchange(&mut stream);
    }

    fn exchange(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        let request = match http::read(stream) {
            Ok(request) => request,
            Err(http::Unread::Gone) => return Ok(()),
            Err(http::Unread::Refused(status, why)) => {
                return http::answer(stream, status, &ApiError::new(status, why).body());
            }
        };
        let arrived = Instant::now();
        self.answered += 1;
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health") => http::answer(stream, 200, &serde_json::json!({})),
            ("GET", "/v1/models") => http::answer(stream, 200, &chat::models()),
            ("POST", "/v1/chat/completions") => match self.prepare(&request.body) {
                Ok(ask) => self.complete(stream, &ask, arrived),
                Err(error) => http::answer(stream, error.status, &error.body()),
            },
            (method, path) => {
                let error = ApiError::new(404, format!("there is no {method} {path}"));
                http::answer(stream, error.status, &error.body())
            }
        }
    }

    /// Parses the request and runs the helper on it.
    fn prepare(&self, body: &[u8]) -> Result<Ask, ApiError> {
        let ask = Ask::parse(body)?;
        let failed = |why: String| ApiError::new(500, format!("the tokenizer's process failed: {why}"));
        match run_helper(&self.settings.executable) {
            Ok(status) if status.success() => Ok(ask),
            Ok(status) => Err(failed(status.to_string())),
            Err(e) => Err(failed(e.to_string())),
        }
    }

    fn complete(&self, stream: &mut TcpStream, ask: &Ask, arrived: Instant) -> io::Result<()> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let id = format!("chatcmpl-{}-{}", getpid().as_raw_nonzero(), self.answered);
        let answer = ChatCompletion::new(ask, id, created);
        let tokens = self.start(ask, arrived)?;
        if !ask.stream {
            tokens.iter().for_each(drop);
            return http::answer(stream, 200, &answer.whole());
        }
        let mut events = http::Events::begin(stream)?;
        events.event(&answer.role())?;
        for index in tokens {
            events.event(&answer.token(index))?;
        }
        events.event(&answer.finish())?;
        if ask.include_usage {
            events.event(&answer.usage())?;
        }
        events.end()
    }

    fn start(&self, ask: &Ask, arrived: Instant) -> io::Result<Receiver<u32>> {
        let (made, tokens) = channel();
        let job = Job {
            // If the helper took longer, the tokens still keep their distance.
            first: (arrived + self.settings.first_token).max(Instant::now()),
            interval: self.settings.token_interval,
            tokens: ask.tokens,
            made,
        };
        self.jobs.send(job).map_err(|_| io::Error::other("the engine is gone"))?;
        Ok(tokens)
    }
}
