//! Where the set's CPU begins to count.
//!
//! Owns the first reading of all clocks, and how late this kernel charges. A part of `worker`.

use super::{Worker, nanos_of};
use crate::clock::Mono;
use crate::observe::cgroup::Accounting;
use crate::observe::clocks::{self, Clocks, Kernel, Tick};
use crate::observe::ebpf::Tracker;
use crate::observe::proc::handle::cpu_clock;
use crate::units::Nanos;

/// CONFIG_HZ is 1,000 at most.
pub(super) const SHORTEST_TICK: Nanos = Nanos::from_millis(1);
/// Without a tick a CPU is looked after once a second.
const LONGEST_UNCHARGED: Nanos = Nanos::from_millis(1_100);

impl Worker {
    /// The clocks of the living and the cgroup's own figure are read at once, before anything that takes
    /// time: what is born from here on counts from its birth.
    pub(super) fn begin_window(&mut self) {
        let before = self.accounting.as_ref().and_then(Accounting::read);
        let clocks = self.clocks();
        if let Some(accounting) = &mut self.accounting {
            let after = accounting.read();
            accounting.begin(before, after, clocks.uncharged);
        }
        for (i, total) in clocks.totals() {
            self.table.window_began(i, total);
        }
        self.started = clocks.t;
        self.started_ticks = self.sampler.units.start_ticks(boottime_ns());
    }

    /// The clocks of the living, all as of one moment.
    pub(super) fn clocks(&self) -> Clocks {
        clocks::read(&self.table.members(), self.tick, &mut Here(self.tracker.as_ref()))
    }
}

/// What is read, on the running machine.
struct Here<'a>(Option<&'a Tracker>);

impl Kernel for Here<'_> {
    fn look(&mut self) -> Option<clocks::Look> {
        self.0?.running()
    }

    fn clock(&mut self, pid: u32) -> Option<Nanos> {
        cpu_clock(i32::try_from(pid).ok()?)
    }

    fn now(&mut self) -> Mono {
        Mono::now()
    }
}

/// How late this kernel charges.
pub(super) fn tick() -> Tick {
    // The coarse clock moves with the tick.
    let length = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    let length = Nanos(length.tv_nsec.unsigned_abs()).max(SHORTEST_TICK);
    let tickless = std::fs::read_to_string("/sys/devices/system/cpu/nohz_full");
    let is_tickless = tickless.is_ok_and(|cpus| cpus.trim().starts_with(|c: char| c.is_ascii_digit()));
    let longest = if is_tickless { LONGEST_UNCHARGED } else { Nanos(length.0 * 4) };
    Tick { length, longest }
}

/// The clock of processes' starts.
fn boottime_ns() -> u64 {
    nanos_of(rustix::time::ClockId::Boottime).0
}
