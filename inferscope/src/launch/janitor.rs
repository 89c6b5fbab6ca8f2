//! The janitor: the process between inferscope and the command, which cleans up whatever happens to inferscope.
//!
//! Owns the command's process (it is its parent), its cgroup, and the end of both. The socket reports the end of
//! inferscope, also after a SIGKILL; the janitor then ends the command. It runs in a session of its own, so no terminal
//! reaches it, and holds nothing open but the socket. It is no member of the process set, so no figure includes it.
//! Forked by `launch` before inferscope has a second thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};

use super::cgroup_dirs;
use super::command_cgroup::CommandCgroup;
use super::exec_gate::{self, Program};
use super::janitor_protocol::{JanitorChannel, JanitorReply, JanitorRequest};
use super::members::CommandMembers;
use super::shutdown::{Action, CommandState, Shutdown};
use crate::clock::Mono;
use crate::privilege::{self, ThreadRole};
use crate::signals::{SignalFd, default_action};
use crate::units::Nanos;

/// Interval of the looks at the members while they are being ended.
const TICK: Duration = Duration::from_millis(20);

pub(super) struct Order {
    pub(super) program: Program,
    /// The grace period between SIGTERM and SIGKILL.
    pub(super) grace: Nanos,
    /// inferscope's pid, which the cgroup is named after.
    pub(super) pid: u32,
}

/// Works until inferscope releases it or ends. All signals must be blocked, and the process must have one thread.
pub(super) fn run(channel: JanitorChannel, order: Order) {
    let failed = |channel: &JanitorChannel, what: &str, e: io::Error| {
        let errno = e.raw_os_error().unwrap_or(libc::EIO);
        // inferscope may be gone.
        let _ = channel.send(&JanitorReply::NotForked { what: what.to_owned(), errno });
    };
    let _ = rustix::thread::set_name(c"exec-janitor");
    let grace = order.grace;
    let (mut cgroup, mut why) = enclose(order.pid);
    let (command, gate, failure) = match fork(&channel, order.program) {
        Ok(forked) => forked,
        Err((what, e)) => {
            cgroup.remove();
            return failed(&channel, what, e);
        }
    };
    if why.is_none() {
        why = cgroup.join(pid_number(command));
    }
    let members = match &cgroup.placed {
        Some(placed) => CommandMembers::Cgroup { dir: placed.dir.clone().into(), name: placed.name.clone() },
        None => CommandMembers::Tree { root: pid_number(getpid()) },
    };
    // Without a cgroup, orphans must be reparented to the janitor to be found. If inferscope is the first process of a
    // container, they would go to inferscope, which waits for nobody.
    if cgroup.placed.is_none() || rustix::process::getppid() == Pid::from_raw(1) {
        let _ = rustix::process::set_child_subreaper(Some(getpid()));
    }
    let ended = match withdraw(&[channel.as_raw_fd(), gate.as_raw_fd(), failure.as_raw_fd()]) {
        Ok(ended) => ended,
        Err(e) => {
            drop(gate);
            let _ = wait(WaitOptions::empty());
            cgroup.remove();
            return failed(&channel, "its janitor can't be set up", e);
        }
    };
    let placed = cgroup.placed.clone().ok_or_else(|| why.unwrap_or_default());
    // The command is a process of its own by now and keeps its caller's privileges.
    let left = privilege::give_up(ThreadRole::Janitor);
    let _ = channel.send(&JanitorReply::Ready { pid: pid_number(command), cgroup: placed, left });
    let janitor = Janitor {
        channel,
        child_ended: ended,
        command,
        state: State::Gated { gate, failure },
        members,
        cgroup,
        grace,
        shutdown: None,
        alone: false,
    };
    janitor.work();
}

