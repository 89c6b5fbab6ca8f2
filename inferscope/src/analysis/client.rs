//! What the client cost, and whether it was in the way.
//!
//! Owns the judgement on the load's own thread: late sends, late reads, a late timer, a CPU that had no more
//! to give. Called by `analysis` and `validity`.

use hdrhistogram::Histogram;

use crate::aggregate::load::LoadTotals;
use crate::aggregate::load::distribution::Distribution;
use crate::figures::load::LoadFigures;
use crate::figures::load::latency::Latency;
use crate::plan::Shape;
use crate::reason::{Apart as _, LoadReason};
use crate::report::build::distribution::latency;
use crate::report::model::{self, Level};
use crate::units::Nanos;

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
pub(super) fn own(load: Option<&LoadTotals>, own: model::SelfCost) -> model::SelfCost {
    let Some(load) = load else { return own };
    let (cpu, time) = thread_cpu(load);
    let timer = timer_lag(load);
    let read = load.client.read_lag.as_ref().and_then(|lag| Distribution::of_histogram(lag).recorded());
    let read = read.ok_or(match load.client.unstamped_reads {
        0 => LoadReason::NothingRead,
        _ => LoadReason::NoKernelStamps,
    });
    let shown = |recorded| latency(&Latency { values: Ok(recorded), without_percentiles: None });
    let (read_lag_ns, read_lag_reason) = read.map(shown).apart();
    model::SelfCost {
        load_cpu_ns: Some(cpu.0),
        load_cpu_percent: busy_percent(cpu, time),
        read_lag_ns,
        read_lag_reason,
        unstamped_reads: Some(load.client.unstamped_reads),
        timer_lag_ns: (time > Nanos::ZERO).then(|| {
            let lag = Distribution::of_histogram(&timer).recorded();
            latency(&Latency::of(lag, LoadReason::TimerNotLooked))
        }),
        ..own
    }
}

/// CPU time of the thread that sends and reads, and the time it had, over all phases.
fn thread_cpu(load: &LoadTotals) -> (Nanos, Nanos) {
    let phases = || load.phases();
    (phases().map(|p| p.thread_cpu).sum(), phases().map(|p| p.ended.since(p.started)).sum())
}

/// One way in which the client was the bottleneck.
pub(super) struct InTheWay {
    pub(super) level: Level,
    pub(super) code: &'static str,
    /// With the figure.
    pub(super) why: String,
}

pub(super) fn in_the_way(load: &LoadFigures<'_>) -> Vec<InTheWay> {
    let measured = load.totals;
    let sends = measured.steps.iter().filter(|step| !matches!(step.shape, Shape::Closed { .. }));
    let sends = sends.filter_map(|step| step.lag.as_ref());
    let sends = sends.filter(|lag| lag.count >= LEAST_VALUES).filter_map(|lag| lag.p99).max();
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
    let phases = || measured.phases();
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
    let out = measured.all.left_out;
    let all_gaps = || measured.steps.iter().filter_map(|step| step.latencies.inter_chunk.as_ref());
    let largest = all_gaps().map(|gaps| gaps.max).max();
    let gaps = all_gaps().map(|gaps| gaps.count).sum::<u64>();
    // For the record where it is little: what is shown holds without it.
    let is_much = out.longest > TIMER.doubt
        || out.gaps.saturating_mul(100) > gaps.saturating_add(out.gaps)
        || out.first_tokens.max(out.ends).saturating_mul(10) > measured.all.ok;
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

fn timer_lag(load: &LoadTotals) -> Histogram<u64> {
    let mut all = Histogram::new(3).expect("three digits are digits that it takes");
    for phase in load.phases() {
        all.add(&phase.timer_lag).expect("it grows as it has to");
    }
    all
}

fn quantile(lag: Option<&Histogram<u64>>) -> Option<u64> {
    lag.filter(|h| h.len() >= LEAST_VALUES).map(|h| h.value_at_quantile(0.99))
}
