//! Which device the target uses, and how a device's memory divides.
//!
//! Owns the match of NVML's processes with the process set over time (`members` has the set by pid). A part of `devices`.

use std::collections::BTreeMap;

use crate::clock::Mono;
use crate::event::{GpuDevice, GpuProcess, ProcessLook, ProcessUse};
use crate::reason::DeviceReason;
use crate::units::Nanos;

use super::{Members, Span};

/// What is known of a device's use.
#[derive(Debug)]
pub(crate) struct DeviceUse {
    /// Whether the target uses it.
    pub(crate) used: Result<bool, DeviceReason>,
    pub(crate) memory: MemoryUse,
    pub(crate) memory_reason: Option<DeviceReason>,
    pub(crate) processes: Vec<ListedProcess>,
    /// Processes of others that may have used it in the span.
    pub(crate) shared_with: Vec<u32>,
    /// The target's share of the device at each of the driver's samples.
    pub(super) target_sm: Vec<f64>,
}

/// Whose a device's memory was, at one moment.
#[derive(Debug, Default)]
pub(crate) struct MemoryUse {
    pub(crate) target_bytes: Option<u64>,
    pub(crate) other_bytes: Option<u64>,
    /// Used, and of no process that the driver lists.
    pub(crate) unattributed_bytes: Option<u64>,
}

/// A process that the driver listed on the device.
#[derive(Debug)]
pub(crate) struct ListedProcess {
    /// In the initial pid namespace.
    pub(crate) host_pid: u32,
    /// `None`: it can't be told.
    pub(crate) target: Option<bool>,
    pub(crate) graphics: bool,
    /// The most that it held.
    pub(crate) memory_bytes: Option<u64>,
    /// The mean of the driver's samples of it.
    pub(crate) sm_percent: Option<f64>,
}

pub(super) fn usage(device: &GpuDevice, members: &Members, span: &Span) -> DeviceUse {
    let mut usage = DeviceUse {
        used: Err(DeviceReason::NoProcessList),
        memory: MemoryUse::default(),
        memory_reason: None,
        processes: Vec::new(),
        shared_with: Vec::new(),
        target_sm: Vec::new(),
    };
    if !device.processes_known {
        return usage;
    }
    usage.processes = listed(device, members).into_values().collect();
    usage.shared_with = shared_with(device, members, span);
    if members.none {
        usage.used = Err(DeviceReason::NoTarget);
        return usage;
    }
    let mut sums: BTreeMap<Mono, f64> = BTreeMap::new();
    for (from, used) in with_beginnings(&device.process_use) {
        // Of most of the time that it is of.
        if !span.holds(Mono(u64::midpoint(from.0, used.t.0))) {
            continue;
        }
        let ours = members.has(used.pid, used.t) == Some(true);
        *sums.entry(used.t).or_default() += if ours { f64::from(used.sm_percent) } else { 0.0 };
    }
    usage.target_sm = sums.into_values().collect();
    let used = usage.processes.iter().any(|p| p.target == Some(true));
    // Not found is "not used" only where every process could have been found.
    if !used && !members.complete {
        usage.used = Err(DeviceReason::HostPidsUnknown);
        return usage;
    }
    usage.used = Ok(used);
    match divide(device, members) {
        Ok(memory) => usage.memory = memory,
        Err(why) => usage.memory_reason = Some(why),
    }
    usage
}

/// Every process that was ever listed, with the most that it held.
fn listed(device: &GpuDevice, members: &Members) -> BTreeMap<(u32, bool), ListedProcess> {
    let mut all: BTreeMap<(u32, bool), ListedProcess> = BTreeMap::new();
    for look in &device.processes {
        for p in &look.all {
            let entry = all.entry((p.pid, p.graphics)).or_insert_with(|| ListedProcess {
                host_pid: p.pid,
                target: members.has(p.pid, look.t),
                graphics: p.graphics,
                memory_bytes: None,
                sm_percent: mean(
                    device.process_use.iter().filter(|u| u.pid == p.pid).map(|u| u.sm_percent.into()),
                ),
            });
            entry.memory_bytes = entry.memory_bytes.max(p.bytes);
        }
    }
    all
}

