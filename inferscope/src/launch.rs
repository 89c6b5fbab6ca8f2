//! The command of `exec`: started so that the observer sees all of it, and ended with the run.
//!
//! Owns the command's process, its cgroup, the forwarding of signals, and its end. A process of its own does this work
//! (`janitor`), because inferscope may be killed. Never observes (`observe` does) and decides nothing about the run.
//! Called by `session`:
//!
//! ```text
//! Launched::start   the command is forked and waits (gated); the observer can start
//!     open_gate     it becomes the program
//!     watch         its end, and the signals that concern the run
//!     end, kill     ends it early
//!     release       lets go of what outlives the run on purpose; removes the cgroup
//! ```
//!
//! A `Launched` that is dropped before its release, by whatever error, ends the command.

mod cgroup_dirs;
mod command_cgroup;
mod exec_gate;
mod janitor;
mod janitor_protocol;
mod members;
mod shutdown;
mod signal_forwarding;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use tokio::io::unix::AsyncFd;

use crate::clock::Mono;
use crate::event::ExitStatus;
use crate::privilege;
use crate::signals::{Mask, Signals};
use crate::units::Nanos;

use command_cgroup::CommandCgroup;
use exec_gate::Program;
use janitor_protocol::{JanitorChannel, JanitorReply, JanitorRequest};
use members::CommandMembers;
use signal_forwarding::{PASSED_ON, SignalForwarding, StopRequest};

pub use janitor_protocol::CgroupPlacement;

/// Why there is no command. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("can't run '{command}': {source}\n  {remedy}")]
    NotRunnable { command: String, source: io::Error, remedy: &'static str },
    #[error("can't start '{command}': {what}: {source}\n  check the limits on processes and open files")]
    System { command: String, what: String, source: io::Error },
    #[error("can't start '{command}': its janitor ended early\n  was it killed? try again")]
    JanitorLost { command: String },
    #[error(
        "can't fork from a process of {threads} threads\n  this is a bug of inferscope, please report it"
    )]
    Threads { threads: usize },
}

impl LaunchError {
    /// The command line is at fault.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::NotRunnable { .. })
    }
}

/// A command that was forked.
#[derive(Debug)]
pub struct Launched<'s> {
    command: String,
    /// `None` once it was closed.
    channel: Option<JanitorChannel>,
    signals: &'s Signals,
    janitor: Pid,
    pid: u32,
    pidfd: OwnedFd,
    cgroup: Result<CgroupPlacement, String>,
}

/// The events of a running command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEvent {
    /// The command ended. Others that it started may live.
    Ended(ExitStatus),
    /// The reply to [`Launched::end`] and [`Launched::kill`]: all is gone except for this many processes, which could
    /// not be killed.
    Cleared { left: u32 },
    /// SIGINT, SIGTERM, SIGHUP or SIGQUIT: the run is over. The command has the signal, too.
    Interrupted,
    /// The same once more.
    InterruptedAgain,
    /// The janitor was killed. The end of the command stays unknown.
    JanitorLost,
}

