//! What makes figures of the process set doubtful.
//!
//! Owns the entries of `validity` that the observation gives rise to. A part of `validity`.

use super::super::RunFacts;
use super::super::doubt::DoubtCode;
use super::super::wrapper_warning::idle_target;
use super::Entries;
use crate::event::{Loss, LostRecords, MissedRuns, Observation, ProcessRecord, TrackerKind};
use crate::figures::set::{Mismatch, SetCpu, SetFigures};
use crate::units::Nanos;

/// Killed processes that are named.
const NAMED: usize = 4;

pub(super) fn observed(all: &mut Entries, run: &RunFacts<'_>, set: &SetFigures<'_>, is_load_measured: bool) {
    let o = set.observation;
    if let Some(message) = idle_target(o, run.roots, run.descendants) {
        all.warn(DoubtCode::IdleTarget, message);
    }
    if !run.descendants {
        all.warn(DoubtCode::NoDescendants, "only the given pid was watched: its children are in no figure");
    }
    tracker(all, o);
    killed(all, o);
    losses(all, run, o);
    provisional(all, o);
    reconciliation(all, o, &set.cpu);
    moves(all, o);
    sampling(all, run, o);
    if o.target_ended.is_some() {
        // Without a load, a run ends with its target; with one, a command is ended after it (where it ended
        // earlier, `session` says so).
        if is_load_measured && !run.is_exec {
            all.warn(
                DoubtCode::TargetEnded,
                "the target ended during the run: later figures hold nothing of it",
            );
        } else {
            all.ok(DoubtCode::TargetEnded, "the target ended, and the observation with it");
        }
    }
}

fn tracker(all: &mut Entries, o: &Observation) {
    let because = o.tracker_reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
    if o.tracker == TrackerKind::Proc {
        all.warn(
            DoubtCode::TrackerProc,
            format!(
                "processes were followed by polling /proc{because}: what lives between two looks is missed, so \
                 process counts and CPU are lower bounds"
            ),
        );
    } else if !o.tracker_is_complete {
        all.warn(
            DoubtCode::TrackerIncomplete,
            format!("the tracker cannot promise that it saw every process{because}: counts and CPU are lower bounds"),
        );
    }
}

fn killed(all: &mut Entries, o: &Observation) {
    let killed: Vec<String> = o
        .processes
        .iter()
        .filter(|p| p.oom_killed == Some(true))
        .map(|p| format!("pid {} ({})", p.pid, p.comm))
        .collect();
    if killed.is_empty() {
        return;
    }
    let more = killed.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    all.warn(
        DoubtCode::OomKilled,
        format!(
            "the kernel's OOM killer chose {}{more}: memory ran out, and later figures are of what was left",
            killed[..killed.len().min(NAMED)].join(", ")
        ),
    );
}

/// The kernel's figure at exit lacks what the last time slice used (0.1–2.3 ms); the final
/// one comes when the process is reaped and its task freed.
fn provisional(all: &mut Entries, o: &Observation) {
    let provisional = |p: &&ProcessRecord| p.exited.is_some() && p.cpu.is_some() && !p.cpu_is_final;
    let n = o.processes.iter().filter(provisional).count();
    if o.tracker == TrackerKind::Ebpf && n > 0 {
        all.warn(
            DoubtCode::CpuNotFinal,
            format!("{n} ended processes have their CPU as of their exit: up to 3 ms short each"),
        );
    }
}

fn losses(all: &mut Entries, run: &RunFacts<'_>, o: &Observation) {
    let (loss, plan) = (&o.loss, &run.plan.observe);
    let unlisted = ms(o.cpu_unlisted.total());
    let mut lost = |n: u64, code: DoubtCode, what: &str| {
        if n > 0 {
            all.warn(code, format!("{n} {what}"));
        }
    };
    lost(
        loss.ring_full,
        DoubtCode::LostRingFull,
        &format!(
            "kernel records did not fit the ring{}: the counts of births, ends, execs and threads and the CPU totals \
             are exact, the kernel program keeps them itself, but lines of the list, what they tell, and events may \
             be missing; {unlisted} of CPU are in no line; raise --ring-size (now {}K)",
            of_what(loss.ring_full_by),
            plan.ring_bytes / 1024
        ),
    );
    lost(
        loss.unmarked,
        DoubtCode::LostUnmarked,
        "processes could not be followed, the kernel had no memory for it: they and their descendants are in no \
         figure",
    );
    lost(
        loss.undecodable,
        DoubtCode::LostUndecodable,
        "kernel records could not be decoded: processes and events may be missing from the list; please report \
         this as a bug",
    );
    lost(
        loss.unexplained_ends(),
        DoubtCode::LostEnds,
        "processes were gone without a record of their end: the count of ends is a lower bound, and their CPU is as \
         of the last sample; please report this as a bug",
    );
    lost(
        loss.unreadable,
        DoubtCode::LostUnreadable,
        "readings of processes were refused by /proc or came too late: memory, threads and CPU are lower bounds",
    );
    let in_totals = format!("they are in the CPU totals ({unlisted} are in no line)");
    let where_they_are = match (o.tracker, loss.unfollowed_processes) {
        (_, 0) => format!("{in_totals}, but their own peaks of memory are in no figure"),
        (TrackerKind::Ebpf, n) => format!("{in_totals}, but {n} of them in no memory or thread figure"),
        (_, n) => format!("{n} of them are in no memory, thread or CPU figure"),
    };
    lost(
        loss.unlisted_processes,
        DoubtCode::UnlistedProcesses,
        &format!(
            "processes are counted but not listed, the list had reached its bound of {}: {where_they_are}; raise \
             --max-processes",
            plan.max_processes
        ),
    );
    missed_runs(all, loss);
    if loss.unlisted_events > 0 {
        all.ok(
            DoubtCode::UnlistedEvents,
            format!("{} events are not listed: the list had reached its bound", loss.unlisted_events),
        );
    }
}

