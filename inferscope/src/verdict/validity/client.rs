//! Whether the client was in the way.
//!
//! Owns the judgement on the load's own thread: late sends, late reads, a late timer, a CPU that had no more to give. A part of
//! `validity`.

use hdrhistogram::Histogram;

use super::super::doubt::{DoubtCode, DoubtLevel};
use crate::aggregate::load::latencies::LatencyKind;
use crate::figures::client::{busy_percent, timer_lag};
use crate::figures::load::LoadFigures;
use crate::plan::Shape;
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

/// One way in which the client was the bottleneck.
pub(super) struct InTheWay {
    pub(super) level: DoubtLevel,
    pub(super) code: DoubtCode,
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
            _ if p99 > limits.invalid => DoubtLevel::Invalid,
            _ if p99 > limits.doubt => DoubtLevel::Warn,
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
        level: DoubtLevel::Invalid,
        code: DoubtCode::ClientBusy,
        why: format!("the thread that sends and reads used {percent:.0}% of a CPU"),
    });
    let out = measured.all.left_out;
    let all_gaps = || measured.steps.iter().filter_map(|step| step.latencies.get(LatencyKind::InterChunk));
    let largest = all_gaps().map(|gaps| gaps.max).max();
    let gaps = all_gaps().map(|gaps| gaps.count).sum::<u64>();
    // For the record where it is little: what is shown holds without it.
    let is_much = out.longest > TIMER.doubt
        || out.gaps.saturating_mul(100) > gaps.saturating_add(out.gaps)
        || out.first_tokens.max(out.ends).saturating_mul(10) > measured.all.ok;
    let left_out = out.any().then(|| InTheWay {
        level: if is_much { DoubtLevel::Warn } else { DoubtLevel::ForTheRecord },
        code: DoubtCode::ClientStalled,
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
    let timer = late(DoubtCode::ClientStalled, "the looks at its timer were", timer, TIMER);
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
        late(DoubtCode::ClientLate, "the requests were sent", sends, SENDS),
        late(
            DoubtCode::ClientSlowReads,
            "what came was read",
            quantile(measured.client.read_lag.as_ref()),
            READS,
        ),
        busy,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn quantile(lag: Option<&Histogram<u64>>) -> Option<u64> {
    lag.filter(|h| h.len() >= LEAST_VALUES).map(|h| h.value_at_quantile(0.99))
}