impl<'s> Launched<'s> {
    /// Forks the command, in a cgroup of its own if one can be made. It waits for [`Self::open_gate`]. Both its output
    /// streams go to `output`; without one its standard output goes to standard error.
    ///
    /// From here on the signals of `signals`, and SIGUSR1, SIGUSR2 and SIGWINCH, only reach [`Watch::next`].
    ///
    /// # Errors
    /// [`LaunchError`]. The calling process must have a single thread.
    pub fn start(
        argv: &[OsString],
        output: Option<File>,
        grace: Nanos,
        signals: &'s Signals,
    ) -> Result<Self, LaunchError> {
        let command = argv.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
        let system = |what: &str, source: io::Error| LaunchError::System {
            command: command.clone(),
            what: what.to_owned(),
            source,
        };
        check_single_thread()?;
        let argv = argv.iter().map(|arg| CString::new(arg.clone().into_vec()));
        let argv =
            argv.collect::<Result<Vec<_>, _>>().map_err(|e| system("an argument holds a NUL", e.into()))?;
        let (channel, theirs) = JanitorChannel::pair().map_err(|e| system("there is no socket for it", e))?;
        // Before the command can exist: a signal from now on is for it, too.
        signals
            .add(&PASSED_ON.map(rustix::process::Signal::as_raw))
            .map_err(|e| system("signals can't be read", e))?;
        let program = Program { argv, output, mask: signals.before() };
        let order = janitor::Order { program, grace, pid: std::process::id() };
        // The janitor gets none.
        let mask = Mask::block_all();
        // SAFETY: this process has a single thread, so no lock can be held by a thread that the child does
        // not have, and the child may run any code.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            drop(channel);
            janitor::run(theirs, order);
            // SAFETY: ends this process without running the destructors of the parent, of which it is a copy.
            unsafe { libc::_exit(0) };
        }
        let failed = io::Error::last_os_error();
        mask.apply();
        drop((theirs, order));
        let janitor =
            Pid::from_raw(forked.max(0)).ok_or_else(|| system("its janitor can't be forked", failed))?;
        let ready = channel.receive();
        // Every exit from here but the last closes the socket. The janitor ends then.
        let result = (|| match ready {
            Ok(Some(JanitorReply::Ready { pid, cgroup, left })) => {
                privilege::note(left);
                let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
                let pidfd =
                    raw.ok_or(rustix::io::Errno::SRCH).and_then(|p| pidfd_open(p, PidfdFlags::empty()));
                let pidfd =
                    pidfd.map_err(|e| system("it can't be held (pidfd_open, Linux 5.3)", e.into()))?;
                Ok((pid, cgroup, pidfd))
            }
            Ok(Some(JanitorReply::NotForked { what, errno })) => {
                Err(system(&what, io::Error::from_raw_os_error(errno)))
            }
            Ok(_) => Err(LaunchError::JanitorLost { command: command.clone() }),
            Err(e) => Err(system("its janitor can't be heard", e)),
        })();
        match result {
            Ok((pid, cgroup, pidfd)) => {
                Ok(Self { command, channel: Some(channel), signals, janitor, pid, pidfd, cgroup })
            }
            Err(e) => {
                drop(channel);
                wait_for(janitor);
                Err(e)
            }
        }
    }

    /// The command's pid.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its own cgroup, or why it has none.
    ///
    /// # Errors
    /// The reason, as a part of a sentence.
    pub const fn cgroup(&self) -> Result<&CgroupPlacement, &String> {
        self.cgroup.as_ref()
    }

    /// Lets the command become the program. Returns once it has.
    ///
    /// # Errors
    /// There is no such program, or it can't be run; nothing is left then.
    pub fn open_gate(&self) -> Result<(), LaunchError> {
        self.request(&JanitorRequest::Open);
        let reply = self.channel.as_ref().map(JanitorChannel::receive);
        match reply {
            Some(Ok(Some(JanitorReply::Started))) => Ok(()),
            Some(Ok(Some(JanitorReply::NotStarted { errno }))) => {
                let source = io::Error::from_raw_os_error(errno);
                let command = self.command.clone();
                Err(match remedy(errno) {
                    Some(remedy) => LaunchError::NotRunnable { command, source, remedy },
                    None => LaunchError::System { command, what: "it can't be executed".to_owned(), source },
                })
            }
            _ => Err(LaunchError::JanitorLost { command: self.command.clone() }),
        }
    }

    /// Ends the command and all that is left of it: SIGTERM, the grace period, SIGKILL. Without `ask`, the SIGTERM was
    /// already sent. [`LaunchEvent::Cleared`] is the reply.
    pub fn end(&self, ask: bool) {
        self.request(&JanitorRequest::End { ask });
    }

    /// Ends the command at once, also during the grace period.
    pub fn kill(&self) {
        self.request(&JanitorRequest::Kill);
    }

    /// Lets go of what still lives and removes the cgroup. Returns the directories that could not be removed.
    #[must_use]
    pub fn release(mut self) -> Vec<String> {
        self.request(&JanitorRequest::Release);
        // Nobody waits for its other messages any more.
        while let Some(Ok(Some(reply))) = self.channel.as_ref().map(JanitorChannel::receive) {
            if let JanitorReply::Released { left } = reply {
                return left;
            }
        }
        self.leave()
    }

    /// Kills the command, and its cgroup if it has one: for a janitor that was killed.
    pub fn kill_without_janitor(&self) {
        let _ = pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        if let Ok(placed) = &self.cgroup {
            CommandMembers::Cgroup { dir: placed.dir.clone().into(), name: placed.name.clone() }.kill();
        }
    }

    /// Closes the socket, so that the janitor cleans up. If the janitor is gone, this process cleans up.
    fn leave(&mut self) -> Vec<String> {
        if self.channel.take().is_none() || wait_for(self.janitor) {
            return Vec::new();
        }
        self.kill_without_janitor();
        self.cgroup.as_ref().map_or_else(|_| Vec::new(), |placed| CommandCgroup::of(placed).remove())
    }

    /// The events from now on. Must be called within a runtime.
    ///
    /// # Errors
    /// The runtime takes no further descriptor.
    pub fn watch(&self) -> io::Result<Watch<'_>> {
        let channel = self.channel.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the descriptor is borrowed from `self`, which stays open as long.
        let channel = unsafe { AsyncFd::register(channel.as_fd()) }?;
        // SAFETY: as above.
        let signals = unsafe { AsyncFd::register(self.signals.as_fd()) }?;
        Ok(Watch { launched: self, channel, signals, forwarding: SignalForwarding::default(), lost: false })
    }

    fn request(&self, request: &JanitorRequest) {
        // The next read reports a janitor that is gone.
        let _ = self.channel.as_ref().map(|channel| channel.send(request));
    }
}