/// What these hold together; `None` where it is not told of each. A process with both kinds of work is in both lists,
/// each time with all of its memory (nvidia-smi's `C+G`); in one list it may be once for each MIG instance.
fn memory<'a>(processes: impl Iterator<Item = &'a GpuProcess>) -> Option<u64> {
    let mut by_pid: BTreeMap<u32, [u64; 2]> = BTreeMap::new();
    for process in processes {
        let lists = by_pid.entry(process.pid).or_default();
        let of_list = &mut lists[usize::from(process.graphics)];
        *of_list = of_list.saturating_add(process.bytes?);
    }
    Some(by_pid.values().fold(0, |sum, [compute, graphics]| sum.saturating_add(*compute.max(graphics))))
}

/// At the moment at which the target held most, so that the parts add up.
fn divide(device: &GpuDevice, members: &Members) -> Result<MemoryUse, DeviceReason> {
    let sum = |look: &ProcessLook, ours: bool| {
        let part = look.all.iter().filter(|p| (members.has(p.pid, look.t) == Some(true)) == ours);
        memory(part)
    };
    let untold = |ours: bool| device.processes.iter().any(|look| sum(look, ours).is_none());
    if untold(true) {
        return Err(DeviceReason::MemoryUntold);
    }
    let heaviest =
        device.processes.iter().enumerate().max_by_key(|(_, look)| (sum(look, true), sum(look, false)));
    let Some((i, look)) = heaviest else {
        return Ok(MemoryUse { target_bytes: Some(0), other_bytes: Some(0), unattributed_bytes: None });
    };
    let (target_bytes, other_bytes) = (sum(look, true), sum(look, false));
    // A look holds until the next; the device's own figure is read within it.
    let until = device.processes.get(i + 1).map_or(Mono(u64::MAX), |next| next.t);
    let slack = Nanos::from_millis(50);
    let used = device
        .readings
        .iter()
        .filter(|r| r.t.plus(slack) >= look.t && r.t < until)
        .filter_map(|r| r.memory_used_bytes)
        .max();
    let known = target_bytes.zip(other_bytes).map(|(a, b)| a.saturating_add(b));
    let unattributed_bytes = used.zip(known).and_then(|(used, known)| used.checked_sub(known));
    Ok(MemoryUse { target_bytes, other_bytes, unattributed_bytes })
}

/// Processes of others with compute work on the device within the window, unless the driver's samples say that they did
/// nothing in it.
pub(crate) fn shared_with(device: &GpuDevice, members: &Members, span: &Span) -> Vec<u32> {
    let mut others: Vec<u32> = Vec::new();
    for (i, look) in device.processes.iter().enumerate() {
        let until = device.processes.get(i + 1).map_or(Mono(u64::MAX), |next| next.t);
        if !span.meets(look.t, until) {
            continue;
        }
        let theirs = look.all.iter().filter(|p| !p.graphics && members.has(p.pid, look.t) != Some(true));
        others.extend(theirs.map(|p| p.pid));
    }
    // One that came and went between two looks.
    let passed = with_beginnings(&device.process_use)
        .filter(|(from, u)| u.sm_percent > 0 && span.meets(*from, u.t))
        .filter(|(_, u)| members.has(u.pid, u.t) == Some(false));
    others.extend(passed.map(|(_, u)| u.pid));
    others.sort_unstable();
    others.dedup();
    others.retain(|pid| {
        let all = with_beginnings(&device.process_use);
        let mut of = all.filter(|(from, u)| u.pid == *pid && span.meets(*from, u.t)).peekable();
        of.peek().is_none() || of.any(|(_, u)| u.sm_percent > 0)
    });
    others
}

/// Each with the moment since which it is: an answer is of the time since the one before (nvml.h,
/// `nvmlDeviceGetProcessUtilization`).
fn with_beginnings(all: &[ProcessUse]) -> impl Iterator<Item = (Mono, &ProcessUse)> {
    let (mut before, mut last) = (None, None);
    all.iter().map(move |used| {
        if last != Some(used.t) {
            (before, last) = (last, Some(used.t));
        }
        (before.unwrap_or(used.t), used)
    })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process_in_both_lists_counts_once_and_that_of_two_instances_twice() {
        let of = |pid, graphics, bytes| GpuProcess { pid, graphics, bytes };
        let both = [of(1, false, Some(5)), of(1, true, Some(5)), of(2, true, Some(3))];
        assert_eq!(memory(both.iter()), Some(8));
        assert_eq!(memory([of(1, false, Some(5)), of(1, false, Some(4))].iter()), Some(9));
        assert_eq!(memory([of(1, false, Some(5)), of(2, false, None)].iter()), None);
        assert_eq!(memory([].iter()), Some(0));
    }
}
