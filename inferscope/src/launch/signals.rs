//! Signals as data: masks, and a descriptor to read them from.
//!
//! Owns the calls that std and rustix have no safe form of. Never decides what a signal means (`passing`
//! does). Used by the janitor and by inferscope's side.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The signals that a thread keeps back.
#[derive(Clone, Copy)]
pub(super) struct Mask(libc::sigset_t);

impl Mask {
    fn empty() -> Self {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: a pointer to a set, which this call fills.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by sigemptyset.
        Self(unsafe { set.assume_init() })
    }

    /// Keeps everything back that can be; gives what was kept back before.
    pub(super) fn block_all() -> Self {
        let mut all = Self::empty();
        // SAFETY: a valid set.
        unsafe { libc::sigfillset(&raw mut all.0) };
        all.apply()
    }

    /// With these in addition.
    pub(super) fn with(mut self, signals: &[i32]) -> Self {
        for &signal in signals {
            // SAFETY: the set is initialised; a number that is no signal is refused and leaves it.
            unsafe { libc::sigaddset(&raw mut self.0, signal) };
        }
        self
    }

    /// Keeps back exactly these; gives what was kept back before.
    pub(super) fn apply(self) -> Self {
        let mut before = Self::empty();
        // SAFETY: two valid sets; it fails only for an unknown first argument.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, &raw mut before.0) };
        before
    }
}

/// Gives the signal the action that it has in a fresh process. Rust's runtime ignores SIGPIPE, and what is
/// ignored would be ignored by the command too.
pub(super) fn default_action(signal: i32) {
    // SAFETY: SIG_DFL is no handler that could be unsafe.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signalled {
    pub(super) signal: i32,
    /// Sent by the kernel, as for a key at the terminal: to the whole foreground group.
    pub(super) by_kernel: bool,
}

/// Where signals that are kept back can be read.
#[derive(Debug)]
pub(super) struct SignalFd(OwnedFd);

impl SignalFd {
    pub(super) fn new(signals: &[i32]) -> io::Result<Self> {
        let mask = Mask::empty().with(signals);
        // SAFETY: a valid set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const mask.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next one.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where none waits.
    pub(super) fn read(&self) -> io::Result<Signalled> {
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

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
