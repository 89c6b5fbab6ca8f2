//! What the server's processes did.

use super::{Figure, Unit, Value};
use crate::report::model::{ProcessCounts, Report};

type Entry = Figure<Report>;

pub const SET: &[Entry] = &[
    Entry::new(
        "processes.counts.seen",
        "processes",
        Unit::Count("processes"),
        "alive at the start, forked and moved in",
        |r| counts(r, |c| Value::Count(c.seen)),
    ),
    Entry::new(
        "processes.counts.alive_at_start",
        "alive at the start",
        Unit::Count("processes"),
        "members when the window began",
        |r| counts(r, |c| Value::Count(c.alive_at_start)),
    ),
    Entry::new(
        "processes.counts.forks",
        "forked",
        Unit::Count("processes"),
        "processes (thread groups) that were born into the set during the run",
        |r| counts(r, |c| Value::Count(c.forks)),
    ),
    Entry::new(
        "processes.counts.execs",
        "executed",
        Unit::Count("execs"),
        "successful execs; /proc polling can't see them",
        |r| counts(r, |c| Value::count(c.execs, c.execs_reason.as_ref())),
    ),
    Entry::new(
        "processes.counts.exits",
        "ended",
        Unit::Count("processes"),
        "processes (thread groups) that ended",
        |r| counts(r, |c| Value::Count(c.exits)),
    ),
    Entry::new(
        "processes.counts.peak_alive",
        "at most at once",
        Unit::Count("processes"),
        "the most members at a time",
        |r| counts(r, |c| Value::Count(c.peak_alive)),
    ),
    Entry::new(
        "processes.counts.short_lived",
        "never caught by a sample",
        Unit::Count("processes"),
        "listed processes that no /proc sample saw; their CPU is in every figure",
        |r| counts(r, |c| Value::count(c.short_lived, c.short_lived_reason.as_ref())),
    ),
    Entry::new(
        "processes.counts.lost_events",
        "records lost",
        Unit::Count("records"),
        "the kernel's records that did not arrive, by cause in `counts.lost`; counts and CPU are kept beside them",
        |r| counts(r, |c| Value::count(c.lost_events, c.lost_events_reason.as_ref())),
    ),
    Entry::new(
        "processes.cpu.total_ns",
        "CPU",
        Unit::Nanoseconds,
        "CPU time of every process of the set within the run's window, ended ones included; what they used before it, or \
         before they were moved in, is left out",
        |r| Value::count(r.processes.cpu.total_ns, r.processes.tracker_reason.as_ref()),
    ),
    Entry::new(
        "processes.cpu.user_ns",
        "CPU, user",
        Unit::Nanoseconds,
        "the part of the CPU time in user space, split as the kernel splits it for wait4",
        |r| Value::count(r.processes.cpu.user_ns, r.processes.tracker_reason.as_ref()),
    ),
    Entry::new(
        "processes.cpu.system_ns",
        "CPU, system",
        Unit::Nanoseconds,
        "the part of it in the kernel",
        |r| Value::count(r.processes.cpu.system_ns, r.processes.tracker_reason.as_ref()),
    ),
    Entry::new(
        "processes.cpu.exited_ns",
        "CPU of processes that ended",
        Unit::Nanoseconds,
        "the part of it that processes used which ended during the run",
        |r| Value::count(r.processes.cpu.exited_ns, r.processes.tracker_reason.as_ref()),
    ),
    Entry::new(
        "processes.cpu.cgroup_ns",
        "CPU by the cgroup",
        Unit::Nanoseconds,
        "what the kernel itself accounts to the target's cgroup over the same window",
        |r| Value::count(r.processes.cpu.cgroup_ns, r.processes.cpu.reconciliation_reason.as_ref()),
    ),
    Entry::new(
        "processes.cpu.reconciliation_error_pct",
        "against the cgroup",
        Unit::Percent,
        "the set's CPU less the cgroup's, of the cgroup's",
        |r| {
            let cpu = &r.processes.cpu;
            Value::number(cpu.reconciliation_error_pct, cpu.reconciliation_reason.as_ref())
        },
    ),
    Entry::new(
        "resources.cpu_percent",
        "CPUs busy",
        Unit::Percent,
        "of one CPU, between two samples: 200 is two CPUs busy. The mean is by time",
        |r| Value::shares(&r.resources.cpu_percent),
    ),
    Entry::new(
        "resources.peak_rss_bytes",
        "peak RSS",
        Unit::Bytes,
        "the largest sum of resident memory that a sample saw, or what one process held at its own peak (the kernel's mark), \
         whichever is more. In a sum, pages that forked processes share count once for each; `peak_rss_kind` tells \
         whether the set may have held more between two samples",
        |r| Value::count(r.resources.peak_rss_bytes, r.resources.rss_bytes.reason.as_ref()),
    ),
    Entry::new(
        "resources.rss_bytes",
        "RSS",
        Unit::Bytes,
        "resident memory, summed over the processes, by samples",
        |r| Value::whole(&r.resources.rss_bytes),
    ),
    Entry::new(
        "resources.pss_bytes",
        "peak PSS",
        Unit::Bytes,
        "resident memory with shared pages divided among their users (smaps_rollup): what the set occupies. Read once a \
         second and at new peaks of RSS",
        |r| Value::whole(&r.resources.pss_bytes),
    ),
    Entry::new(
        "resources.memory_peak_bytes",
        "cgroup's peak",
        Unit::Bytes,
        "the kernel's own account of the target's cgroup, page cache and kernel memory included, since the cgroup was made",
        |r| Value::count(r.resources.memory_peak_bytes, r.resources.memory_peak_reason.as_ref()),
    ),
    Entry::new(
        "resources.size_memory_by_bytes",
        "the number to size memory by",
        Unit::Bytes,
        "the cgroup's own peak, or PSS where it was read at the peak of RSS; unknown where nothing tells more than a lower bound",
        |r| Value::count(r.resources.size_memory_by_bytes, r.resources.size_memory_by_reason.as_ref()),
    ),
    Entry::new(
        "resources.threads",
        "peak threads",
        Unit::Count("threads"),
        "threads of all processes, by samples",
        |r| Value::whole(&r.resources.threads),
    ),
];

fn counts(report: &Report, get: impl FnOnce(&ProcessCounts) -> Value<'_>) -> Value<'_> {
    let p = &report.processes;
    p.counts.as_ref().map_or_else(|| Value::unknown(p.counts_reason.as_ref()), get)
}
