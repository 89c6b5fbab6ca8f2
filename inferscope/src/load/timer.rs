//! A timer to the microsecond.
//!
//! Owns a timerfd on CLOCK_MONOTONIC: tokio's own timers count in milliseconds, by which an open loop would
//! send late. Used by the driver's loop.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::clock::Mono;

#[derive(Debug)]
pub(super) struct Timer {
    fd: AsyncFd<OwnedFd>,
    set_for: Option<Mono>,
}

impl Timer {
    /// # Errors
    /// No descriptor is to be had.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor is owned by the AsyncFd, so it stays open as long as it is registered.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { fd, set_for: None })
    }

    /// Resolves at `t`; dropping it before loses nothing.
    ///
    /// # Errors
    /// The descriptor's.
    pub(super) async fn until(&mut self, t: Mono) -> io::Result<()> {
        if self.set_for != Some(t) {
            // Zero would disarm it.
            let t = t.0.max(1);
            let at = Timespec { tv_sec: (t / 1_000_000_000) as i64, tv_nsec: (t % 1_000_000_000) as i64 };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let when = Itimerspec { it_interval: never, it_value: at };
            timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &when)?;
        }
        self.set_for = Some(t);
        loop {
            let mut ready = self.fd.readable().await?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut [0; 8])?));
            match read {
                Ok(Ok(_)) => {
                    self.set_for = None;
                    return Ok(());
                }
                Ok(Err(e)) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Nanos;

    #[test]
    fn it_waits_until_then_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new().unwrap();
            let start = Mono::now();
            timer.until(start).await.unwrap();
            let then = Mono::now().plus(Nanos(2_300_000));
            // Given up for another time and taken up again.
            tokio::select! {
                biased;
                _ = timer.until(then.plus(Nanos::from_millis(60_000))) => panic!("too early"),
                () = tokio::task::yield_now() => {}
            }
            timer.until(then).await.unwrap();
            assert!(Mono::now() >= then);
            timer.until(then).await.unwrap();
        });
    }
}
