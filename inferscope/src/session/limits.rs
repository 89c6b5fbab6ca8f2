//! The limits of the system that a run depends on.
//!
//! Owns the least that a run takes, checked before anything else, and the raise of the soft limit of open files. Called by
//! `session`.

use super::RunError;

/// Files that a run opens, whatever it does: streams, timers, a few sockets, the readings of one process.
pub(super) const LEAST_FILES: u64 = 16;
/// Address space of the program, its threads' stacks and the least `--max-memory`.
pub(super) const LEAST_SPACE_BYTES: u64 = 128 << 20;

/// What a run can't do without is there; nothing below looks for a limit like this again.
///
/// # Errors
/// It is not, with what to raise.
pub(super) fn check() -> Result<(), RunError> {
    use rustix::process::{Resource, getrlimit};
    // Up to the hard limit the soft one is raised.
    let files = getrlimit(Resource::Nofile).maximum;
    if let Some(files) = files.filter(|files| *files < LEAST_FILES) {
        return Err(RunError::FewFiles { files });
    }
    let space = getrlimit(Resource::As).current;
    match space.filter(|space| *space < LEAST_SPACE_BYTES) {
        Some(space) => Err(RunError::LittleSpace { mib: space >> 20 }),
        None => Ok(()),
    }
}

/// A descriptor a process is kept: the soft limit of 1,024 is for programs that use select(2). A
/// refusal leaves it: handles are then opened for each reading.
pub(super) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
