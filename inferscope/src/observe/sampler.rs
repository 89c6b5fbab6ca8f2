//! Readings of the living from /proc.
//!
//! Owns the handles, one a living member as long as there are descriptors. Feeds the table and knows nothing of
//! events. Called by `observer` at each tick.

use std::collections::HashMap;

use super::clocks::Clocks;
use super::proc::handle::{Handle, Reading, Units, Unread, glance};
use super::pss_schedule::PssSchedule;
use super::table::Table;
use crate::clock::Mono;
use crate::units::Nanos;

/// Processes whose files are kept open, as far as RLIMIT_NOFILE lets them; beyond, a handle is opened for each
/// reading.
const MAX_HANDLES: usize = 16_384;
/// Descriptors of a handle.
const FILES_EACH: u64 = 3;
/// For the kernel tracker, connections, output, and a process that is read in passing.
const OTHER_FILES: u64 = 128;

pub(super) struct Sampler {
    max_handles: usize,
    handles: HashMap<usize, Handle>,
    pub(super) units: Units,
    pss: PssSchedule,
    /// Why no PSS could be read, the last time it was tried.
    pub(super) pss_reason: Option<String>,
}

/// A process by its pid and start.
#[derive(Clone, Copy)]
struct Named {
    pid: u32,
    start: u64,
}

/// The set at one look.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) processes: u32,
    pub(super) threads: u32,
    pub(super) rss_bytes: u64,
    pub(super) pss_bytes: Option<u64>,
    /// Members that are no more.
    pub(super) gone: Vec<usize>,
    /// Zombies wait for their parents, without threads or memory.
    pub(super) zombies: Vec<usize>,
}

