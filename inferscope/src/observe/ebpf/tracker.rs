//! The kernel tracker: attaches the programs, takes the snapshot, drains the ring.
//!
//! Owns the loaded programs; they end with it, also when this process is killed, since nothing is
//! pinned. Decides nothing about processes (`observe::table` does). Used by `observe::observer`.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use inferscope_common::{Control, MAX_ROOTS, Settings, Totals, mode};

use super::error::{EbpfError, refused};
use super::event::{self, Record};
use super::log::KernelLog;
use super::on_cpu::OnCpus;
use super::programs::{self, Loaded, Observable};
use super::syscall;
use super::tracepoint::{Stage, Tracepoint, missed_runs};
use crate::event::MissedRuns;
use crate::observe::clocks::Look;
use crate::observe::target_discovery::Found;

/// A snapshot pass marks at least one task or is the last; a tree deeper than this grows faster than
/// it can be read.
const MAX_PASSES: usize = 64;

/// From the point of no return to the tracepoint, if no disk is slow.
const EXEC_TAKES: Duration = Duration::from_millis(10);
const LATE_EXEC_LOOKS: usize = 3;

pub(crate) struct Tracker {
    /// Attached or not any more.
    programs: Vec<(&'static Tracepoint, OwnedFd)>,
    /// Programs that a test wants not to be attached.
    skipped: Vec<&'static str>,
    /// Closing one detaches its program.
    links: Vec<(Stage, OwnedFd)>,
    /// The task iterator.
    snapshot: OwnedFd,
    ring: RingBuf<MapData>,
    totals: PerCpuArray<MapData, [u64; TOTALS]>,
    control: Array<MapData, [u32; CONTROL]>,
    page_bytes: u64,
    observable: Observable,
    /// As of the moment from which no exec is reported any more.
    late_execs: Option<u64>,
    /// Or why what runs on the CPUs can't be seen.
    on_cpus: Result<OnCpus, String>,
    log: KernelLog,
}

/// For tests: names of programs that are not attached, as if the kernel skipped each of their runs.
const SKIPPED: &str = "INFERSCOPE_SKIPPED_PROGRAMS";
/// The count that the kernel is taken to give for them.
const SKIPPED_RUNS: u64 = 1_000_000;

const TOTALS: usize = size_of::<Totals>() / size_of::<u64>();
const CONTROL: usize = size_of::<Control>() / size_of::<u32>();

impl Tracker {
    /// Loads, attaches and marks the living; `on_alive` gets a record of each. From the return on,
    /// every event of the set is in the ring.
    pub(crate) fn start(
        target: &Found,
        ring_bytes: u32,
        page_bytes: u64,
        on_alive: impl FnMut(Record),
    ) -> Result<Self, EbpfError> {
        let roots = &target.roots;
        if roots.len() > MAX_ROOTS {
            return Err(EbpfError::TooManyRoots(roots.len()));
        }
        let mut settings = Settings { wake_at_bytes: ring_bytes / 4, ..Settings::default() };
        settings.roots[..roots.len()].copy_from_slice(roots);
        if let Some(cgroup) = &target.cgroup {
            settings.cgroup_id = cgroup.id;
            settings.strict = u32::from(cgroup.strict);
        }
        let Loaded { mut object, programs, snapshot, observable, on_cpu } =
            programs::load(&settings, ring_bytes)?;
        let ring = RingBuf::try_from(Map::RingBuf(object.take_map("EVENTS")?)).map_err(refused)?;
        let totals = Map::PerCpuArray(object.take_map("TOTALS")?);
        let totals = PerCpuArray::try_from(totals).map_err(refused)?;
        let control = Array::try_from(Map::Array(object.take_map("CONTROL")?)).map_err(refused)?;
        let on_cpus = on_cpu.and_then(|(program, cpus)| {
            let map = object.take_map("ON_CPU").map_err(|e| e.to_string())?;
            OnCpus::new(program, map.fd().as_fd(), cpus).map_err(|e| e.to_string())
        });
        let links = Vec::new();
        let log = KernelLog::of(snapshot.as_fd());
        let mut tracker = Self {
            programs,
            skipped: Vec::new(),
            links,
            snapshot,
            ring,
            totals,
            control,
            page_bytes,
            observable,
            late_execs: None,
            on_cpus,
            log,
        };
        tracker.identify(target.cgroup.as_ref().map(|c| c.below_own))?;
        tracker.set_mode(mode::MARK)?;
        let skipped = std::env::var(SKIPPED).unwrap_or_default();
        for (tracepoint, program) in &tracker.programs {
            if skipped.split(',').any(|skipped| skipped == tracepoint.program) {
                tracker.skipped.push(tracepoint.program);
                continue;
            }
            let link = syscall::attach_tracepoint(program.as_fd()).map_err(refused)?;
            tracker.links.push((tracepoint.stage, link));
        }
        tracker.mark(on_alive)?;
        Ok(tracker)
    }

