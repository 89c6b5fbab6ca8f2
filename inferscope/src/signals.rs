//! Signals: blocked from the first instruction on, and read where there is time for them.
//!
//! Owns the calls for which std and rustix have no safe form: masks, and the descriptor for reading signals.
//! [`Signals`] is the only source of SIGINT, SIGTERM, SIGHUP and SIGQUIT in a run, so none of them ends it without its
//! report at any moment. Never decides what a signal means for a command (`launch::signal_forwarding` does). Created by
//! `main`, read by `session` and `launch`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

/// The signals that end a run, with its report.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// Those of them that stay ignored if the caller ignored them: nohup(1), and a script's background jobs.
const IGNORABLE: [i32; 2] = [libc::SIGHUP, libc::SIGQUIT];
/// Blocked and never read: a write over `ulimit -f` is then an error and not the end.
const NO_END: i32 = libc::SIGXFSZ;
/// Interval of the looks where there is nothing to wait for.
const LOOK: Duration = Duration::from_millis(20);

/// The signals that end a run.
#[derive(Debug)]
pub struct Signals {
    /// The signals that the caller had blocked.
    before: Mask,
    fd: SignalFd,
    /// A signal that ends a run was read.
    came: AtomicBool,
}

impl Signals {
    /// Blocks them from here on, in this thread and in the threads that it creates.
    ///
    /// # Errors
    /// No descriptor is free. The signals are as they were.
    pub fn block() -> io::Result<Self> {
        let heeded = heeded(&ENDING);
        let before = Mask::block(&[&heeded[..], &[NO_END]].concat());
        match SignalFd::new(&heeded) {
            Ok(fd) => Ok(Self { before, fd, came: AtomicBool::new(false) }),
            Err(e) => {
                before.apply();
                Err(e)
            }
        }
    }

    /// Unblocks the signals, for commands that have nothing to lose. A pending signal acts now.
    pub fn restore(&self) {
        self.before.apply();
    }

    /// An ending signal came. Never waits.
    #[must_use]
    pub fn came(&self) -> bool {
        self.read();
        self.came.load(Ordering::Relaxed)
    }

    /// Waits for an ending signal; returns at once if one came before. Must be called within a runtime.
    pub async fn recv(&self) {
        while !self.came() {
            self.readable().await;
        }
    }

    /// Waits for an ending signal and leaves it unread.
    pub(crate) async fn pending(&self) {
        while !self.is_pending() {
            self.readable().await;
            // Another signal that nobody reads yet, such as a window's new size, would stay readable for ever.
            tokio::time::sleep(LOOK).await;
        }
    }

    /// An ending signal came. Leaves it unread.
    pub(crate) fn is_pending(&self) -> bool {
        self.came.load(Ordering::Relaxed) || Mask::pending().holds_any(&ENDING)
    }

    async fn readable(&self) {
        // SAFETY: the descriptor is borrowed from `self`, which stays open as long.
        match unsafe { AsyncFd::register(self.fd.as_fd()) } {
            Ok(fd) => drop(fd.readable().await),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }

    /// Reads all pending signals. Returns whether one of them ends a run.
    pub(crate) fn read(&self) -> bool {
        let mut any = false;
        while let Ok(signalled) = self.fd.read() {
            any |= ENDING.contains(&signalled.signal);
        }
        if any {
            self.came.store(true, Ordering::Relaxed);
        }
        any
    }

    /// The next signal, for a caller that must know which one it is.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none is pending.
    pub(crate) fn next(&self) -> io::Result<Signalled> {
        let signalled = self.fd.read()?;
        if ENDING.contains(&signalled.signal) {
            self.came.store(true, Ordering::Relaxed);
        }
        Ok(signalled)
    }

    /// Blocks these signals and reads them, too.
    ///
    /// # Errors
    /// None that a kernel with signalfd has.
    pub(crate) fn add(&self, signals: &[i32]) -> io::Result<()> {
        let all = heeded(&[&ENDING[..], signals].concat());
        Mask::block(&all);
        self.fd.set(&all)
    }

    /// The signals that the caller had blocked. A command of the user gets the same mask.
    pub(crate) const fn before(&self) -> Mask {
        self.before
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Removes the signals that the caller ignored, if they stay ignored.
fn heeded(signals: &[i32]) -> Vec<i32> {
    signals.iter().copied().filter(|s| !(IGNORABLE.contains(s) && is_ignored(*s))).collect()
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all-zero is a valid sigaction.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null pointer sets nothing, and the other pointer is valid.
    let failed = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) } != 0;
    !failed && now.sa_sigaction == libc::SIG_IGN
}

/// The signal mask of a thread.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

impl Mask {
    fn empty() -> Self {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: a pointer to a set, which this call fills.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by sigemptyset.
        Self(unsafe { set.assume_init() })
    }

    /// The pending signals.
    fn pending() -> Self {
        let mut pending = Self::empty();
        // SAFETY: a valid set to fill.
        unsafe { libc::sigpending(&raw mut pending.0) };
        pending
    }

    fn holds_any(&self, signals: &[i32]) -> bool {
        // SAFETY: the set is initialised. A number that is no signal is in no set.
        signals.iter().any(|signal| unsafe { libc::sigismember(&raw const self.0, *signal) } == 1)
    }

    /// Blocks every signal that can be blocked. Returns the mask before.
    pub(crate) fn block_all() -> Self {
        let mut all = Self::empty();
        // SAFETY: a valid set.
        unsafe { libc::sigfillset(&raw mut all.0) };
        all.apply()
    }

    /// Blocks these signals in addition. Returns the mask before.
    fn block(signals: &[i32]) -> Self {
        Self::empty().with(signals).change(libc::SIG_BLOCK)
    }

    /// The mask with these signals in addition.
    fn with(mut self, signals: &[i32]) -> Self {
        for &signal in signals {
            // SAFETY: the set is initialised; a number that is no signal is refused and leaves it.
            unsafe { libc::sigaddset(&raw mut self.0, signal) };
        }
        self
    }

    /// Blocks exactly these signals. Returns the mask before.
    pub(crate) fn apply(self) -> Self {
        self.change(libc::SIG_SETMASK)
    }

    fn change(self, how: i32) -> Self {
        let mut before = Self::empty();
        // SAFETY: two valid sets; it fails only for an unknown first argument.
        unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        before
    }
}

/// Restores the action of a fresh process for the signal. Rust's runtime ignores SIGPIPE, and the command would inherit
/// that.
pub(crate) fn default_action(signal: i32) {
    // SAFETY: SIG_DFL is no handler that could be unsafe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// A signal that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signalled {
    pub(crate) signal: i32,
    /// The kernel sent it, as for a key at the terminal: to the whole foreground group.
    pub(crate) by_kernel: bool,
}

/// The descriptor for reading blocked signals.
#[derive(Debug)]
pub(crate) struct SignalFd(OwnedFd);

impl SignalFd {
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let mask = Mask::empty().with(signals);
        // SAFETY: a valid set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const mask.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn set(&self, signals: &[i32]) -> io::Result<()> {
        let mask = Mask::empty().with(signals);
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is valid, and the descriptor is of that kind.
        let fd = unsafe { libc::signalfd(self.0.as_raw_fd(), &raw const mask.0, flags) };
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next signal.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none is pending.
    pub(crate) fn read(&self) -> io::Result<Signalled> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut bytes = [0_u8; SIZE];
        let read = rustix::io::read(&self.0, &mut bytes)?;
        if read != SIZE {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the kernel wrote one whole record, which is plain numbers.
        let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
        Ok(Signalled { signal, by_kernel: info.ssi_code == libc::SI_KERNEL })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
