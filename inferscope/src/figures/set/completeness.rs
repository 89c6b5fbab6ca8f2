//! What was counted, and whether that is all.
//!
//! Owns the counts, which of them are lower bounds, and what makes the set complete. The kernel program's own counts hold what the
//! list lost. A part of `set`.

use crate::event::{Loss, Observation, TrackerKind};
use crate::reason::SetReason;

/// Counts of the report that may be lower bounds, by their names there.
const POLLED_COUNTS: &[&str] = &["seen", "forks", "exits", "peak_alive"];
const ALL_COUNTS: &[&str] =
    &["seen", "alive_at_start", "forks", "execs", "exits", "threads", "peak_alive", "short_lived"];
const EXITS: &[&str] = &["exits"];
const LISTED_COUNTS: &[&str] = &["peak_alive", "short_lived"];

/// Counts over the window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SetCounts {
    pub(crate) lower_bounds: Option<(&'static [&'static str], SetReason)>,
    /// Alive at the start, forked, or moved in.
    pub(crate) seen: u64,
    pub(crate) execs: Result<u64, SetReason>,
    pub(crate) threads: Result<u64, SetReason>,
    pub(crate) moved_in: Option<u64>,
    pub(crate) moved_out: Option<u64>,
    pub(crate) moved_reason: Option<SetReason>,
    /// Listed processes that no sample caught.
    pub(crate) short_lived: Result<u64, SetReason>,
    /// Records that were lost and not made good.
    pub(crate) lost_events: Result<u64, SetReason>,
    pub(crate) missed_runs: Result<u64, SetReason>,
    pub(crate) missed_runs_made_good: u64,
}

impl SetCounts {
    pub(super) fn of(o: &Observation, descendants: bool) -> Self {
        let (counts, loss) = (o.counts, o.loss);
        let by_kernel = o.tracker == TrackerKind::Ebpf;
        let kernels = |n: u64, reason: SetReason| if by_kernel { Ok(n) } else { Err(reason) };
        // Polling can't see a move.
        let moves = |n: u64| (by_kernel || n > 0).then_some(n);
        let not_made_good = loss.runs_not_made_good().sum();
        // What is outside of the tracer's pid namespace no sample can catch, however long it lives.
        let never_sampled = o.processes.iter().filter(|r| r.times_sampled == 0 && r.pid != 0).count();
        let records = loss.ring_full.saturating_add(loss.unmarked).saturating_add(loss.undecodable);
        Self {
            lower_bounds: lower_bounds(o, descendants),
            seen: counts.alive_at_start.saturating_add(counts.forks).saturating_add(counts.moved_in),
            execs: counts.execs.ok_or(SetReason::NotPolled),
            threads: counts.threads.ok_or(SetReason::NotPolled),
            moved_in: moves(counts.moved_in),
            moved_out: moves(counts.moved_out),
            moved_reason: (!by_kernel).then_some(SetReason::NotPolled),
            short_lived: kernels(never_sampled as u64, SetReason::Polled),
            lost_events: kernels(records.saturating_add(not_made_good), SetReason::NoRecords),
            missed_runs: match (by_kernel, loss.missed_runs_unknown) {
                (false, _) => Err(SetReason::NoProgram),
                (true, true) => Err(SetReason::MissedRunsUnknown),
                (true, false) => Ok(loss.missed_runs.sum()),
            },
            missed_runs_made_good: loss.missed_runs.sum().saturating_sub(not_made_good),
        }
    }
}

/// Why some process of the target may be in no count, or in no sum.
pub(super) fn complete(o: &Observation, descendants: bool) -> Result<(), SetReason> {
    if !descendants {
        return Err(SetReason::NoDescendants);
    }
    if o.tracker == TrackerKind::Proc {
        return Err(SetReason::Polled);
    }
    if !o.tracker_is_complete {
        return Err(SetReason::TrackerIncomplete);
    }
    let loss = &o.loss;
    let lost = loss.runs_not_made_good().sum();
    if lost > 0 {
        return Err(SetReason::MissedRuns { lost });
    }
    if loss.missed_runs_unknown {
        return Err(SetReason::MissedRunsUnknown);
    }
    let ends = loss.unexplained_ends();
    if ends > 0 {
        return Err(SetReason::UnexplainedEnds { ends });
    }
    if nothing_lost(loss) { Ok(()) } else { Err(SetReason::RecordsLost) }
}

/// A bounded list of events loses no process and no CPU time; anything else in `loss` does.
const fn nothing_lost(loss: &Loss) -> bool {
    loss.ring_full == 0
        && loss.unmarked == 0
        && loss.undecodable == 0
        && loss.unreadable == 0
        && loss.unlisted_processes == 0
}

/// Which counts are lower bounds, and why.
fn lower_bounds(o: &Observation, descendants: bool) -> Option<(&'static [&'static str], SetReason)> {
    let loss = &o.loss;
    if o.tracker != TrackerKind::Ebpf {
        let why = if descendants { SetReason::Polled } else { SetReason::NoDescendants };
        return Some((POLLED_COUNTS, why));
    }
    if loss.unmarked > 0 {
        return Some((ALL_COUNTS, SetReason::Unmarked { processes: loss.unmarked }));
    }
    let missed = loss.runs_not_made_good();
    let births = missed.forks.saturating_add(missed.moves);
    if births > 0 {
        return Some((ALL_COUNTS, SetReason::BirthsMissed { births }));
    }
    let ends = missed.exits.saturating_add(loss.unexplained_ends());
    if ends > 0 {
        return Some((EXITS, SetReason::EndsMissed { ends }));
    }
    let processes = loss.unlisted_processes + loss.ring_full_by.forks + loss.undecodable;
    (processes > 0).then_some((LISTED_COUNTS, SetReason::Unlisted { processes }))
}