    /// Who inferscope is in the initial pid namespace, and how deep its own lies; from its own cgroup's
    /// depth also the target's.
    fn identify(&mut self, cgroup_below_own: Option<i32>) -> Result<(), EbpfError> {
        self.set_mode(mode::IDENTIFY)?;
        self.iterate(|_| {})?;
        let control = self.control()?;
        let own =
            std::fs::metadata("/proc/self/ns/pid").map(|m| std::os::unix::fs::MetadataExt::ino(&m)).ok();
        // Without /proc the kernel's word stands alone.
        if control.own_host_tgid == 0 || own.is_some_and(|own| own != u64::from(control.ns_inode)) {
            return Err(EbpfError::NoIdentity);
        }
        if let Some(below) = cgroup_below_own {
            let cgroup_level = control.own_cgroup_level.saturating_add_signed(below);
            self.set_control(Control { cgroup_level, ..control })?;
        }
        Ok(())
    }

    /// Marks what belongs to the target and is not marked yet, until a pass finds nothing new: at the
    /// start all that lives, later the threads of what was moved in.
    pub(crate) fn mark(&mut self, mut on_alive: impl FnMut(Record)) -> Result<(), EbpfError> {
        self.set_mode(mode::MARK)?;
        let mut admitted = self.totals().map(|t| t.admitted);
        for _ in 0..MAX_PASSES {
            let marked = self.iterate(&mut on_alive)?;
            // One that was marked for a child of its own may have older ones, which this pass saw before.
            let before = std::mem::replace(&mut admitted, self.totals().map(|t| t.admitted));
            if marked == 0 && admitted == before {
                return self.set_mode(mode::TRACK);
            }
        }
        Err(EbpfError::NeverSettled(MAX_PASSES))
    }

    /// Where the kernel skipped an exec, the living may have execs that were not reported; those of the ended are counted
    /// at their end.
    fn find_late_execs(&mut self) -> Result<(), EbpfError> {
        if self.missed_runs().is_none_or(|missed| missed.execs == 0) {
            return Ok(());
        }
        for _ in 0..LATE_EXEC_LOOKS {
            let before = self.totals().map(|t| t.late_execs);
            self.set_mode(mode::EXECS)?;
            self.iterate(|_| {})?;
            if self.totals().map(|t| t.late_execs) == before {
                break;
            }
            // One that was on its way is reported by now, and taken out again.
            std::thread::sleep(EXEC_TAKES);
        }
        self.set_mode(mode::TRACK)
    }

    /// Tells of every member that lives, whatever records were lost.
    pub(crate) fn sweep(&mut self, on_alive: impl FnMut(Record)) -> Result<(), EbpfError> {
        self.set_mode(mode::SWEEP)?;
        self.iterate(on_alive)?;
        self.set_mode(mode::TRACK)
    }

    /// From now on nobody enters the set and no further end is reported; the final figures of the ended are.
    pub(crate) fn close(&mut self) -> Result<(), EbpfError> {
        self.set_mode(mode::CLOSED)
    }

