//! What the client cost, as `self` has it.
//!
//! Owns the rounding. A part of `build`.

use crate::aggregate::load::LoadTotals;
use crate::aggregate::load::distribution::Distribution;
use crate::figures::client::{busy_percent, thread_cpu, timer_lag};
use crate::figures::load::latency::Latency;
use crate::reason::{Apart as _, LoadReason};
use crate::units::Nanos;

use super::super::model;
use super::distribution::latency;

/// What `self` says of the client.
pub(crate) fn own(load: Option<&LoadTotals>, own: model::SelfCost) -> model::SelfCost {
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
