//! What the client itself used and how late it was.
//!
//! Owns the sums over the phases of the thread that sends and reads. Never judges (`verdict` does). Called by `verdict` and
//! `report::build`.

use hdrhistogram::Histogram;

use crate::aggregate::load::LoadTotals;
use crate::units::Nanos;

/// CPU time of the thread that sends and reads, and the time it had, over all phases.
pub(crate) fn thread_cpu(load: &LoadTotals) -> (Nanos, Nanos) {
    let phases = || load.phases();
    (phases().map(|p| p.thread_cpu).sum(), phases().map(|p| p.ended.since(p.started)).sum())
}

pub(crate) fn busy_percent(cpu: Nanos, time: Nanos) -> Option<f64> {
    (time > Nanos::ZERO).then(|| cpu.0 as f64 / time.0 as f64 * 100.0)
}

pub(crate) fn timer_lag(load: &LoadTotals) -> Histogram<u64> {
    let mut all = Histogram::new(3).expect("three digits are digits that it takes");
    for phase in load.phases() {
        all.add(&phase.timer_lag).expect("it grows as it has to");
    }
    all
}