impl Sampler {
    pub(super) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let left = limit.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES) / FILES_EACH;
        Self {
            max_handles: usize::try_from(left).unwrap_or(usize::MAX).min(MAX_HANDLES),
            handles: HashMap::new(),
            units: Units::of_this_machine(),
            pss: PssSchedule::default(),
            pss_reason: None,
        }
    }

    /// One look at every living member, whose clocks were read just before. A handle of one that was born since the
    /// last look is opened at the next, or if there is none: in a fork storm few live that long.
    pub(super) fn look(&mut self, clocks: &Clocks, is_last: bool, table: &mut Table) -> Look {
        let t = clocks.t;
        let mut look = Look::default();
        table.begin_look();
        let living: Vec<_> = table.living().collect();
        self.handles.retain(|&i, _| table.is_living(i));
        for (i, pid, start) in living {
            let total = clocks.total(i);
            let reading = match self.handles.get(&i) {
                Some(handle) => handle.read(total),
                None if pid != 0 && !is_last && table.is_newborn(i) => {
                    glance(pid, self.units.start_ticks(start), total, self.units)
                }
                None => self.first_look(i, Named { pid, start }, total, table),
            };
            match reading {
                Ok(reading) if reading.zombie => {
                    table.sampled(i, &reading);
                    look.zombies.push(i);
                }
                Ok(reading) => {
                    // Without the kernel's word of an exec: it was forked before the last look.
                    if table.is_renamed(i, &reading)
                        && let Some((exe, argv)) = self.handles.get(&i).map(Handle::identity)
                    {
                        table.identify(i, exe, argv);
                    }
                    table.sampled(i, &reading);
                    look.processes += 1;
                    look.threads = look.threads.saturating_add(reading.threads);
                    look.rss_bytes = look.rss_bytes.saturating_add(reading.rss_bytes);
                }
                Err(Unread::Gone) => {
                    // It ended after its clock was read.
                    if let Some(total) = total {
                        table.ran(i, total);
                    }
                    look.gone.push(i);
                }
                Err(Unread::Refused) => table.refused(),
            }
        }
        if look.processes > 0 && self.pss.is_due(t, look.rss_bytes) {
            let began = Mono::now();
            look.pss_bytes = self.pss(table);
            self.pss.was_read(t, Mono::now().since(began), look.rss_bytes);
        }
        look
    }

    fn first_look(
        &mut self,
        i: usize,
        Named { pid, start }: Named,
        total: Option<Nanos>,
        table: &mut Table,
    ) -> Result<Reading, Unread> {
        if pid == 0 {
            // A member outside of the tracer's pid namespace has no entry in its /proc.
            return Err(Unread::Refused);
        }
        let handle = Handle::open(pid, Some(self.units.start_ticks(start)), self.units)?;
        let reading = handle.read(total)?;
        let (exe, argv) = handle.identity();
        table.identify(i, exe, argv);
        if self.handles.len() < self.max_handles {
            self.handles.insert(i, handle);
        }
        Ok(reading)
    }

    /// Of the whole set, or nothing: a sum without some of its parts would pass for the whole.
    fn pss(&mut self, table: &Table) -> Option<u64> {
        let mut sum = 0_u64;
        let mut refused = 0_u32;
        for (i, pid, start) in table.living() {
            let read = match self.handles.get(&i) {
                Some(handle) => handle.pss_bytes(),
                None => Handle::open(pid, Some(self.units.start_ticks(start)), self.units)
                    .and_then(|handle| handle.pss_bytes()),
            };
            match read {
                Ok(bytes) => sum = sum.saturating_add(bytes),
                Err(Unread::Gone) => {}
                Err(Unread::Refused) => refused += 1,
            }
        }
        self.pss_reason = (refused > 0).then(|| {
            format!(
                "/proc/PID/smaps_rollup of {refused} processes can't be read: run inferscope as their user with \
                 CAP_SYS_PTRACE, or as root"
            )
        });
        (refused == 0).then_some(sum)
    }

    /// Peaks that lie between two looks.
    pub(super) fn note_peaks(&self, table: &mut Table) {
        for (&i, handle) in &self.handles {
            if let Some(bytes) = handle.peak_rss_bytes() {
                table.note_peak_rss(i, bytes);
            }
        }
    }

    /// Whether it is still in /proc, dead or alive.
    pub(super) fn is_there(&self, pid: u32, start: u64) -> bool {
        !matches!(Handle::open(pid, Some(self.units.start_ticks(start)), self.units), Err(Unread::Gone))
    }

    /// A reading apart from the handles kept.
    pub(super) fn read(&self, pid: u32, start: u64) -> Result<Reading, Unread> {
        Handle::open(pid, Some(self.units.start_ticks(start)), self.units)?.read(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Birth;
    use crate::observe::clocks::{self, Kernel, Tick};
    use crate::observe::ebpf::{Id, Record, What};

    struct Charged;

    impl Kernel for Charged {
        fn look(&mut self) -> Option<clocks::Look> {
            None
        }

        fn clock(&mut self, _pid: u32) -> Option<Nanos> {
            Some(Nanos(1_000))
        }

        fn now(&mut self) -> Mono {
            Mono(1)
        }
    }

    fn clocks(table: &Table) -> Clocks {
        let tick = Tick { length: Nanos::from_millis(4), longest: Nanos::from_millis(4) };
        clocks::read(&table.members(), tick, &mut Charged)
    }

    /// A child of this process, as the kernel tells of its birth.
    fn born(table: &mut Table, pid: u32) {
        let start = procfs::process::Process::new(pid as i32).unwrap().stat().unwrap().starttime;
        let start_boottime_ns = start * (1_000_000_000 / procfs::ticks_per_second());
        let what = What::Fork { parent: std::process::id(), cgroup_id: 0, comm: "born".into() };
        table.apply(Record { t: Mono(0), id: Id { host_pid: pid, start_boottime_ns }, pid, what });
    }

    #[test]
    fn a_handle_is_opened_for_what_lives_at_two_looks_or_at_the_last() {
        for (looks, handles) in [(&[false][..], 0), (&[false, false], 1), (&[true], 1), (&[false, true], 1)] {
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let (mut sampler, mut table) = (Sampler::new(), Table::new(8));
            born(&mut table, child.id());
            let mut counted = Vec::new();
            for &is_last in looks {
                let look = sampler.look(&clocks(&table), is_last, &mut table);
                counted.push((look.processes, look.threads, look.rss_bytes > 0));
            }
            let opened = sampler.handles.len();
            child.kill().unwrap();
            child.wait().unwrap();
            // It counts in each of them all the same.
            assert_eq!(counted, vec![(1, 1, true); looks.len()], "{looks:?}");
            assert_eq!(opened, handles, "{looks:?}");
            let (records, _) = table.finish(true, true);
            assert_eq!(records[0].birth, Birth::Forked);
            assert_eq!(records[0].times_sampled as usize, looks.len());
            assert_eq!(records[0].exe.is_some(), handles == 1, "{looks:?}: {:?}", records[0]);
        }
    }
}