/// A program is not run on a CPU where it is running already, and from Linux 7.0 on it can be preempted there.
fn missed_runs(all: &mut Entries, loss: &Loss) {
    const CODE: DoubtCode = DoubtCode::KernelMisses;
    if loss.missed_runs_unknown {
        all.warn(
            CODE,
            "the kernel does not tell whether it skipped runs of the kernel program: processes may be in no figure",
        );
    }
    let (missed, lost) = (loss.missed_runs.sum(), loss.runs_not_made_good());
    if lost.sum() == 0 {
        if missed > 0 {
            let text = "runs of the kernel program were skipped by the kernel; none of them lost a figure: each was \
                        made good by another program, or had nothing to tell of the target";
            all.ok(CODE, format!("{missed} {text}"));
        }
        return;
    }
    let mut text = format!(
        "{} runs of the kernel program were skipped by the kernel, of any process of the machine{}",
        lost.sum(),
        of_missed(lost)
    );
    if lost.forks > 0 || lost.moves > 0 {
        text.push_str(": members that came then are in no figure, nor are their descendants");
    }
    if lost.exits > 0 {
        text.push_str("; members that ended then have their CPU as of the last sample, and no exit status");
    }
    if lost.execs > 0 {
        text.push_str("; of an exec then there is only the count");
    }
    if lost.others > 0 {
        text.push_str("; word of an OOM kill may be missing");
    }
    all.warn(CODE, text);
}

fn of_missed(by: MissedRuns) -> String {
    listed(&[
        (by.forks, "births"),
        (by.execs, "execs"),
        (by.exits, "ends"),
        (by.moves, "moves"),
        (by.others, "kills"),
    ])
}

/// ` (20 births, 3 ends)`; nothing where it was not told.
fn of_what(by: LostRecords) -> String {
    listed(&[
        (by.forks, "births"),
        (by.execs, "execs"),
        (by.exits, "ends"),
        (by.frees, "final figures"),
        (by.others, "moves and kills"),
    ])
}

fn listed(kinds: &[(u64, &str)]) -> String {
    let told = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    let told = told.collect::<Vec<_>>().join(", ");
    if told.is_empty() { told } else { format!(" ({told})") }
}

fn reconciliation(all: &mut Entries, o: &Observation, cpu: &SetCpu<'_>) {
    let Some(mismatch) = cpu.mismatch() else { return };
    let apart = cpu.apart.as_ref().map_or(0.0, |part| part * 100.0).abs();
    let file = cpu.cgroup_file.unwrap_or("its file");
    let means = match mismatch {
        Mismatch::SetHasMore if o.counts.moved_out > 0 => format!(
            "less CPU than its processes used: the {} that were moved out are charged elsewhere since, or threads \
             of a member are",
            o.counts.moved_out
        ),
        Mismatch::SetHasMore => {
            "less CPU than its processes used: threads of a member may be charged to another cgroup"
                .to_owned()
        }
        Mismatch::CgroupHasMore => format!(
            "more CPU than the set, beyond the {} that the kernel charges for ends and threads: processes that the \
             set does not hold ran in it, or figures of its own are missing",
            ms(cpu.cgroup.map(|c| c.overhead).unwrap_or_default())
        ),
    };
    all.warn(
        DoubtCode::CgroupMismatch,
        format!("the cgroup ({file}) has {means}; they are {apart:.1}% apart"),
    );
}

fn moves(all: &mut Entries, o: &Observation) {
    let (moved_in, moved_out) = (o.counts.moved_in, o.counts.moved_out);
    if moved_in > 0 {
        all.ok(
            DoubtCode::MovedIn,
            format!(
                "{moved_in} processes were moved into the cgroup: they count from then on, and what they had used \
                 before is kept apart"
            ),
        );
    }
    if moved_out > 0 {
        let left = o.processes.iter().any(|p| p.left.is_some());
        let since = if left {
            "they left the set, and what they used since is in no figure"
        } else {
            "they stay in the set with their children, and what they used since is charged to another cgroup"
        };
        all.ok(DoubtCode::MovedOut, format!("{moved_out} processes were moved out of the cgroup: {since}"));
    }
}

fn sampling(all: &mut Entries, run: &RunFacts<'_>, o: &Observation) {
    if o.samples.is_empty() {
        all.warn(DoubtCode::NoSamples, "the set was never sampled: memory and threads over time are unknown");
    }
    let asked = run.plan.observe.sample_interval;
    if o.sample_interval > asked {
        all.warn(
            DoubtCode::SampleIntervalStretched,
            format!(
                "a look at all processes took too long for an interval of {}: it was stretched to {}, and peaks of \
                 memory, threads and CPU percent between two samples may be missed",
                ms(asked),
                ms(o.sample_interval)
            ),
        );
    }
    if o.sample_overruns > 0 {
        all.warn(
            DoubtCode::SampleOverruns,
            format!(
                "{} samples came more than an interval late: peaks of memory, threads and CPU percent may be missed",
                o.sample_overruns
            ),
        );
    }
    if o.samples_thinned > 0 {
        all.ok(
            DoubtCode::SamplesThinned,
            format!(
                "{} samples were dropped to bound the list: the interval kept is longer",
                o.samples_thinned
            ),
        );
    }
}

fn ms(n: Nanos) -> String {
    let ms = n.as_secs_f64() * 1e3;
    if ms >= 10.0 { format!("{ms:.0} ms") } else { format!("{ms:.2} ms") }
}
