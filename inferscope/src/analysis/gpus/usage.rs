//! Which device the target uses, and how a device's memory divides.
//!
//! Owns the match of NVML's processes with the tracked set. NVML tells pids of the initial namespace, so only a known host
//! pid can match, and only while the process that had it lived. A part of `gpus`.

use std::collections::{BTreeMap, HashMap};

use crate::clock::{Mono, Origin};
use crate::event::{GpuDevice, GpuLog, GpuProcess, ProcessLook, ProcessUse};
use crate::report::model;
use crate::units::Nanos;

use super::Span;

/// A driver may list a process for a moment after its end, and stamps differ by less.
const GRACE_NS: i64 = 1_000_000_000;

/// The tracked set, by host pid.
pub(in crate::analysis) struct Members {
    /// When each lived, on the timeline.
    lives: HashMap<u32, Vec<(i64, i64)>>,
    /// Every process of the target is in it.
    complete: bool,
    /// There is none.
    none: bool,
}

impl Members {
    pub(in crate::analysis) fn of(log: &GpuLog, processes: &model::Processes) -> Self {
        let host_pid = |p: &model::Process| p.host_pid.or(log.pids_are_ours.then_some(p.pid));
        let mut lives: HashMap<u32, Vec<(i64, i64)>> = HashMap::new();
        let mut complete = processes.complete;
        for process in &processes.list {
            let Some(pid) = host_pid(process) else {
                complete = false;
                continue;
            };
            let end = process.exited_ns.and_then(|ns| i64::try_from(ns).ok()).unwrap_or(i64::MAX);
            let start = process.started_ns.unwrap_or(i64::MIN);
            let life = (start.saturating_sub(GRACE_NS), end.saturating_add(GRACE_NS));
            lives.entry(pid).or_default().push(life);
        }
        Self { lives, complete, none: processes.tracker == model::Tracker::None }
    }

    pub(super) fn ever_had(&self, pid: u32) -> bool {
        self.lives.contains_key(&pid)
    }

    /// Whether the process that has this pid at `t` is one of the target's; `None`: it can't be told.
    pub(super) fn has(&self, pid: u32, t_ns: u64) -> Option<bool> {
        let t = i64::try_from(t_ns).unwrap_or(i64::MAX);
        let lived = self.lives.get(&pid).is_some_and(|all| all.iter().any(|(a, b)| (*a..=*b).contains(&t)));
        if lived { Some(true) } else { (self.complete && !self.none).then_some(false) }
    }
}

/// What is known of a device's use.
#[derive(Debug, Default)]
pub(super) struct DeviceUse {
    pub(super) used: Option<bool>,
    pub(super) reason: Option<String>,
    pub(super) target_bytes: Option<u64>,
    pub(super) other_bytes: Option<u64>,
    pub(super) unattributed_bytes: Option<u64>,
    pub(super) memory_reason: Option<String>,
    pub(super) processes: Vec<model::GpuProcess>,
    pub(super) shared_with: Vec<u32>,
    /// The target's share of the device at each of the driver's samples.
    pub(super) target_sm: Vec<f64>,
}

pub(super) fn usage(origin: Origin, device: &GpuDevice, members: &Members, span: &Span) -> DeviceUse {
    let unknown = |why: &str| DeviceUse { reason: Some(why.to_owned()), ..DeviceUse::default() };
    if !device.processes_known {
        return unknown("the device does not tell which processes use it");
    }
    let at = |t: Mono| origin.at(t).0;
    let all = listed(origin, device, members);
    let mut usage = DeviceUse { processes: all.into_values().collect(), ..DeviceUse::default() };
    usage.shared_with = shared_with(origin, device, members, span);
    if members.none {
        usage.reason = Some("there is no target".to_owned());
        return usage;
    }
    let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
    for (from, used) in with_beginnings(&device.process_use) {
        // Of most of the time that it is of.
        if !span.holds(Mono(u64::midpoint(from.0, used.t.0))) {
            continue;
        }
        let ours = members.has(used.pid, at(used.t)) == Some(true);
        *sums.entry(at(used.t)).or_default() += if ours { f64::from(used.sm_percent) } else { 0.0 };
    }
    usage.target_sm = sums.into_values().collect();
    let used = usage.processes.iter().any(|p| p.target == Some(true));
    // Not found is "not used" only where every process could have been found.
    if !used && !members.complete {
        usage.reason = Some("not every process of the target is known by its host pid".to_owned());
        return usage;
    }
    usage.used = Some(used);
    divide(origin, device, members, &mut usage);
    usage
}

/// Every process that was ever listed, with the most that it held.
fn listed(origin: Origin, device: &GpuDevice, members: &Members) -> BTreeMap<(u32, bool), model::GpuProcess> {
    let mut all: BTreeMap<(u32, bool), model::GpuProcess> = BTreeMap::new();
    for look in &device.processes {
        let t = origin.at(look.t).0;
        for p in &look.all {
            let entry = all.entry((p.pid, p.graphics)).or_insert_with(|| model::GpuProcess {
                host_pid: p.pid,
                target: members.has(p.pid, t),
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

/// Of one moment, so that the parts add up: that at which the target held most.
fn divide(origin: Origin, device: &GpuDevice, members: &Members, usage: &mut DeviceUse) {
    let sum = |look: &ProcessLook, ours: bool| {
        let t = origin.at(look.t).0;
        let part = look.all.iter().filter(|p| (members.has(p.pid, t) == Some(true)) == ours);
        memory(part)
    };
    let untold = |ours: bool| device.processes.iter().any(|look| sum(look, ours).is_none());
    if untold(true) {
        usage.memory_reason =
            Some("the device does not tell how much memory a process of the target uses".into());
        return;
    }
    let heaviest =
        device.processes.iter().enumerate().max_by_key(|(_, look)| (sum(look, true), sum(look, false)));
    let Some((i, look)) = heaviest else {
        (usage.target_bytes, usage.other_bytes) = (Some(0), Some(0));
        return;
    };
    usage.target_bytes = sum(look, true);
    usage.other_bytes = sum(look, false);
    // A look holds until the next; the device's own figure is read within it.
    let until = device.processes.get(i + 1).map_or(Mono(u64::MAX), |next| next.t);
    let slack = Nanos::from_millis(50);
    let used = device
        .readings
        .iter()
        .filter(|r| r.t.plus(slack) >= look.t && r.t < until)
        .filter_map(|r| r.memory_used_bytes)
        .max();
    let known = usage.target_bytes.zip(usage.other_bytes).map(|(a, b)| a.saturating_add(b));
    usage.unattributed_bytes = used.zip(known).and_then(|(used, known)| used.checked_sub(known));
}

/// Processes of others with compute work on the device within the window, unless the driver's samples say that they did
/// nothing in it.
pub(super) fn shared_with(origin: Origin, device: &GpuDevice, members: &Members, span: &Span) -> Vec<u32> {
    let mut others: Vec<u32> = Vec::new();
    for (i, look) in device.processes.iter().enumerate() {
        let until = device.processes.get(i + 1).map_or(Mono(u64::MAX), |next| next.t);
        if !span.meets(look.t, until) {
            continue;
        }
        let t = origin.at(look.t).0;
        let theirs = look.all.iter().filter(|p| !p.graphics && members.has(p.pid, t) != Some(true));
        others.extend(theirs.map(|p| p.pid));
    }
    // One that came and went between two looks.
    let passed = with_beginnings(&device.process_use)
        .filter(|(from, u)| u.sm_percent > 0 && span.meets(*from, u.t))
        .filter(|(_, u)| members.has(u.pid, origin.at(u.t).0) == Some(false));
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
