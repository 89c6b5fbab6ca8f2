//! The kernel's own accounting of the target's cgroup.
//!
//! Owns the files: `cpu.stat` of the v2 cgroup, which every cgroup has, and the memory peak of v2 or of a v1 cgroup
//! with the same processes. At each end of the window it reads on both sides of the set's own sample, so that all
//! values are of one moment.

use std::path::{Path, PathBuf};

use super::hierarchies::{Hierarchies, existing, v1_path};
use super::processes_below;
use crate::event::CgroupAccounting;
use crate::observe::proc::text;
use crate::observe::target_discovery::CgroupTarget;
use crate::units::Nanos;

/// One target's accounting, over one window.
pub(crate) struct Accounting {
    cpu_file: PathBuf,
    begin: Option<End>,
    end: Option<End>,
    memory: Result<PathBuf, &'static str>,
}

/// One end of the window.
struct End {
    charged: Nanos,
    /// CPU time that the members had used and that was not charged yet.
    uncharged: Nanos,
}

impl Accounting {
    pub(crate) fn of(target: &CgroupTarget, hierarchies: &Hierarchies) -> Self {
        Self {
            cpu_file: target.dir.join("cpu.stat"),
            begin: None,
            end: None,
            memory: memory_file(target, hierarchies),
        }
    }

    pub(crate) fn read(&self) -> Option<Nanos> {
        usage(&std::fs::read_to_string(&self.cpu_file).ok()?)
    }

    /// The window begins between these two readings, with this much time not charged.
    pub(crate) fn begin(&mut self, before: Option<Nanos>, after: Option<Nanos>, uncharged: Nanos) {
        self.begin = middle(before, after).map(|charged| End { charged, uncharged });
    }

    /// The window ends between these two readings.
    pub(crate) fn end(&mut self, before: Option<Nanos>, after: Option<Nanos>, uncharged: Nanos) {
        self.end = middle(before, after).map(|charged| End { charged, uncharged });
    }

    /// `apart`: why the cgroup's figures are of other processes than the set's.
    pub(crate) fn finish(self, apart: Option<String>) -> CgroupAccounting {
        let shown = |path: &Path| Some(path.display().to_string());
        let window = self.begin.zip(self.end);
        let cpu = window.as_ref().map(|(begin, end)| {
            (end.charged + end.uncharged).saturating_sub(begin.charged + begin.uncharged)
        });
        let cpu_uncharged_ns = window.map_or(0, |(begin, end)| {
            end.uncharged.0.cast_signed().saturating_sub(begin.uncharged.0.cast_signed())
        });
        let unread = || "the cgroup was gone, or could not be read, when the run ended".to_owned();
        let (memory_file, peak, memory_reason) = match &self.memory {
            Err(why) => (None, None, Some((*why).to_owned())),
            Ok(file) => {
                let peak: Option<u64> =
                    std::fs::read_to_string(file).ok().and_then(|t| t.trim().parse().ok());
                let reason = if peak.is_none() { Some(unread()) } else { apart.clone() };
                (shown(file), peak, reason)
            }
        };
        CgroupAccounting {
            cpu_file: shown(&self.cpu_file),
            cpu_reason: apart.or_else(|| cpu.is_none().then(unread)),
            cpu,
            cpu_uncharged_ns,
            memory_file,
            memory_limit_bytes: self.memory.as_ref().ok().and_then(|file| limit(file)),
            memory_peak_bytes: peak,
            memory_reason,
        }
    }
}

/// The smallest memory limit of the cgroup whose peak is in `peak`: its own, or that of a parent.
fn limit(peak: &Path) -> Option<u64> {
    let name = if peak.ends_with("memory.peak") { "memory.max" } else { "memory.limit_in_bytes" };
    let own = peak.parent()?;
    // No limit is the word `max`, and in v1 about 2^63.
    let told = |dir: &Path| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok();
    own.ancestors().filter_map(told).filter(|bytes: &u64| *bytes < 1 << 60).min()
}

fn middle(before: Option<Nanos>, after: Option<Nanos>) -> Option<Nanos> {
    let (before, after) = before.zip(after)?;
    Some(Nanos(before.0 + after.saturating_sub(before).0 / 2))
}

/// `usage_usec` of cpu.stat, in nanoseconds.
fn usage(text: &str) -> Option<Nanos> {
    let usec: u64 = text.lines().find_map(|l| l.strip_prefix("usage_usec "))?.trim().parse().ok()?;
    usec.checked_mul(1_000).map(Nanos)
}

/// `memory.peak` of the cgroup itself (Linux 5.19), else the maximum of a v1 memory cgroup with the very same
/// processes.
fn memory_file(target: &CgroupTarget, hierarchies: &Hierarchies) -> Result<PathBuf, &'static str> {
    let v2 = target.dir.join("memory.peak");
    if v2.exists() {
        return Ok(v2);
    }
    let Some(mount) = hierarchies.v1("memory") else {
        return Err("the memory controller is not enabled for the cgroup");
    };
    let pids = processes_below(&target.dir);
    let name = pids.iter().find_map(|pid| {
        let text = text(format!("/proc/{pid}/cgroup"))?;
        v1_path(&text, "memory").map(str::to_owned)
    });
    let dir =
        name.and_then(|name| existing(&mount.dir_of(&name)?)).ok_or("its memory cgroup can't be told")?;
    if processes_below(&dir) != pids {
        return Err("its processes share their memory cgroup with others");
    }
    Ok(dir.join("memory.max_usage_in_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_in_nanoseconds() {
        assert_eq!(usage("usage_usec 189477\nuser_usec 1\n"), Some(Nanos(189_477_000)));
        assert_eq!(usage("user_usec 1\n"), None);
        assert_eq!(usage("usage_usec x\n"), None);
    }

    #[test]
    fn a_bracket_stands_for_its_middle_and_half_a_bracket_for_nothing() {
        assert_eq!(middle(Some(Nanos(10)), Some(Nanos(14))), Some(Nanos(12)));
        assert_eq!(middle(Some(Nanos(10)), None), None);
    }
}
