//! The account of one process, once it is closed.
//!
//! A process's account is closed when its end and its final figures are known, or when the observation ends. It is sent whole, so
//! that a full channel loses a line of a list, never a part of a figure.

use super::ProcessRecord;

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The executed file.
    pub exe: Option<String>,
    pub argv: Option<Vec<String>>,
    /// `argv` holds only the beginning.
    pub argv_cut: bool,
}

/// What is known of a resident set's peak. The kernel's own figure lasts over an exec: a process that was forked by a large one
/// and executed a small one shows the large one's, whose pages it shared until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RssMarks {
    /// The kernel's figure before what it runs now; nothing up to here is taken for its own.
    pub before: u64,
    /// Its own: a sample's, or a high-water mark's.
    pub own: Option<u64>,
    /// The highest mark that is its own, of the kernel.
    pub mark: Option<u64>,
    /// The kernel's figure at its end.
    pub at_end: Option<u64>,
}

/// What only the end of the observation tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetEnd {
    /// An OOM kill would have been told.
    pub tells_oom: bool,
    /// No word of an exec was lost.
    pub tells_execs: bool,
}

/// A closed account. What only the whole run tells is still open: `max_rss_…` and `oom_killed` of the record.
#[derive(Debug, Clone)]
pub struct ProcessAccount {
    /// In the order of births.
    pub number: usize,
    /// False: the list was full when it was born.
    pub listed: bool,
    pub record: ProcessRecord,
    pub rss: RssMarks,
    /// Its parent's program as of the fork, where it executed none and was seen by no look that tells its own. It holds where no
    /// word of an exec was lost.
    pub inherited: Option<Program>,
}
