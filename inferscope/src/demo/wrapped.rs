//! The demo's server behind a wrapper, `bash -c 'server & wait'`: users often name the pid of such a wrapper.
//!
//! Owns the shell, the process group of everything below it, and their end. Never looks a process up by name. Called by
//! `session` and by the tests.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{ANNOUNCEMENT, DemoError, SERVER_COMMAND};

const SHELLS: [&str; 2] = ["bash", "sh"];
/// `$0` is the server, `$@` its arguments. The shell stays because it must wait.
const SCRIPT: &str = r#""$0" "$@" & wait"#;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest announcement.
const MAX_LINE_BYTES: usize = 256;

/// A running server. It ends with this value, and with this process: the server watches the pipe of its standard
/// output, and its wrapper only waits for it.
#[derive(Debug)]
pub struct Wrapped {
    /// The shell's pid.
    pub wrapper_pid: u32,
    /// The server's port on 127.0.0.1.
    pub port: u16,
    shell: Shell,
}

impl Wrapped {
    /// Starts `exe demo-server ARGS…` under a shell, and waits until it listens or `stop` becomes readable.
    ///
    /// # Errors
    /// There is no shell, or the server announced no port within 10 s. Nothing is left running then.
    pub fn start<A: AsRef<OsStr>>(
        exe: &Path,
        args: impl IntoIterator<Item = A>,
        stop: Option<BorrowedFd<'_>>,
    ) -> Result<Self, DemoError> {
        let shell = Shell::start(exe, args)?;
        let line = shell.first_line(Instant::now() + START_TIMEOUT, stop)?;
        let port = line.strip_prefix(ANNOUNCEMENT).and_then(|port| port.parse().ok());
        let Some(port) = port else {
            return Err(DemoError::Announcement { exe: exe.to_owned(), line });
        };
        Ok(Self { wrapper_pid: shell.child.id(), port, shell })
    }

    /// Ends everything that was started and waits for the end. Does nothing the second time.
    pub fn stop(&mut self) {
        self.shell.stop();
    }
}

/// The shell, which leads its own process group.
#[derive(Debug)]
struct Shell {
    child: Child,
    /// The group's standard output; `None` once it was stopped.
    stdout: Option<ChildStdout>,
}

impl Shell {
    fn start<A: AsRef<OsStr>>(exe: &Path, args: impl IntoIterator<Item = A>) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Shell { exe: exe.to_owned(), source };
        let args: Vec<A> = args.into_iter().collect();
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for shell in SHELLS {
            let spawned = Command::new(shell)
                .args(["-c", SCRIPT])
                .arg(exe)
                .arg(SERVER_COMMAND)
                .args(&args)
                // A user's start-up file must not run here.
                .env_remove("BASH_ENV")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn();
            match spawned {
                Ok(mut child) => {
                    let stdout = child.stdout.take();
                    return Ok(Self { child, stdout });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => error = e,
                Err(e) => return Err(failed(e)),
            }
        }
        Err(failed(error))
    }

    fn first_line(&self, deadline: Instant, stop: Option<BorrowedFd<'_>>) -> Result<String, DemoError> {
        let Some(stdout) = &self.stdout else { return Err(DemoError::Ended) };
        let mut line = Vec::new();
        while line.len() < MAX_LINE_BYTES {
            match first_readable(stdout.as_fd(), stop, deadline) {
                None => return Err(DemoError::Silent { seconds: START_TIMEOUT.as_secs() }),
                Some(Readable::Stop) => return Err(DemoError::Interrupted),
                Some(Readable::Wanted) => {}
            }
            // Read single bytes: what follows the line belongs to others.
            let mut byte = [0];
            match rustix::io::read(stdout, &mut byte) {
                Ok(0) => return Err(DemoError::Ended),
                Ok(_) if byte == *b"\n" => break,
                Ok(_) => line.push(byte[0]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(DemoError::Ended),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn stop(&mut self) {
        // The server ends when nobody reads its output any more, and each parent reaps its children.
        let Some(stdout) = self.stdout.take() else { return };
        drop(stdout);
        let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if let Ok(pidfd) = pidfd_open(group, PidfdFlags::empty()) {
            first_readable(pidfd.as_fd(), None, Instant::now() + STOP_TIMEOUT);
        }
        // Kill what is left. The number of the group can't be reused before the shell is waited for.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

enum Readable {
    Wanted,
    Stop,
}

/// Which of the two is readable or at its end, before the deadline.
fn first_readable(
    wanted: BorrowedFd<'_>,
    stop: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> Option<Readable> {
    let mut fds = vec![PollFd::from_borrowed_fd(wanted, PollFlags::IN)];
    fds.extend(stop.map(|stop| PollFd::from_borrowed_fd(stop, PollFlags::IN)));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok()?;
        match poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(1..) if fds[1..].iter().any(|fd| !fd.revents().is_empty()) => return Some(Readable::Stop),
            Ok(1..) => return Some(Readable::Wanted),
            _ => return None,
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_or_says_something_else_is_an_error() {
        assert!(matches!(Wrapped::start(Path::new("/bin/false"), [""; 0], None), Err(DemoError::Ended)));
        let Err(DemoError::Announcement { line, .. }) =
            Wrapped::start(Path::new("/bin/echo"), ["hello"], None)
        else {
            panic!("an echo is no server");
        };
        assert_eq!(line, "demo-server hello");
    }

    #[test]
    fn a_stop_ends_the_wait_for_a_server_that_says_nothing() {
        let (stop, write) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&write, b"stop").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let server = dir.path().join("server");
        std::fs::write(&server, "#!/bin/sh\nexec sleep 60\n").unwrap();
        std::fs::set_permissions(&server, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let started = Instant::now();
        let stopped = Wrapped::start(&server, [""; 0], Some(stop.as_fd()));
        assert!(matches!(stopped, Err(DemoError::Interrupted)), "{stopped:?}");
        assert!(started.elapsed() < START_TIMEOUT);
    }

    #[test]
    fn stopping_leaves_nothing_of_the_group() {
        // One that does not care about its output.
        let script = "printf 'listening 7\\n'; sleep 60 & sleep 60";
        let dir = tempfile::tempdir().unwrap();
        let server = dir.path().join("server");
        std::fs::write(&server, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&server, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut wrapped = Wrapped::start(&server, [""; 0], None).unwrap();
        assert_eq!(wrapped.port, 7);
        let group = wrapped.wrapper_pid;
        assert!(running_of(group) >= 2);
        wrapped.stop();
        // A killed process is on its way out, not gone, when kill(2) returns.
        let limit = Instant::now() + std::time::Duration::from_secs(5);
        while running_of(group) > 0 && Instant::now() < limit {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(running_of(group), 0);
    }

    /// Processes of a group that still run; who adopted the dead may take its time to reap them.
    fn running_of(group: u32) -> usize {
        let stats = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        // pid (comm) state ppid pgrp …
        let running = |stat: &String| {
            let (_, rest) = stat.rsplit_once(')').unwrap();
            let mut fields = rest.split_whitespace();
            let state = fields.next().unwrap();
            !matches!(state, "Z" | "X") && fields.nth(1).unwrap() == group.to_string()
        };
        stats.filter(running).count()
    }
}
