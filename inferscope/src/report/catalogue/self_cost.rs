//! What inferscope itself cost, and how late it was.

use super::{Figure, Unit, Value};
use crate::report::model::SelfCost;

type Entry = Figure<SelfCost>;

pub const SELF_COST: &[Entry] = &[
    Entry::new(
        "self.cpu_ns",
        "cost",
        Unit::Nanoseconds,
        "CPU time of all its threads, from its first instructions on",
        |s| Value::count(s.cpu_ns, None),
    ),
    Entry::new("self.max_rss_bytes", "peak memory", Unit::Bytes, "its resident memory's peak (VmHWM)", |s| {
        Value::count(s.max_rss_bytes, None)
    }),
    Entry::new(
        "self.load_cpu_ns",
        "load thread",
        Unit::Nanoseconds,
        "CPU time of the thread that sends and reads, while it had a load",
        |s| Value::count(s.load_cpu_ns, None),
    ),
    Entry::new(
        "self.load_cpu_percent",
        "load thread, of its time",
        Unit::Percent,
        "the share of that time in which the thread was on a CPU",
        |s| Value::number(s.load_cpu_percent, None),
    ),
    Entry::new(
        "self.read_lag_ns",
        "read lag",
        Unit::Nanoseconds,
        "from the kernel's receipt of bytes to their reading; the stamps of tokens are the kernel's, so it is in no latency",
        |s| s.read_lag_ns.as_ref().map_or_else(|| Value::unknown(s.read_lag_reason.as_ref()), Value::Dist),
    ),
    Entry::new(
        "self.timer_lag_ns",
        "timer lag",
        Unit::Nanoseconds,
        "how late the load thread's own timer was; it looks every 20 ms",
        |s| s.timer_lag_ns.as_ref().map_or(Value::Unknown(None), Value::Dist),
    ),
    Entry::new(
        "self.bpf_run_ns",
        "kernel program",
        Unit::Nanoseconds,
        "time within the kernel programs (bpf_stats), which costs more than they do and is read on demand",
        |s| Value::count(s.bpf_run_ns, s.bpf_reason.as_ref()),
    ),
    Entry::new(
        "self.sample_overruns",
        "late samples",
        Unit::Count("samples"),
        "looks at /proc that took longer than their interval",
        |s| Value::count(s.sample_overruns, None),
    ),
];
