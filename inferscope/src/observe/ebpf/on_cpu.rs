//! What runs on each CPU at one moment, as the kernel program sees it.
//!
//! Owns the map that the program writes into, and the scheduler's clock: at each look inferscope's own thread has its
//! run time charged, which leaves the scheduler's reading of that moment behind. Decides nothing about the followed
//! processes (`observe::clocks` does). Used by the tracker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use inferscope_common::OnCpu;

use super::event::Id;
use super::mapped::Mapped;
use super::syscall;
use crate::clock::Mono;
use crate::observe::clocks::{Look, Running};
use crate::units::Nanos;

/// Between the charge of the own run time and the look; more, and the thread was interrupted.
const TIGHT: Nanos = Nanos(20_000);
const MAX_LOOKS: u32 = 4;

pub(crate) struct OnCpus {
    program: OwnedFd,
    map: Mapped<OnCpu>,
    cpus: usize,
}

impl OnCpus {
    /// `map` has an entry for each of so many CPUs and one more.
    pub(crate) fn new(program: OwnedFd, map: BorrowedFd<'_>, cpus: u32) -> io::Result<Self> {
        let cpus = cpus as usize;
        Ok(Self { program, map: Mapped::new(map, cpus + 1)?, cpus })
    }

    /// Which threads run now; `None` where the kernel refuses, or the own thread never had the time to look.
    pub(crate) fn look(&self) -> Option<Look> {
        let mut best: Option<Look> = None;
        for _ in 0..MAX_LOOKS {
            let Some(look) = self.look_once() else { continue };
            let is_better = best.as_ref().is_none_or(|best| look.unsure < best.unsure);
            if is_better {
                best = Some(look);
            }
            if best.as_ref().is_some_and(|best| best.unsure <= TIGHT) {
                break;
            }
        }
        best
    }

    fn look_once(&self) -> Option<Look> {
        let before = Mono::now();
        // For the calling thread the kernel charges the run time up to now before it answers.
        let _ = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let after = Mono::now();
        syscall::run(self.program.as_fd()).ok()?;
        let own = self.map.read(self.cpus)?;
        if own.host_tid == 0 {
            return None;
        }
        let t = Mono(own.t_ns);
        let charged = before.plus(Nanos(after.since(before).0 / 2));
        let scheduler_at_t = own.charged_at.wrapping_add(own.behind).wrapping_add(t.since(charged).0);
        let running = (0..self.cpus)
            .filter_map(|cpu| self.map.read(cpu))
            .filter(|entry| entry.host_tid != 0)
            .map(|entry| Running {
                id: Id { host_pid: entry.host_tgid, start_boottime_ns: entry.start_boottime_ns },
                host_tid: entry.host_tid,
                charged_at: entry.charged_at.wrapping_add(entry.behind),
            })
            .collect();
        Some(Look { t, scheduler_at_t, unsure: t.since(before), running })
    }
}

/// CPUs that there can be: the highest number of `0-3,8` and one.
pub(crate) fn possible_cpus() -> Option<u32> {
    highest(&std::fs::read_to_string("/sys/devices/system/cpu/possible").ok()?)?.checked_add(1)
}

fn highest(list: &str) -> Option<u32> {
    list.trim().split([',', '-']).map(|n| n.parse().ok()).collect::<Option<Vec<u32>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_cpu_of_a_list_is_found() {
        assert_eq!(["0\n", "0-1\n", "0-3,8-11\n", "0,2"].map(highest), [Some(0), Some(1), Some(11), Some(2)]);
        assert_eq!(["", "x-1"].map(highest), [None, None]);
    }
}
