//! The kernel program's own log, for developers: `INFERSCOPE_LOG=debug`.
//!
//! Owns the level that the program is loaded with and the way of its lines into ours. Off, the verifier takes the calls
//! out of the program. Reading it takes CAP_SYS_ADMIN, as aya-log finds the ring by its program's id. Used by the tracker.

use std::os::fd::BorrowedFd;

use aya_log::EbpfLogger;

use super::syscall;

/// aya-log's level of debug lines.
const DEBUG: u8 = 4;
const OFF: u8 = 0;
const RING_BYTES: u32 = 128 << 10;

/// What the program is loaded with: the level, and the size of the ring for its lines.
pub(super) fn settings(smallest_ring: u32) -> (u8, u32) {
    let wanted = tracing::enabled!(target: "inferscope_ebpf", tracing::Level::DEBUG);
    if wanted { (DEBUG, RING_BYTES.max(smallest_ring)) } else { (OFF, smallest_ring) }
}

pub(super) struct KernelLog(Option<Box<dyn FnMut() + Send>>);

impl KernelLog {
    /// The log of the program and of all that share its maps.
    pub(super) fn of(program: BorrowedFd<'_>) -> Self {
        if !tracing::enabled!(target: "inferscope_ebpf", tracing::Level::DEBUG) {
            return Self(None);
        }
        let id = match syscall::program_id(program) {
            Ok(id) => id,
            Err(e) => {
                tracing::debug!("the kernel program's log can't be read: {e}");
                return Self(None);
            }
        };
        match EbpfLogger::init_from_id(id) {
            Ok(mut logger) => Self(Some(Box::new(move || logger.flush()))),
            Err(e) => {
                tracing::debug!("the kernel program's log can't be read: {e}");
                Self(None)
            }
        }
    }

    /// Hands on what was written since the last time.
    pub(super) fn flush(&mut self) {
        if let Some(flush) = &mut self.0 {
            flush();
        }
    }
}