    fn iterate(&mut self, mut on_record: impl FnMut(Record)) -> Result<usize, EbpfError> {
        let mut bytes = Vec::new();
        let mut run = syscall::iterate(self.snapshot.as_fd()).map_err(refused)?;
        run.read_to_end(&mut bytes).map_err(EbpfError::Snapshot)?;
        let mut records = 0;
        for record in bytes.chunks_exact(event::ALIVE_BYTES) {
            if let Ok(record) = event::decode(record, self.page_bytes) {
                records += 1;
                on_record(record);
            }
        }
        Ok(records)
    }

    fn control(&self) -> Result<Control, EbpfError> {
        self.control.get(&0, 0).map(bytemuck::cast).map_err(refused)
    }

    fn set_mode(&mut self, mode: u32) -> Result<(), EbpfError> {
        self.set_control(Control { mode, ..self.control()? })
    }

    fn set_control(&mut self, control: Control) -> Result<(), EbpfError> {
        self.control.set(0, bytemuck::cast::<_, [u32; CONTROL]>(control), 0).map_err(refused)
    }

    /// Which threads run at this moment, and up to when their run time is charged.
    pub(crate) fn running(&self) -> Option<Look> {
        self.on_cpus.as_ref().ok()?.look()
    }

    /// Why [`Self::running`] is `None`.
    pub(crate) fn running_reason(&self) -> Option<&str> {
        self.on_cpus.as_ref().err().map(String::as_str)
    }

    /// Whether OOM kills are reported.
    pub(crate) fn tells_oom(&self) -> bool {
        self.observable.oom_kills
    }

    /// Whether execs are found for which the program did not run.
    pub(crate) fn tells_late_execs(&self) -> bool {
        self.observable.late_execs
    }

    /// Readable when much is waiting.
    pub(crate) fn ring_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Hands every waiting record to `on_record`; returns how many could not be decoded.
    pub(crate) fn drain(&mut self, mut on_record: impl FnMut(Record)) -> u64 {
        self.log.flush();
        let mut undecodable = 0;
        while let Some(item) = self.ring.next() {
            match event::decode(&item, self.page_bytes) {
                Ok(record) => on_record(record),
                Err(_) => undecodable += 1,
            }
        }
        undecodable
    }

    /// The kernel program's own counters, summed over the CPUs; `None` when they can't be read.
    pub(crate) fn totals(&self) -> Option<Totals> {
        let per_cpu = self.totals.get(&0, 0).ok()?;
        let mut sum = [0_u64; TOTALS];
        for cpu in per_cpu.iter() {
            for (total, part) in sum.iter_mut().zip(cpu) {
                *total = total.wrapping_add(*part);
            }
        }
        let mut totals: Totals = bytemuck::cast(sum);
        totals.late_execs = self.late_execs.unwrap_or(totals.late_execs);
        Some(totals)
    }

    /// Runs that the kernel skipped so far; `None` where it does not count them.
    pub(crate) fn missed_runs(&self) -> Option<MissedRuns> {
        missed_runs(&self.programs, |tracepoint, program| {
            let all = self.skipped.contains(&tracepoint.program).then_some(SKIPPED_RUNS);
            all.or_else(|| syscall::recursion_misses(program.as_fd()).ok())
        })
    }

    /// No process enters the set any more, and no exec counts; deaths are still reported.
    pub(crate) fn detach_births(&mut self) -> Result<(), EbpfError> {
        // While execs are still reported, as each later one would look like one that was skipped.
        let looked = self.find_late_execs();
        self.detach(Stage::Births);
        self.late_execs = self.totals().map(|t| t.late_execs);
        looked
    }

    /// No further event; what is in the ring stays there to be drained.
    pub(crate) fn detach_deaths(&mut self) {
        self.detach(Stage::Deaths);
    }

    fn detach(&mut self, ended: Stage) {
        self.links.retain(|(stage, _)| *stage != ended);
    }
}
