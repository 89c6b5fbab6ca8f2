//! What was sent, and how it went out.

use super::{Figure, Unit, Value};
use crate::report::model::Load;

type Entry = Figure<Load>;

/// Apart from the others, as `timing.definitions` has it: it is a part of the latencies of an open loop.
pub const CONNECT: &[Entry] = &[Entry::new(
    "load.connect_ns",
    "connection set-up",
    Unit::Nanoseconds,
    "DNS, TCP and TLS of a connection that was opened for a request (load.connect_ns: the successful measured ones); a \
     request on an open connection has none",
    |l| Value::Dist(&l.connect_ns),
)];

pub const LOAD: &[Entry] = &[
    Entry::new(
        "load.requests_sent",
        "requests",
        Unit::Count("requests"),
        "measured requests that were sent: warm-up is apart, in `load.warmup`",
        |l| Value::Count(l.requests_sent),
    ),
    Entry::new(
        "load.requests_ok",
        "successful requests",
        Unit::Count("requests"),
        "measured requests with a whole answer that holds a token",
        |l| Value::Count(l.requests_ok),
    ),
    Entry::new(
        "load.requests_failed",
        "failed requests",
        Unit::Count("requests"),
        "measured requests without; `load.failures` has their causes. What they delivered is in the rates, their times are in \
         no latency",
        |l| Value::Count(l.requests_failed),
    ),
    Entry::new(
        "load.requests_resent",
        "resent requests",
        Unit::Count("requests"),
        "sent once more, on a fresh connection, as the server ended a kept-alive one without a byte of an answer",
        |l| Value::Count(l.requests_resent),
    ),
    Entry::new(
        "load.in_flight.mean",
        "in flight",
        Unit::Count("requests"),
        "measured requests under way, the mean over the time of the window: reached, not asked for",
        |l| Value::number(l.in_flight.mean, None),
    ),
    Entry::new(
        "load.in_flight.max",
        "in flight, at most",
        Unit::Count("requests"),
        "the most measured requests that were under way at a time",
        |l| Value::count(l.in_flight.max.map(u64::from), None),
    ),
    Entry::new(
        "load.offered_rate_per_s",
        "offered",
        Unit::PerSecond("requests"),
        "measured requests of an open loop / the time in which they went out. A closed loop and a sweep have none",
        |l| Value::number(l.offered_rate_per_s, None),
    ),
    Entry::new(
        "load.schedule_lag_ns",
        "schedule",
        Unit::Nanoseconds,
        "of an open loop: when a request was sent less when it was due",
        |l| Value::Dist(&l.schedule_lag_ns),
    ),
];
