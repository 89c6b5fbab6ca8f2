//! Processes that a test starts, and that end with it.
//!
//! Owns their process groups. Ends what it started and nothing else, by a group number that can't have
//! become anybody else's, as its leader is not reaped before.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::found_within;

/// Whoever runs the tests with `nohup`, or in the background of a script, has them ignore signals, and what they
/// start with them.
fn heed_signals(command: &mut Command) {
    let heed = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            // SAFETY: SIG_DFL is a disposition, and signal(2) may be called between fork and exec.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure calls signal(2) alone, which may be called there.
    unsafe { command.pre_exec(heed) };
}

/// A child that leads a group; all of it is killed when this is dropped.
#[derive(Debug)]
pub struct Group {
    pub child: Child,
    stdout: Option<ChildStdout>,
}

impl Group {
    /// Starts the command with nothing to read and its output as it was set.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        heed_signals(command);
        let child =
            command.process_group(0).spawn().unwrap_or_else(|e| panic!("can't start {command:?}: {e}"));
        Self { child, stdout: None }
    }

    /// The same, its standard output to be read with [`Self::line`].
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn talking(command: &mut Command) -> Self {
        let mut group = Self::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        group.stdout = group.child.stdout.take();
        group
    }

    /// The next line of its standard output.
    ///
    /// # Panics
    /// When none comes within `limit`.
    pub fn line(&self, limit: Duration) -> String {
        let stdout = self.stdout.as_ref().expect("it was started to be listened to");
        let deadline = Instant::now() + limit;
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("it is short");
            let ready = poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&left)).expect("it is open");
            assert!(ready > 0, "no line from {} within {limit:?}", self.pid());
            // Byte by byte, as the rest is the next call's.
            let mut byte = [0];
            let read = rustix::io::read(stdout, &mut byte).expect("it is a pipe");
            assert!(read == 1, "the output of {} ended before a line did", self.pid());
            match byte {
                [b'\n'] => return String::from_utf8_lossy(&line).into_owned(),
                [byte] => line.push(byte),
            }
        }
    }

    /// Closes the reading end of its standard output.
    pub fn stop_listening(&mut self) {
        self.stdout = None;
    }

    /// Its standard input; closed when dropped.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input was piped and not yet taken")
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGINT to the child alone, as it is not yet reaped.
    ///
    /// # Panics
    /// When that fails.
    pub fn interrupt(&self) {
        kill_process(raw(self.pid()), Signal::INT).expect("the child is not reaped yet");
    }

    /// Waits for the child's end.
    ///
    /// # Panics
    /// When it takes longer than `limit`; the group is killed then.
    pub fn wait(&mut self, limit: Duration) -> std::process::ExitStatus {
        let ended = found_within(limit, || self.child.try_wait().expect("it is this process's child"));
        ended.unwrap_or_else(|| panic!("{} still runs after {limit:?}", self.pid()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Reaped: its number may be somebody else's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(raw(self.pid()), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// A server behind `bash -c 'server & wait'`, which announces itself as `listening PORT`.
#[derive(Debug)]
pub struct Wrapped {
    group: Group,
    pub port: u16,
    /// The server's own pid, the wrapper's only child.
    pub server_pid: u32,
}

impl Wrapped {
    /// # Panics
    /// When it does not listen within two minutes.
    #[must_use]
    pub fn start(program: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", r#""$0" "$@" & wait"#]).arg(program).args(args).stderr(Stdio::null());
        let group = Group::talking(&mut command);
        let line = group.line(Duration::from_secs(120));
        let port = line.strip_prefix("listening ").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it said {line:?} instead of its port"));
        let [server_pid] = children(group.pid())[..] else { panic!("a wrapper has one child") };
        Self { group, port, server_pid }
    }

    #[must_use]
    pub fn wrapper_pid(&self) -> u32 {
        self.group.pid()
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Children that the process's main thread forked.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// What the process is called, unless it is gone or a zombie.
#[must_use]
pub fn living_comm(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let running = !rest.trim_start().starts_with(['Z', 'X']);
    running.then(|| head.split_once('(').map_or("", |(_, comm)| comm).to_owned())
}

/// Whether the process has a thread of that name.
#[must_use]
pub fn has_thread(pid: u32, name: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.any(|comm| comm.trim_end() == name)
}

/// Whether the process has been sent the signal and has not taken it yet.
///
/// # Panics
/// When it is gone.
#[must_use]
pub fn is_pending(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("status has the line");
    u64::from_str_radix(mask.trim(), 16).expect("it is a mask") >> (signal.as_raw() - 1) & 1 == 1
}

/// Sends a signal to a process of the test's own making.
///
/// # Panics
/// When it is gone.
pub fn signal(pid: u32, signal: Signal) {
    kill_process(raw(pid), signal).unwrap_or_else(|e| panic!("{signal:?} to {pid}: {e}"));
}

fn raw(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a child's pid is a positive i32")
}
