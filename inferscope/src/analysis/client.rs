//! What the client cost, and whether it was in the way.
//!
//! Owns the judgement on the load's own thread: late sends, late reads, a late timer, a CPU that had no more
//! to give. Called by `analysis` and `validity`.

use hdrhistogram::Histogram;

use crate::plan::Shape;
use crate::report::model;
use crate::units::Nanos;

use super::dist::Distribution;
use super::measured::Measured;

/// Later than this the load is another than the one that was asked for. In a hundred, one may be.
const LATE_SEND: Nanos = Nanos::from_millis(10);
/// The kernel keeps the time of what was not read yet, but what came together is read, and stamped, together.
const LATE_READ: Nanos = Nanos::from_millis(10);
const LATE_TIMER: Nanos = Nanos::from_millis(20);
/// Of a CPU, in percent: beyond it every event waits for the one before.
const BUSY_PERCENT: f64 = 90.0;

/// What `self` says of the client.
pub(super) fn own(measured: Option<&Measured>, own: model::Own) -> model::Own {
    let Some(measured) = measured else { return own };
    let (cpu, time) = measured.thread_cpu();
    let timer = timer_lag(measured);
    let read = measured.client.read_lag.as_ref().filter(|h| !h.is_empty());
    model::Own {
        load_cpu_ns: Some(cpu.0),
        load_cpu_percent: busy_percent(measured),
        read_lag_ns: read.map(|h| Distribution::of_histogram(h).report("")),
        read_lag_reason: read.is_none().then(|| {
            "the kernel's receive times are not to be had on this connection: tokens are stamped when they are read"
                .to_owned()
        }),
        timer_lag_ns: (time > Nanos::ZERO)
            .then(|| Distribution::of_histogram(&timer).report("the load was over before the timer was looked at")),
        ..own
    }
}

/// In which ways the client was the bottleneck, each with the figure.
pub(super) fn in_the_way(measured: &Measured) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let late = measured.done.iter().filter(|d| !matches!(d.shape, Shape::Closed { .. }));
    if let Some(lag) = late.filter_map(|d| d.lag_p99).max().filter(|lag| *lag > LATE_SEND.0) {
        all.push((
            "client_late",
            format!("1% of the requests were sent {:.1} ms late or more", lag as f64 / 1e6),
        ));
    }
    if let Some(lag) = quantile(measured.client.read_lag.as_ref()).filter(|lag| *lag > LATE_READ.0) {
        let text = format!("1% of what came was read {:.1} ms late or more", lag as f64 / 1e6);
        all.push(("client_slow_reads", text));
    }
    if let Some(lag) = quantile(Some(&timer_lag(measured))).filter(|lag| *lag > LATE_TIMER.0) {
        all.push((
            "client_stalled",
            format!("its thread was {:.1} ms late or more in 1% of its looks", lag as f64 / 1e6),
        ));
    }
    if let Some(percent) = busy_percent(measured).filter(|percent| *percent > BUSY_PERCENT) {
        all.push(("client_busy", format!("its thread used {percent:.0}% of a CPU")));
    }
    all
}

fn busy_percent(measured: &Measured) -> Option<f64> {
    let (cpu, time) = measured.thread_cpu();
    (time > Nanos::ZERO).then(|| cpu.0 as f64 / time.0 as f64 * 100.0)
}

fn timer_lag(measured: &Measured) -> Histogram<u64> {
    let mut all = Histogram::new(3).expect("three digits are digits that it takes");
    for phase in measured.done.iter().flat_map(|d| &d.phases) {
        all.add(&phase.timer_lag).expect("it grows as it has to");
    }
    all
}

/// A hundredth of few values is none of them.
fn quantile(lag: Option<&Histogram<u64>>) -> Option<u64> {
    lag.filter(|h| h.len() >= 100).map(|h| h.value_at_quantile(0.99))
}
