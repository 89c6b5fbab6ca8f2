//! A real gunicorn with uvicorn workers whose every request spawns a helper, and the list of them all.
//!
//! Owns the server, its cgroup, the load on it and what the app told of its processes. Never looks at what an
//! observer makes of it. Called by the gunicorn test and bench.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::client;
use crate::process::{Group, children};

pub const WORKERS: usize = 4;
const LIFETIME_S: u32 = 180;
const START_LIMIT: Duration = Duration::from_secs(60);
const CLIENTS: u32 = 4;
/// A worker that is being recycled looks every 100 ms whether it should end; nothing moves for this long only
/// when it is over.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Gunicorn {
    // Dropped in this order: a cgroup can be removed only when it is empty.
    group: Group,
    pub cgroup: Cgroup,
    dir: TempDir,
    port: u16,
}

/// What the app told of its processes, and the kernel of the arbiter's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    /// Of all generations, in the order of their start.
    pub workers: Vec<u32>,
    pub helpers: Vec<u32>,
    pub alive: BTreeSet<u32>,
}

impl Gunicorn {
    /// Returns once all workers are there.
    ///
    /// # Panics
    /// When they don't come up.
    #[must_use]
    pub fn start(python: &Path, cgroup: Cgroup, helper: &str) -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("py/gunicorn_server.py");
        let mut command = Command::new(python);
        command
            .arg(server)
            .arg(LIFETIME_S.to_string())
            .args(cgroup.procs_files())
            .env("APP_LOG", dir.path().join("log"))
            .env("APP_HELPER", helper)
            .stderr(Stdio::inherit());
        let group = Group::talking(&mut command);
        let line = group.line(START_LIMIT);
        let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it said {line:?} instead of its port"));
        let gunicorn = Self { group, cgroup, dir, port };
        assert_eq!(gunicorn.settled().alive.len(), WORKERS);
        gunicorn
    }

    #[must_use]
    pub fn arbiter(&self) -> u32 {
        self.group.pid()
    }

    /// Sends that many requests, several at once.
    ///
    /// # Panics
    /// When one of them finds no worker in several attempts: one that a worker took and dropped because it was
    /// about to be recycled is sent again.
    pub fn load(&self, requests: u32) {
        let sent = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while sent.fetch_add(1, Ordering::Relaxed) < requests {
                        let answered = (0..5).find_map(|_| client::request(self.port, "GET", "/", "").ok());
                        let answered = answered.expect("one of the workers answers");
                        assert_eq!(answered.status, 200, "{answered:?}");
                    }
                });
            }
        });
    }

    /// What the app told, once no worker comes or goes any more.
    ///
    /// # Panics
    /// When that takes longer than a minute.
    #[must_use]
    pub fn settled(&self) -> Truth {
        let deadline = Instant::now() + START_LIMIT;
        let (mut last, mut since) = (self.truth(), Instant::now());
        while since.elapsed() < QUIET || !last.is_whole() {
            assert!(Instant::now() < deadline, "gunicorn does not settle: {last:?}");
            std::thread::sleep(Duration::from_millis(20));
            let now = self.truth();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    /// As it is now.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let pids = |kind| {
            let lines = log.lines().filter_map(move |line| line.strip_prefix(kind));
            lines.map(|pid| pid.parse().expect("the app writes whole lines")).collect()
        };
        Truth {
            workers: pids("worker "),
            helpers: pids("helper "),
            alive: children(self.arbiter()).into_iter().collect(),
        }
    }
}

impl Truth {
    /// Every place has its worker, and each of them has started.
    fn is_whole(&self) -> bool {
        self.alive.len() == WORKERS && self.alive.iter().all(|pid| self.workers.contains(pid))
    }

    /// Forks since `before`, when the same number of workers lived as now: so many processes ended, too.
    #[must_use]
    pub fn forks_since(&self, before: &Self) -> usize {
        self.workers.len() + self.helpers.len() - before.workers.len() - before.helpers.len()
    }
}