impl Drop for Launched<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The events of the command and the signals, in order.
#[derive(Debug)]
pub struct Watch<'a> {
    launched: &'a Launched<'a>,
    channel: AsyncFd<std::os::fd::BorrowedFd<'a>>,
    signals: AsyncFd<std::os::fd::BorrowedFd<'a>>,
    forwarding: SignalForwarding,
    lost: bool,
}

impl Watch<'_> {
    /// The next event. Forwards signals by itself. A wait can be dropped without losing an event.
    pub async fn next(&mut self) -> LaunchEvent {
        loop {
            // A signal that ended the command comes before its end.
            let happened = tokio::select! {
                biased;
                stop_request = stop_requested(&self.signals, self.launched, &mut self.forwarding) => match stop_request {
                    Some(StopRequest::End) => Some(LaunchEvent::Interrupted),
                    Some(StopRequest::EndNow) => Some(LaunchEvent::InterruptedAgain),
                    None => None,
                },
                happened = heard(&self.channel, self.launched), if !self.lost => happened,
            };
            self.lost |= happened == Some(LaunchEvent::JanitorLost);
            if let Some(happened) = happened {
                return happened;
            }
        }
    }
}

async fn heard(
    readable: &AsyncFd<std::os::fd::BorrowedFd<'_>>,
    launched: &Launched<'_>,
) -> Option<LaunchEvent> {
    // A runtime that is ending reports no more.
    let mut ready = readable.readable().await.ok()?;
    let channel = launched.channel.as_ref()?;
    let Ok(reply) = ready.try_io(|_| channel.receive_now::<JanitorReply>()) else { return None };
    match reply {
        Ok(Some(JanitorReply::Ended { status })) => {
            Some(LaunchEvent::Ended(ExitStatus::from_wait_status(status)))
        }
        Ok(Some(JanitorReply::Cleared { left })) => Some(LaunchEvent::Cleared { left }),
        Ok(Some(_)) => None,
        Ok(None) | Err(_) => Some(LaunchEvent::JanitorLost),
    }
}

async fn stop_requested(
    readable: &AsyncFd<std::os::fd::BorrowedFd<'_>>,
    launched: &Launched<'_>,
    forwarding: &mut SignalForwarding,
) -> Option<StopRequest> {
    let mut ready = readable.readable().await.ok()?;
    let signalled = ready.try_io(|_| launched.signals.next()).ok()?.ok()?;
    let decision = forwarding.decide(signalled, Mono::now());
    if let Some(signal) = decision.pass_on {
        // The janitor sends it, as the command may have become another user. The command may have ended.
        launched.request(&JanitorRequest::Signal { signal: signal.as_raw() });
    }
    decision.stop_request
}

/// The remedy for a fault of the command line.
const fn remedy(errno: i32) -> Option<&'static str> {
    match errno {
        libc::ENOENT | libc::ENOTDIR => {
            Some("check its name, its path and PATH, or its #! line's interpreter")
        }
        libc::EACCES | libc::EPERM => Some("make it executable, and its directories accessible"),
        libc::ENOEXEC | libc::EISDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::ETXTBSY | libc::ELIBBAD => {
            Some("give a program that this machine can run")
        }
        libc::E2BIG => Some("its arguments and the environment are too long together"),
        _ => None,
    }
}

/// The process ended by itself.
fn wait_for(janitor: Pid) -> bool {
    loop {
        match waitpid(Some(janitor), WaitOptions::empty()) {
            Ok(Some((_, status))) => return status.exited(),
            Err(rustix::io::Errno::INTR) => {}
            // If SIGCHLD is ignored, there is nobody left to wait for.
            Ok(None) | Err(_) => return true,
        }
    }
}

fn check_single_thread() -> Result<(), LaunchError> {
    // Unreadable: assume one thread, as `session` calls this before it starts any.
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads == 1 { Ok(()) } else { Err(LaunchError::Threads { threads }) }
}
