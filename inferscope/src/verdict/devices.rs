//! What makes which figure of a device doubtful.
//!
//! Owns the codes and words. Called for the report's `validity`.

use crate::clock::Origin;
use crate::event::{GpuLog, Interruption};
use crate::figures::devices::{Device, Rest};
use crate::reason::EnergyReason;
use crate::units::Nanos;

use super::doubt::{Doubt, DoubtCode};

/// A driver that takes longer for one call is mentioned.
const SLOW_CALL: Nanos = Nanos::from_millis(50);

pub(crate) fn doubts(log: &GpuLog, devices: &[Device<'_>], origin: Origin) -> Vec<Doubt> {
    let mut all: Vec<Doubt> = devices.iter().flat_map(|device| of_device(device, origin)).collect();
    if !devices.is_empty() {
        all.extend(of_driver(log, origin));
    }
    all
}

fn of_device(device: &Device<'_>, origin: Origin) -> Vec<Doubt> {
    let mut all = Vec::new();
    let (log, index) = (device.log, device.log.index);
    let seconds = |t| origin.at(t).0 as f64 / 1e9;
    if let Some(Interruption { from, words, .. }) = &log.lost {
        all.push(Doubt::warn(
            DoubtCode::GpuLost,
            format!(
                "device {index} was lost {:.2} s into the run, and its figures end there: {words}; {}",
                seconds(*from),
                remedy(words)
            ),
        ));
    }
    for Interruption { from, to, words } in &log.interruptions {
        let Some(to) = to else { continue };
        all.push(Doubt::warn(
            DoubtCode::GpuInterrupted,
            format!(
                "device {index} was away from {:.2} to {:.2} s ({words}): no energy is known of a load that meets that time, \
                 and its other figures have a gap",
                seconds(*from),
                seconds(*to)
            ),
        ));
    }
    // Of interest where the figures would be the target's.
    let used = device.usage.used == Ok(true);
    if used && !device.usage.shared_with.is_empty() {
        let whose = match device.usage.shared_with.len() {
            1 => "a process".to_owned(),
            n => format!("{n} processes"),
        };
        all.push(Doubt::warn(
            DoubtCode::GpuShared,
            format!(
                "device {index} was also used by {whose} of others: its utilisation, power and energy are theirs too"
            ),
        ));
    }
    if let (true, Rest::Computing(what)) = (used, &device.rest) {
        let why = EnergyReason::NotAtRest(what.clone()).to_string();
        all.push(Doubt::warn(
            DoubtCode::GpuNotAtRest,
            format!(
                "{}: its power at rest is unknown, and so is what the load drew above it; wait until nothing computes on it, \
                 or name another device with --gpu",
                why.replacen("the device", &format!("device {index}"), 1)
            ),
        ));
    }
    // The failures of a device that was away are mentioned above.
    let was_there = log.lost.is_none() && log.interruptions.is_empty();
    let mut failed: Vec<_> = log.failed.iter().filter(|_| was_there).collect();
    failed.sort_by_key(|(query, _)| query.name());
    for (query, (count, words)) in failed {
        let query = query.name();
        let message = format!("device {index} did not answer {query} {count} times: {words}");
        all.push(Doubt::warn(DoubtCode::GpuQueryFailed, message));
    }
    for (what, n) in &log.insane {
        all.push(Doubt::for_the_record(
            DoubtCode::GpuValuesDropped,
            format!(
                "{n} values of device {index} could not be true and were dropped: {}",
                what.replace('_', " ")
            ),
        ));
    }
    all
}

fn of_driver(log: &GpuLog, origin: Origin) -> Vec<Doubt> {
    let hangs = log.hangs.as_ref().map(|(call, since)| {
        Doubt::warn(
            DoubtCode::GpuDriverHangs,
            format!(
                "the driver did not come back from {call}, called {:.2} s into the run: the devices' figures end there; see \
                 the kernel's log (dmesg, NVRM and Xid lines)",
                origin.at(*since).0 as f64 / 1e9
            ),
        )
    });
    let slow = log.cost.slowest.as_ref().filter(|(_, time)| *time > SLOW_CALL).map(|(call, time)| {
        Doubt::for_the_record(
            DoubtCode::GpuDriverSlow,
            format!(
                "the driver took up to {:.0} ms for a call ({call}): slow queries were made less often",
                time.0 as f64 / 1e6
            ),
        )
    });
    hangs.into_iter().chain(slow).collect()
}

/// What to do about a device that does not come back.
fn remedy(words: &str) -> &'static str {
    if words.contains("mismatch") {
        "the driver was replaced under its library: restart inferscope's container, or the machine"
    } else {
        "see the kernel's log (dmesg, NVRM and Xid lines)"
    }
}
