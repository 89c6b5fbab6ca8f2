//! From a closed account to the record that figures are made of.
//!
//! Owns what of an account stands only when the whole run is known: whose pages a peak holds, whether a kill would have been told,
//! whose program a fork ran. A part of `set`.

use crate::event::{ProcessAccount, ProcessRecord, Program, RssMarks, SetEnd};

/// The peak of a resident set, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RssPeak {
    pub(super) bytes: Option<u64>,
    pub(super) is_peak: bool,
    pub(super) at_most: Option<u64>,
}

/// `tells_execs`: no word of an exec was lost.
pub(super) fn peak(rss: &RssMarks, has_ended: bool, tells_execs: bool) -> RssPeak {
    let own_at_end = rss.at_end.filter(|end| tells_execs && *end > rss.before);
    let mark = rss.mark.max(own_at_end);
    let is_peak = if has_ended { own_at_end.is_some() } else { mark.is_some() };
    RssPeak { bytes: rss.own.max(mark), is_peak, at_most: rss.at_end.filter(|_| !is_peak) }
}

pub(super) fn complete(account: ProcessAccount, end: SetEnd) -> ProcessRecord {
    let ProcessAccount { mut record, rss, inherited, .. } = account;
    let peak = peak(&rss, record.exited.is_some(), end.tells_execs);
    if let Some(Program { exe, argv, argv_cut }) = inherited.filter(|_| end.tells_execs) {
        (record.exe, record.argv, record.argv_cut) = (exe, argv, argv_cut);
    }
    ProcessRecord {
        oom_killed: record.oom_killed.or(end.tells_oom.then_some(false)),
        max_rss_bytes: peak.bytes,
        max_rss_is_peak: peak.is_peak,
        max_rss_at_most_bytes: peak.at_most,
        ..record
    }
}
