//! What the client cost, and whether it was in the way.
//!
//! Owns the judgement on the load's own thread: late sends, late reads, a late timer, a CPU that had no more
//! to give. Called by `analysis` and `validity`.

use hdrhistogram::Histogram;

use crate::plan::Shape;
use crate::report::model::{self, Level};
use crate::units::Nanos;

use super::histogram::Distribution;
use super::load_aggregate::Measured;

/// How late 1% of something may be before it is a doubt, and before the run is not the server's alone any more.
struct Limits {
    doubt: Nanos,
    invalid: Nanos,
}

/// Later than this the load is another than the one that was asked for.
const SENDS: Limits = Limits { doubt: Nanos::from_millis(5), invalid: Nanos::from_millis(20) };
/// The kernel keeps the time of what was not read yet, but what came together is read, and stamped, together.
const READS: Limits = Limits { doubt: Nanos::from_millis(2), invalid: Nanos::from_millis(20) };
const TIMER: Limits = Limits { doubt: Nanos::from_millis(20), invalid: Nanos::from_millis(60) };
/// Of a CPU, in percent: beyond it every event waits for the one before.
const BUSY_PERCENT: f64 = 90.0;
/// A hundredth of few values is none of them.
const LEAST_VALUES: u64 = 100;
/// A shorter phase is mostly the making and the folding of its requests.
const LEAST_TIME: Nanos = Nanos::from_millis(200);

/// What `self` says of the client.
pub(super) fn own(measured: Option<&Measured>, own: model::SelfCost) -> model::SelfCost {
    let Some(measured) = measured else { return own };
    let (cpu, time) = measured.thread_cpu();
    let timer = timer_lag(measured);
    let read = measured.client.read_lag.as_ref().filter(|h| !h.is_empty());
    model::SelfCost {
        load_cpu_ns: Some(cpu.0),
        load_cpu_percent: busy_percent(cpu, time),
        read_lag_ns: read.map(|h| Distribution::of_histogram(h).report("")),
        read_lag_reason: read.is_none().then(|| {
            if measured.client.unstamped_reads == 0 {
                "nothing was read".to_owned()
            } else {
                "the kernel's receive times are not to be had on this connection: tokens are stamped when they are read"
                    .to_owned()
            }
        }),
        unstamped_reads: Some(measured.client.unstamped_reads),
        timer_lag_ns: (time > Nanos::ZERO)
            .then(|| Distribution::of_histogram(&timer).report("the load was over before the timer was looked at")),
        ..own
    }
}

/// One way in which the client was the bottleneck.
pub(super) struct InTheWay {
    pub(super) level: Level,
    pub(super) code: &'static str,
    /// With the figure.
    pub(super) why: String,
}

pub(super) fn in_the_way(measured: &Measured) -> Vec<InTheWay> {
    let sends = measured.done.iter().filter(|d| !matches!(d.shape, Shape::Closed { .. }));
    let sends = sends.filter(|d| d.lag.count >= LEAST_VALUES).filter_map(|d| d.lag.p99).max();
    let late = |code, what: &str, p99: Option<u64>, limits: Limits| {
        let p99 = Nanos(p99?);
        let level = match p99 {
            _ if p99 > limits.invalid => Level::Invalid,
            _ if p99 > limits.doubt => Level::Warn,
            _ => return None,
        };
        let why = format!("1% of {what} {:.1} ms late or more", p99.as_secs_f64() * 1e3);
        Some(InTheWay { level, code, why })
    };
    // Each phase by itself: an idle step of a sweep does not make up for a busy one.
    let phases = || measured.done.iter().flat_map(|d| &d.phases);
    let long =
        phases().map(|p| (p.thread_cpu, p.ended.since(p.started))).filter(|(_, time)| *time >= LEAST_TIME);
    let busiest = long.filter_map(|(cpu, time)| busy_percent(cpu, time)).max_by(f64::total_cmp);
    let timer = phases().filter_map(|p| quantile(Some(&p.timer_lag))).max();
    let timer = timer.or_else(|| quantile(Some(&timer_lag(measured))));
    let busy = busiest.filter(|percent| *percent > BUSY_PERCENT).map(|percent| InTheWay {
        level: Level::Invalid,
        code: "client_busy",
        why: format!("the thread that sends and reads used {percent:.0}% of a CPU"),
    });
    let out = measured.sums.left_out;
    let largest = measured.done.iter().filter_map(|d| d.timing.inter_chunk_ns.max).max();
    let gaps = measured.done.iter().map(|d| d.timing.inter_chunk_ns.count).sum::<u64>();
    // For the record where it is little: what is shown holds without it.
    let is_much = out.longest > TIMER.doubt
        || out.gaps.saturating_mul(100) > gaps.saturating_add(out.gaps)
        || out.first_tokens.max(out.ends).saturating_mul(10) > measured.sums.ok;
    let left_out = out.any().then(|| InTheWay {
        level: if is_much { Level::Warn } else { Level::Ok },
        code: "client_stalled",
        why: format!(
            "it did not look for up to {:.1} ms at a time; {} gaps, {} times to first token and {} end to end that fell \
             into it are in no figure (the largest gap shown is {:.1} ms)",
            out.longest.as_secs_f64() * 1e3,
            out.gaps,
            out.first_tokens,
            out.ends,
            largest.unwrap_or(0) as f64 / 1e6
        ),
    });
    let timer = late("client_stalled", "the looks at its timer were", timer, TIMER);
    // One entry a code: both say that the thread did not run.
    let stalled = match (left_out, timer) {
        (Some(out), Some(timer)) => Some(InTheWay {
            level: out.level.max(timer.level),
            why: format!("{}; {}", out.why, timer.why),
            ..out
        }),
        (out, timer) => out.or(timer),
    };
    [
        stalled,
        late("client_late", "the requests were sent", sends, SENDS),
        late("client_slow_reads", "what came was read", quantile(measured.client.read_lag.as_ref()), READS),
        busy,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn busy_percent(cpu: Nanos, time: Nanos) -> Option<f64> {
    (time > Nanos::ZERO).then(|| cpu.0 as f64 / time.0 as f64 * 100.0)
}

fn timer_lag(measured: &Measured) -> Histogram<u64> {
    let mut all = Histogram::new(3).expect("three digits are digits that it takes");
    for phase in measured.done.iter().flat_map(|d| &d.phases) {
        all.add(&phase.timer_lag).expect("it grows as it has to");
    }
    all
}

fn quantile(lag: Option<&Histogram<u64>>) -> Option<u64> {
    lag.filter(|h| h.len() >= LEAST_VALUES).map(|h| h.value_at_quantile(0.99))
}
