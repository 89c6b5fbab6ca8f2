//! The rule: what limits a run on a device, by the evidence on it.
//!
//! Owns the thresholds. Between "near its limit" and "far from it" lies a band in which nothing is said, so that runs
//! alike are not told opposite things. Pure. A part of `bottleneck`.
//!
//! Where they lie: NVIDIA's guide to the same counters (DCGM, *profiling metrics*) says that DRAM reaches about 80% at most,
//! that SMs active for 80% of the time are needed for good use, and that under 50% is hardly good use. A unit is called near
//! its limit from three quarters of those 80% on. Measured on an H200 (llama.cpp, Q4_K): at DRAM 21.5% (7B) and 28.7% (32B),
//! no tensor work and integer units at 48 and 56%, 16 requests at a time gave 3.8 and 5.5 times the tokens a second.

use super::evidence::{Evidence, Units};
use super::{Limit, Verdict};

/// Percent of the time: the device has work as good as always, and hardly half of it.
const BUSY: f64 = 75.0;
const WAITING: f64 = 50.0;
/// Percent of the time: there was a request to work on as good as always, and hardly half of it.
const LOADED: f64 = 90.0;
const UNLOADED: f64 = 60.0;
/// Tensor units and DRAM bandwidth, in percent.
const NEAR: f64 = 60.0;
const FAR: f64 = 40.0;
/// Integer and floating-point units: they reach all of the time.
const OTHER_NEAR: f64 = 80.0;
const OTHER_FAR: f64 = 65.0;
/// The unit that limits is so far before the others.
const LEAD: f64 = 15.0;
/// MiB a second over PCIe from which copies may be what the device waits for: a third of 16 lanes of PCIe 5.0, which every
/// device with counters has.
const MUCH_PCIE: f64 = 20_000.0;

pub(super) fn verdict(evidence: &Evidence) -> Verdict {
    Verdict { limit: limit(evidence), evidence: evidence.shown.clone() }
}

fn limit(e: &Evidence) -> Result<Limit, String> {
    if e.shared {
        return Err("other processes computed on it too: what was told of it is theirs as well".to_owned());
    }
    let busy = e.busy.clone().map_err(|why| format!("its utilisation is unknown: {why}"))?;
    if let Some(in_flight) = e.in_flight.filter(|share| *share < LOADED) {
        return match (e.client, in_flight <= UNLOADED) {
            (true, _) => Ok(Limit::Client),
            (false, true) => Ok(Limit::Idle),
            (false, false) => Err(format!(
                "no request was in flight for {:.0}% of the time: the load was a limit, and means over all of the time do not \
                 tell whether it was the only one",
                100.0 - in_flight
            )),
        };
    }
    if busy >= BUSY { when_busy(e, busy) } else { when_waiting(e, busy) }
}

fn when_busy(e: &Evidence, busy: f64) -> Result<Limit, String> {
    match &e.units {
        Ok(units) => by_units(units),
        Err(why) => Err(format!(
            "{} {busy:.0}% of the time, which is no measure of how much of it they used, and its own counters (GPM, from Hopper \
             on) are not to be had: {why}{}",
            worked(e),
            bounds(e)
        )),
    }
}

/// What the figure of the time is of.
pub(super) const fn worked(e: &Evidence) -> &'static str {
    if e.by_counters { "it had work" } else { "kernels ran" }
}

/// What is known without the units' counters.
fn bounds(e: &Evidence) -> String {
    let time =
        e.memory_time.map(|p| format!("; its memory was accessed {p:.0}% of the time, whatever the amount"));
    let read = e.most_read.map(|p| {
        format!("; decoding read at most {p:.0}% of what its memory can deliver, if each step reads what it needs once")
    });
    time.into_iter().chain(read).collect()
}

fn by_units(units: &Units) -> Result<Limit, String> {
    // On one scale: NEAR and FAR stand for what is near and far for each.
    let scaled = (units.other.1 - OTHER_FAR) / (OTHER_NEAR - OTHER_FAR) * (NEAR - FAR) + FAR;
    let all = [
        (Limit::Tensor, "its tensor units", units.tensor, units.tensor),
        (Limit::Bandwidth, "its memory's bandwidth", units.dram, units.dram),
        (Limit::Compute, units.other.0, units.other.1, scaled),
    ];
    let mut sorted = all;
    sorted.sort_by(|a, b| b.3.total_cmp(&a.3));
    let [first, second, _] = sorted;
    let name = |unit: (Limit, &'static str, f64, f64)| match unit.0 {
        Limit::Compute => format!("its {} units", unit.1),
        _ => unit.1.to_owned(),
    };
    if first.3 < FAR {
        return Ok(Limit::Latency);
    }
    if first.3 < NEAR {
        return Err(format!(
            "{} were in use {:.0}%: neither near a limit nor far from it",
            name(first),
            first.2
        ));
    }
    if first.3 - second.3 < LEAD {
        let (a, b) = (name(first), name(second));
        return Err(format!("{a} ({:.0}%) and {b} ({:.0}%) are both near their limits", first.2, second.2));
    }
    Ok(first.0)
}

fn when_waiting(e: &Evidence, busy: f64) -> Result<Limit, String> {
    if e.client {
        return Ok(Limit::Client);
    }
    let worked = worked(e);
    if !e.was_sent {
        return Err(format!(
            "{worked} {busy:.0}% of the time; nothing was sent, and whether the server had requests is not known"
        ));
    }
    if e.in_flight_least.is_none_or(|share| share < LOADED) {
        return Err(format!(
            "{worked} {busy:.0}% of the time; how long requests were in flight is not known"
        ));
    }
    if busy > WAITING {
        return Err(format!(
            "{worked} {busy:.0}% of the time: it partly waits though requests are in flight, and partly works{}",
            match &e.units {
                Ok(units) if by_units(units) == Ok(Limit::Latency) =>
                    ", with none of its units near its limit",
                _ => "",
            }
        ));
    }
    if e.pcie.is_some_and(|rate| rate >= MUCH_PCIE) {
        return Err(format!(
            "{worked} {busy:.0}% of the time; {:.0} MiB a second went over PCIe, so that it may wait for copies",
            e.pcie.unwrap_or_default()
        ));
    }
    if e.busy_together.is_none_or(|all| all > WAITING) {
        return Err(format!("{worked} {busy:.0}% of the time; the target's devices may wait for each other"));
    }
    Ok(Limit::Host)
}
