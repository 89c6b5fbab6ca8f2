//! The demo's server in a container: a target whose processes are known.
//!
//! Owns the container, the requests to the server, and that between them nothing runs that one tracer could
//! see and another not. Never looks at a report. Called by `containers.rs`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::client::request;
use crate::container::{Container, INSIDE, Namespace, Runtime, Spec, USUAL, tree};
use crate::process::{children, has_thread, living_comm, signal};
use crate::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(60);
/// Two workers are used up by them, one after the other.
pub const REQUESTS: u64 = 8;
pub const REQUESTS_A_WORKER: u64 = 4;
/// A helper for each request, and a worker in the place of each that was used up.
pub const FORKS: u64 = REQUESTS + REQUESTS / REQUESTS_A_WORKER;
/// Whoever has anything to do gets to it within that time, also on a busy machine.
const AT_REST: Duration = Duration::from_millis(100);

/// The demo's server in a container, behind a shell that waits for it.
#[derive(Debug)]
pub struct ContainedServer {
    pub container: Container,
    pub port: u16,
    /// The process that listens, as the host sees it.
    pub arbiter: u32,
}

/// In the container: the server, and a shell before it.
pub const WRAPPED: &str = r#""$0" "$@" & wait"#;
/// The same with the server in a pid namespace within.
pub const NESTED: &str = r#"unshare --pid --fork --mount-proc -- "$0" "$@" & wait"#;

impl ContainedServer {
    /// In its own pid namespace, with `more` capabilities than usual. It is at rest until it is to serve.
    ///
    /// # Panics
    /// When it does not listen within a minute.
    #[must_use]
    pub fn start(runtime: &Runtime, script: &str, network: Namespace<'_>, more: &[&str]) -> Self {
        let a_worker = REQUESTS_A_WORKER.to_string();
        let args = [
            "bash",
            "-c",
            script,
            INSIDE,
            "demo-server",
            "--workers",
            "1",
            "--max-requests",
            &a_worker,
            "--lifetime",
            "120s",
            "--first-token",
            "5ms",
            "--token-interval",
            "1ms",
        ];
        let capabilities = [&USUAL, more].concat();
        let spec = Spec { args: &args, pid: Namespace::Own, network, capabilities: &capabilities };
        let container = Container::start(runtime, spec);
        let line = container.line();
        let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it said {line:?} instead of its port"));
        let is_arbiter = |pid: &&u32| living_comm(**pid).is_some_and(|comm| comm == "demo-arbiter");
        let all = tree(container.init);
        let arbiter = *all.iter().find(is_arbiter).unwrap_or_else(|| panic!("no arbiter among {all:?}"));
        let served = Self { container, port, arbiter };
        served.stop();
        served
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// While no request is served only the arbiter runs, ten times a second: stopped, and all others at
    /// rest, no CPU time is used that one tracer could see and another not.
    fn stop(&self) {
        signal(self.arbiter, Signal::STOP);
        let all = tree(self.container.init);
        let look = || all.iter().map(|&pid| Threads::of(pid)).collect::<Vec<_>>();
        let deadline = Instant::now() + LIMIT;
        let mut before = look();
        loop {
            std::thread::sleep(AT_REST);
            let now = look();
            // On a busy machine a thread can wait for its turn for longer than that.
            if now == before && now.iter().all(|threads| threads.sleep) {
                return;
            }
            assert!(Instant::now() < deadline, "{all:?} do not come to rest: {now:?}");
            before = now;
        }
    }

    /// Sends the requests, and waits until the last worker that they used up has a successor.
    ///
    /// # Panics
    /// When one is not answered, or the successor does not come.
    pub fn serve(&self) {
        signal(self.arbiter, Signal::CONT);
        let body = json!({
            "model": "inferscope-demo", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}],
        });
        let mut used_up = BTreeSet::new();
        for index in 0..REQUESTS {
            let send = || request(self.port, "POST", "/v1/chat/completions", &body.to_string());
            let answer = self.container.in_network(send).expect("it answers");
            assert_eq!(answer.status, 200, "{answer:?}");
            if index % REQUESTS_A_WORKER == 0 {
                // It has more to answer, so that it is the only one and lives.
                used_up.extend(children(self.arbiter));
            }
        }
        wait_until(&format!("a new worker after {used_up:?}"), || {
            let now = children(self.arbiter);
            // Its second thread is the last that it starts.
            now.len() == 1 && !used_up.contains(&now[0]) && has_thread(now[0], "engine")
        });
        self.stop();
    }
}

/// A process's threads, as /proc shows them.
#[derive(Debug, PartialEq, Eq)]
struct Threads {
    /// What they have run, in nanoseconds: the first number of each schedstat.
    ran: u64,
    /// None runs or waits for its turn.
    sleep: bool,
}

impl Threads {
    fn of(pid: u32) -> Self {
        let mut threads = Self { ran: 0, sleep: true };
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = |name: &str| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            threads.ran += text("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            let stat = text("stat");
            let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
            threads.sleep &= state.starts_with(['S', 'T']);
        }
        threads
    }
}