/// Creates the cgroup, named after inferscope.
fn enclose(pid: u32) -> (CommandCgroup, Option<String>) {
    match (std::fs::read("/proc/self/mountinfo"), std::fs::read("/proc/self/cgroup")) {
        (Ok(mounts), Ok(own)) => {
            let parents =
                cgroup_dirs::find(&String::from_utf8_lossy(&mounts), &String::from_utf8_lossy(&own));
            CommandCgroup::make(&parents, pid)
        }
        (Err(e), _) | (_, Err(e)) => {
            (CommandCgroup::default(), Some(format!("/proc/self can't be read: {e}")))
        }
    }
}

type Forked = (Pid, OwnedFd, OwnedFd);

fn fork(channel: &JanitorChannel, program: Program) -> Result<Forked, (&'static str, io::Error)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| ("there is no pipe for it", e.into()));
    let (gate_read, gate) = pipe()?;
    let (failure, failure_write) = pipe()?;
    // SAFETY: this process has a single thread (checked by `launch`), so no lock can be held by a thread that
    // the child does not have, and the child may run any code.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // Drop the other ends: a process that holds them never sees them close. The socket's other end is inferscope's.
        drop((gate, failure));
        close(channel.as_raw_fd());
        exec_gate::run(&program, &gate_read, &failure_write);
    }
    match Pid::from_raw(forked.max(0)) {
        Some(command) => Ok((command, gate, failure)),
        None => Err(("it can't be forked", io::Error::last_os_error())),
    }
}

/// Leaves the terminal, the working directory and all open files but these. Returns the descriptor that reports the end
/// of a child.
fn withdraw(keep: &[i32]) -> io::Result<SignalFd> {
    // This comes after the fork: the command keeps the user's actions. With SIGCHLD ignored nobody could be waited for.
    default_action(libc::SIGCHLD);
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    let open: Vec<i32> = (std::fs::read_dir("/proc/self/fd")?.flatten())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        close(fd);
    }
    SignalFd::new(&[libc::SIGCHLD])
}

/// Closes a descriptor whose owner, in this copy of inferscope, is never used or dropped.
fn close(fd: i32) {
    // SAFETY: nothing uses the number any more: this process ends in `_exit`, which runs no destructor but those of
    // what it created itself. Closing a number that is not open does nothing.
    unsafe { libc::close(fd) };
}

struct Janitor {
    channel: JanitorChannel,
    child_ended: SignalFd,
    command: Pid,
    state: State,
    members: CommandMembers,
    cgroup: CommandCgroup,
    grace: Nanos,
    shutdown: Option<Shutdown>,
    /// inferscope ended without a message.
    alone: bool,
}

enum State {
    Gated {
        gate: OwnedFd,
        failure: OwnedFd,
    },
    /// The command may run. The exec closes this pipe.
    Starting {
        failure: OwnedFd,
    },
    Running,
    Ended,
}

impl Janitor {
    fn work(mut self) {
        loop {
            let [message, child] = self.next();
            // This comes first: the pipe closes before the child's end is reported.
            self.look_at_exec();
            if child {
                self.reap();
            }
            if message && !self.listen() {
                return;
            }
            if let Some(shutdown) = self.shutdown.take() {
                self.shutdown = self.step(shutdown);
            }
            // Processes that the command left when it ended by itself would have outlived it without inferscope, too.
            if self.alone && self.shutdown.is_none() {
                self.cgroup.remove();
                return;
            }
        }
    }

    /// Waits. Returns whether inferscope sent a message, and whether a child ended.
    fn next(&self) -> [bool; 2] {
        let failure = match &self.state {
            State::Starting { failure } => Some(failure),
            _ => None,
        };
        let mut fds = vec![PollFd::new(&self.child_ended, PollFlags::IN)];
        // A closed socket would stay readable for ever.
        fds.extend((!self.alone).then(|| PollFd::new(&self.channel, PollFlags::IN)));
        fds.extend(failure.map(|fd| PollFd::new(fd, PollFlags::IN)));
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let tick = self.shutdown.is_some().then_some(&tick);
        // All signals are blocked, so nothing interrupts the wait.
        let _ = poll(&mut fds, tick);
        let is_ready = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
        [!self.alone && is_ready(1), is_ready(0)]
    }

