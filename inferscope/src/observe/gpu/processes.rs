//! The processes on a device, out of what the driver wrote.
//!
//! Owns the layouts and the sense that is asked of every pid and size: the structures changed at R535 without a new
//! version. Pure but for `Pids`, which asks the kernel. Used by `device`.

use std::collections::BTreeMap;

use super::nvml_ffi::{ListVersion, RawList};
use crate::event::GpuProcess;
use crate::observe::proc::handle;

/// `NVML_VALUE_NOT_AVAILABLE`
const NOT_AVAILABLE: u64 = u64::MAX;
/// No GPU or compute instance.
const NO_INSTANCE: u32 = u32::MAX;
/// A device is cut into at most 7; a margin for parts to come.
const MOST_INSTANCES: u32 = 64;

/// Whether a pid can be what it says.
pub(super) struct Pids {
    /// NVML tells pids of the initial namespace; only from there can they be looked up.
    pub(super) are_ours: bool,
}

impl Pids {
    fn knows(&self, pid: u32) -> bool {
        pid != 0 && (!self.are_ours || handle::lives(pid))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    pid: u32,
    memory: u64,
    gpu_instance: u32,
    compute_instance: u32,
}

impl Entry {
    /// `words` is one entry: pid (and padding), memory, and both instances where the layout has them.
    fn of(words: &[u64]) -> Option<Self> {
        let halves = |word: u64| {
            let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
            (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
        };
        let (gpu_instance, compute_instance) =
            words.get(2).map_or((NO_INSTANCE, NO_INSTANCE), |word| halves(*word));
        Some(Self { pid: halves(*words.first()?).0, memory: *words.get(1)?, gpu_instance, compute_instance })
    }

    fn has_sense(&self, total: Option<u64>) -> bool {
        let instance = |id: u32| id == NO_INSTANCE || id < MOST_INSTANCES;
        self.pid != 0
            && (self.memory == NOT_AVAILABLE || total.is_none_or(|total| self.memory <= total))
            && instance(self.gpu_instance)
            && instance(self.compute_instance)
    }
}

fn entries(list: &RawList, words_each: usize, used: usize) -> Vec<Entry> {
    list.words.chunks_exact(words_each).take(list.count).filter_map(|w| Entry::of(&w[..used])).collect()
}

/// What is wrong with a value, for the report.
pub(super) type Insane = BTreeMap<&'static str, u64>;

/// The list as it makes sense; `wide` becomes true where only entries of 32 bytes do.
pub(super) fn decode(
    list: &RawList,
    graphics: bool,
    total: Option<u64>,
    pids: &Pids,
    wide: &mut bool,
    insane: &mut Insane,
) -> Vec<GpuProcess> {
    let all = match list.version {
        ListVersion::V1 => entries(list, 2, 2),
        ListVersion::V2 => entries(list, 3, 3),
        ListVersion::V3 if *wide => entries(list, 4, 3),
        ListVersion::V3 => {
            let narrow = entries(list, 3, 3);
            let sense = |all: &[Entry]| all.iter().all(|e| e.has_sense(total));
            let other = entries(list, 4, 3);
            *wide = !sense(&narrow) && sense(&other);
            if *wide { other } else { narrow }
        }
    };
    let mut sane = Vec::new();
    for entry in all {
        if !pids.knows(entry.pid) {
            *insane.entry("unknown_pid").or_default() += 1;
            continue;
        }
        let too_much = entry.memory != NOT_AVAILABLE && total.is_some_and(|total| entry.memory > total);
        if too_much {
            *insane.entry("memory_beyond_device").or_default() += 1;
        }
        let bytes = Some(entry.memory).filter(|m| *m != NOT_AVAILABLE && !too_much);
        sane.push(GpuProcess { pid: entry.pid, graphics, bytes });
    }
    sane
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIDS: Pids = Pids { are_ours: false };
    const TOTAL: Option<u64> = Some(1 << 34);

    /// Entries of (pid, memory) as a driver writes them.
    fn written(version: ListVersion, words_each: usize, all: &[(u32, u64)]) -> RawList {
        let mut words = vec![0; 4 * 64];
        for (entry, (pid, memory)) in words.chunks_exact_mut(words_each).zip(all) {
            entry[0] = u64::from(*pid);
            entry[1] = *memory;
            if words_each > 2 {
                entry[2] = u64::MAX;
            }
        }
        RawList { version, count: all.len(), words }
    }

    fn read(list: &RawList) -> (Vec<(u32, Option<u64>)>, bool, Insane) {
        let (mut wide, mut insane) = (false, Insane::new());
        let all = decode(list, false, TOTAL, &PIDS, &mut wide, &mut insane);
        (all.iter().map(|p| (p.pid, p.bytes)).collect(), wide, insane)
    }

    #[test]
    fn every_layout_gives_the_same_processes() {
        let all = [(10, 5 << 30), (11, NOT_AVAILABLE), (12, 7)];
        let expected = vec![(10, Some(5 << 30)), (11, None), (12, Some(7))];
        for (version, words_each, wide) in [
            (ListVersion::V1, 2, false),
            (ListVersion::V2, 3, false),
            (ListVersion::V3, 3, false),
            (ListVersion::V3, 4, true),
        ] {
            let got = read(&written(version, words_each, &all));
            assert_eq!(got, (expected.clone(), wide, Insane::new()), "{version:?} of {words_each} words");
        }
    }

    #[test]
    fn a_size_beyond_the_device_is_dropped_and_counted_and_its_pid_kept() {
        let (all, _, insane) = read(&written(ListVersion::V2, 3, &[(10, 1 << 40), (11, 3)]));
        assert_eq!(all, [(10, None), (11, Some(3))]);
        assert_eq!(insane, Insane::from([("memory_beyond_device", 1)]));
    }

    #[test]
    fn a_pid_that_the_kernel_does_not_know_is_dropped_and_counted() {
        let list = written(ListVersion::V2, 3, &[(std::process::id(), 1), (4_194_305, 2)]);
        let (mut wide, mut insane) = (false, Insane::new());
        let all = decode(&list, false, TOTAL, &Pids { are_ours: true }, &mut wide, &mut insane);
        assert_eq!(all.iter().map(|p| p.pid).collect::<Vec<_>>(), [std::process::id()]);
        assert_eq!(insane, Insane::from([("unknown_pid", 1)]));
    }
}