    /// Reports how the exec went, once that is decided.
    fn look_at_exec(&mut self) {
        let State::Starting { failure } = &self.state else { return };
        if !is_readable(failure) {
            return;
        }
        let mut errno = [0; 4];
        if matches!(rustix::io::read(failure, &mut errno), Ok(4)) {
            self.report(&JanitorReply::NotStarted { errno: i32::from_ne_bytes(errno) });
        } else {
            self.report(&JanitorReply::Started);
        }
        self.state = State::Running;
    }

    fn reap(&mut self) {
        // Several ends may cause one signal.
        let _ = self.child_ended.read();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.command {
                // The exec was not reported before: a dead process has closed its end.
                self.look_at_exec();
                self.state = State::Ended;
                self.report(&JanitorReply::Ended { status: status.as_raw().cast_unsigned() });
            }
        }
    }

    /// False: the work is done.
    fn listen(&mut self) -> bool {
        let now = Mono::now();
        match self.channel.receive_now::<JanitorRequest>() {
            Ok(Some(JanitorRequest::Open)) => self.open(),
            Ok(Some(JanitorRequest::End { ask })) => self.end(now, ask),
            Ok(Some(JanitorRequest::Kill)) => {
                self.shutdown.get_or_insert(Shutdown::new(now, Nanos::ZERO)).hurry(now);
            }
            Ok(Some(JanitorRequest::Signal { signal })) => self.pass_on(signal),
            Ok(Some(JanitorRequest::Release)) => {
                let left = self.cgroup.remove();
                self.report(&JanitorReply::Released { left });
                return false;
            }
            Ok(None) => {
                self.alone = true;
                match self.state {
                    // The gate closes with its owner.
                    State::Gated { .. } => {
                        self.state = State::Running;
                        self.shutdown = Some(Shutdown::new(now, Nanos::ZERO));
                    }
                    State::Ended => {}
                    State::Starting { .. } | State::Running => self.end(now, true),
                }
            }
            // There is nothing to read after all. An invalid message can only be a bug, and its sender waits.
            Err(_) => {}
        }
        true
    }

    fn open(&mut self) {
        let State::Gated { gate, failure } = std::mem::replace(&mut self.state, State::Running) else {
            return;
        };
        // If it was killed meanwhile, its end is reported.
        let _ = rustix::io::write(&gate, &[1]);
        self.state = State::Starting { failure };
    }

    fn end(&mut self, now: Mono, ask: bool) {
        if self.shutdown.is_none() {
            self.shutdown = Some(Shutdown::new(now, self.grace));
            if ask && self.command_lives() {
                self.ask_command();
            }
        }
    }

    fn step(&self, mut shutdown: Shutdown) -> Option<Shutdown> {
        let living = self.members.living();
        let facts = CommandState {
            command_lives: self.command_lives(),
            members: u32::try_from(living.len()).unwrap_or(u32::MAX),
        };
        match shutdown.step(Mono::now(), facts) {
            Action::Wait => {}
            Action::AskMembers => self.members.signal(Signal::TERM),
            Action::Kill => {
                if self.command_lives() {
                    // The command may have moved to another cgroup.
                    let _ = kill_process(self.command, Signal::KILL);
                }
                self.members.kill();
            }
            Action::Done { left } => {
                self.report(&JanitorReply::Cleared { left });
                return None;
            }
        }
        Some(shutdown)
    }

    /// Signals the command. Its pid stays its own until this process, the only one that can, waits for it.
    const fn command_lives(&self) -> bool {
        !matches!(self.state, State::Ended)
    }

    fn pass_on(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal).filter(|_| self.command_lives()) {
            let _ = kill_process(self.command, signal);
        }
    }

    fn ask_command(&self) {
        let _ = kill_process(self.command, Signal::TERM);
        // A stopped process would not get it.
        let _ = kill_process(self.command, Signal::CONT);
    }

    fn report(&self, reply: &JanitorReply) {
        // inferscope may be gone, which the socket will report.
        let _ = self.channel.send(reply);
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(fd);
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)), Ok(1..))
}

fn pid_number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
