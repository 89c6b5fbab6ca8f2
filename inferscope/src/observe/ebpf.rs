//! The kernel tracker: loads the program, takes the snapshot, drains the ring.
//!
//! Owns the loaded programs; they end with it, also when this process is killed, since nothing is
//! pinned. Decides nothing about processes (`observe::table` does). Used by `observe::observer`.

mod btf;
mod decode;
mod kernel;
mod loader;
mod log;
mod misses;
mod offsets;
mod on_cpu;
mod syscall;

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use aya_obj::generated::bpf_attach_type;
use inferscope_common::{Control, MAX_ROOTS, Settings, TaskRecord, Totals, mode};

use self::btf::{Btf, Named};
use self::kernel::{ForkHook, Hooks, Version};
use self::loader::{Object, ObjectError, Patch};
use self::log::KernelLog;
use self::offsets::Resolved;
use self::on_cpu::OnCpus;
use self::syscall::Kind;
use super::clocks::Look;
use super::target_discovery::Found;
use crate::event::MissedRuns;
use crate::units;

pub use kernel::{Version as KernelVersion, too_old};

pub(crate) use decode::{Alive, GroupUsage, Id, Record, What, cpu_of, cputime_adjust};

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/inferscope-ebpf.o"));

/// A snapshot pass marks at least one task or is the last; a tree deeper than this grows faster than
/// it can be read.
const MAX_PASSES: usize = 64;

/// From the point of no return to the tracepoint, if no disk is slow.
const EXEC_TAKES: Duration = Duration::from_millis(10);
const LATE_EXEC_LOOKS: usize = 3;

type Tracepoint = (&'static str, &'static str);

/// Where processes come from and change.
const BIRTHS: [Tracepoint; 4] = [EXEC, ("on_cgroup_attach", "cgroup_attach_task"), FORK, WAKEUP_NEW];
const EXEC: Tracepoint = ("on_exec", "sched_process_exec");
/// One of the two.
const FORK: Tracepoint = ("on_fork", "sched_process_fork");
const WAKEUP_NEW: Tracepoint = ("on_wakeup_new", "sched_wakeup_new");
/// Where they end.
const DEATHS: [Tracepoint; 3] = [("on_free", "sched_process_free"), ("on_switch", "sched_switch"), EXIT];
const EXIT: Tracepoint = ("on_exit", "sched_process_exit");
/// Only where the kernel tells the task (6.9 and later).
const OOM: Tracepoint = ("on_oom", "mark_victim");

/// Why the kernel tracker can't be had; each with what would help.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    #[error(
        "the kernel has no BTF ({0}); it needs CONFIG_DEBUG_INFO_BTF and a readable /sys/kernel/btf/vmlinux"
    )]
    NoBtf(String),
    /// Named instead of whatever it lacks.
    #[error("{0}")]
    TooOld(String),
    #[error("this kernel's cgroups do not tell what they are below of, so that none can be a target")]
    NoAncestors,
    #[error("{0}")]
    Offsets(#[from] OffsetsError),
    #[error("the kernel refused it: {0}; it needs root, or CAP_BPF and CAP_PERFMON")]
    Refused(String),
    #[error(
        "the task iterator does not find inferscope itself in its pid namespace; run it in the host's (docker run --pid=host)"
    )]
    NoIdentity,
    #[error("{0} roots are more than the {MAX_ROOTS} it can follow")]
    TooManyRoots(usize),
    #[error("the target grew in each of {MAX_PASSES} looks at it, so that the living can't be told")]
    NeverSettled,
    #[error(
        "the kernel does not show process {0} to tracing programs, so that what it forks can't be told; \
         --tracker proc follows it"
    )]
    HiddenRoot(u32),
    #[error("the snapshot of the living can't be read: {0}")]
    Snapshot(std::io::Error),
}

/// A kernel whose structs are not as expected.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OffsetsError(offsets::OffsetError);

/// Loads every program and attaches none: whether this kernel and these privileges let the tracker run.
///
/// # Errors
/// Why not.
pub fn probe() -> Result<(), EbpfError> {
    load(&Settings::default(), smallest_ring()).map(drop)
}

/// A page, which is 4, 16 or 64 KiB.
fn smallest_ring() -> u32 {
    u32::try_from(rustix::param::page_size())
        .ok()
        .and_then(|page| units::ring_bytes(0, page))
        .unwrap_or(1 << 16)
}

pub(crate) struct Tracker {
    /// Each tracepoint's program by its name, attached or not any more.
    programs: Vec<(&'static str, OwnedFd)>,
    /// Those that a test wants not to be attached.
    skipped: Vec<&'static str>,
    /// Each attached tracepoint's program by its name; closing its link detaches it.
    links: Vec<(&'static str, OwnedFd)>,
    /// The task iterator.
    snapshot: OwnedFd,
    ring: RingBuf<MapData>,
    totals: PerCpuArray<MapData, [u64; TOTALS]>,
    control: Array<MapData, [u32; 6]>,
    page_bytes: u64,
    kernel: KernelTells,
    /// As of the moment from which no exec is told any more.
    late_execs: Option<u64>,
    /// Or why it can't be told what runs.
    on_cpus: Result<OnCpus, String>,
    log: KernelLog,
}

/// What this kernel's tracepoints tell.
#[derive(Debug, Clone, Copy)]
struct KernelTells {
    oom: bool,
    late_execs: bool,
}

/// For tests: `process_fork` or `wakeup_new`, whatever the version says.
const FORK_HOOK: &str = "INFERSCOPE_FORK_HOOK";
/// For tests: names of programs that are not attached, as if the kernel skipped each of their runs.
const SKIPPED: &str = "INFERSCOPE_SKIPPED_PROGRAMS";
/// How many those are said to be.
const SKIPPED_RUNS: u64 = 1_000_000;

const TOTALS: usize = size_of::<Totals>() / size_of::<u64>();

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
        let Loaded { mut object, programs, snapshot, kernel, on_cpu } = load(&settings, ring_bytes)?;
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
            kernel,
            late_execs: None,
            on_cpus,
            log,
        };
        tracker.identify(target.cgroup.as_ref().map(|c| c.below_own))?;
        tracker.set_mode(mode::MARK)?;
        let skipped = std::env::var(SKIPPED).unwrap_or_default();
        for (name, program) in &tracker.programs {
            if skipped.split(',').any(|skipped| skipped == *name) {
                tracker.skipped.push(name);
                continue;
            }
            let link = syscall::attach_tracepoint(program.as_fd()).map_err(refused)?;
            tracker.links.push((name, link));
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
            let told = self.iterate(&mut on_alive)?;
            // One that was marked for a child of its own may have older ones, which this pass saw before.
            let before = std::mem::replace(&mut admitted, self.totals().map(|t| t.admitted));
            if told == 0 && admitted == before {
                return self.set_mode(mode::TRACK);
            }
        }
        Err(EbpfError::NeverSettled)
    }

    /// Where the kernel skipped an exec, the living may have execs of which nobody told; those of the ended are counted
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
            // One that was on its way is told by now, and taken out again.
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

    /// From now on nobody enters the set and no further end is told; the final figures of the ended are.
    pub(crate) fn close(&mut self) -> Result<(), EbpfError> {
        self.set_mode(mode::CLOSED)
    }

    fn iterate(&mut self, mut on_record: impl FnMut(Record)) -> Result<usize, EbpfError> {
        let mut bytes = Vec::new();
        let mut run = syscall::iterate(self.snapshot.as_fd()).map_err(refused)?;
        run.read_to_end(&mut bytes).map_err(EbpfError::Snapshot)?;
        let mut told = 0;
        for record in bytes.chunks_exact(size_of::<TaskRecord>()) {
            if let Ok(record) = decode::decode(record, self.page_bytes) {
                told += 1;
                on_record(record);
            }
        }
        Ok(told)
    }

    fn control(&self) -> Result<Control, EbpfError> {
        self.control.get(&0, 0).map(bytemuck::cast).map_err(refused)
    }

    fn set_mode(&mut self, mode: u32) -> Result<(), EbpfError> {
        self.set_control(Control { mode, ..self.control()? })
    }

    fn set_control(&mut self, control: Control) -> Result<(), EbpfError> {
        self.control.set(0, bytemuck::cast::<_, [u32; 6]>(control), 0).map_err(refused)
    }

    /// Which threads run at this moment, and up to when their run time is charged.
    pub(crate) fn running(&self) -> Option<Look> {
        self.on_cpus.as_ref().ok()?.look()
    }

    /// Why [`Self::running`] tells nothing.
    pub(crate) fn running_reason(&self) -> Option<&str> {
        self.on_cpus.as_ref().err().map(String::as_str)
    }

    /// Whether OOM kills are told.
    pub(crate) fn tells_oom(&self) -> bool {
        self.kernel.oom
    }

    /// Whether execs are found of which no run of the program told.
    pub(crate) fn tells_late_execs(&self) -> bool {
        self.kernel.late_execs
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
            match decode::decode(&item, self.page_bytes) {
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

    /// Runs that the kernel skipped so far; `None` where it does not tell.
    pub(crate) fn missed_runs(&self) -> Option<MissedRuns> {
        misses::sum(&self.programs, |name, program| {
            let all = self.skipped.contains(&name).then_some(SKIPPED_RUNS);
            all.or_else(|| syscall::recursion_misses(program.as_fd()).ok())
        })
    }

    /// No process enters the set any more, and no exec counts; deaths are still told.
    pub(crate) fn detach_births(&mut self) -> Result<(), EbpfError> {
        // As long as execs are told, as each later one would look like one that was skipped.
        let looked = self.find_late_execs();
        self.detach(&BIRTHS);
        self.late_execs = self.totals().map(|t| t.late_execs);
        looked
    }

    /// No further event; what is in the ring stays there to be drained.
    pub(crate) fn detach_deaths(&mut self) {
        self.detach(&DEATHS);
        if self.kernel.oom {
            self.detach(&[OOM]);
        }
    }

    fn detach(&mut self, tracepoints: &[Tracepoint]) {
        self.links.retain(|(name, _)| !tracepoints.iter().any(|(detached, _)| detached == name));
    }
}

struct Loaded {
    object: Object,
    /// Those for tracepoints, in the order in which they are attached.
    programs: Vec<(&'static str, OwnedFd)>,
    snapshot: OwnedFd,
    kernel: KernelTells,
    /// The program that tells what runs, and on how many CPUs; or why there is none.
    on_cpu: Result<(OwnedFd, u32), String>,
}

fn load(settings: &Settings, ring_bytes: u32) -> Result<Loaded, EbpfError> {
    load_here(settings, ring_bytes).map_err(|error| {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        too_old(&release).map_or(error, EbpfError::TooOld)
    })
}

fn load_here(settings: &Settings, ring_bytes: u32) -> Result<Loaded, EbpfError> {
    let told = read_btf()?;
    if settings.cgroup_id != 0 && !told.resolved.tells_ancestors() {
        return Err(EbpfError::NoAncestors);
    }
    let cpus = on_cpu::possible_cpus().ok_or("the number of CPUs can't be read");
    let settings = Settings {
        cpus: cpus.unwrap_or(0),
        exit_tells_group_dead: u32::from(told.resolved.exit_tells_group_dead),
        ..*settings
    };
    let (log_level, log_bytes) = log::settings(smallest_ring());
    let patch = Patch {
        globals: &[
            ("AYA_LOG_LEVEL", &[log_level]),
            ("LAYOUT", bytemuck::bytes_of(&told.resolved.layout)),
            ("SETTINGS", bytemuck::bytes_of(&settings)),
        ],
        sizes: &[("EVENTS", ring_bytes), ("AYA_LOGS", log_bytes), ("ON_CPU", cpus.unwrap_or(0) + 1)],
    };
    let object = Object::create(OBJECT, &patch)?;
    let programs = told
        .tracepoints
        .iter()
        .map(|&(name, id)| Ok((name, object.load(name, tracing(bpf_attach_type::BPF_TRACE_RAW_TP, id))?)))
        .collect::<Result<_, ObjectError>>()?;
    let snapshot = object.load("snapshot", tracing(bpf_attach_type::BPF_TRACE_ITER, told.task_iterator))?;
    let on_cpu = match (told.resolved.on_cpu, cpus) {
        (Ok(()), Ok(cpus)) => match object.load("on_cpu", Kind::OnDemand) {
            Ok(program) => Ok((program, cpus)),
            Err(e) => Err(refused(e).to_string()),
        },
        (Err(e), _) => Err(e.to_string()),
        (_, Err(e)) => Err(e.to_owned()),
    };
    Ok(Loaded { object, programs, snapshot, kernel: told.kernel, on_cpu })
}

const fn tracing(attach_type: bpf_attach_type, btf_id: u32) -> Kind {
    Kind::Tracing { attach_type, btf_id }
}

/// What the kernel's BTF tells; the file itself, some megabytes, is not kept.
struct Told {
    resolved: Resolved,
    kernel: KernelTells,
    /// Programs, each with the id of what it attaches to.
    tracepoints: Vec<(&'static str, u32)>,
    task_iterator: u32,
}

fn read_btf() -> Result<Told, EbpfError> {
    let bytes = fs::read("/sys/kernel/btf/vmlinux").map_err(|e| EbpfError::NoBtf(e.to_string()))?;
    let btf = Btf::parse(&bytes).map_err(|e| EbpfError::NoBtf(e.to_string()))?;
    let resolved = offsets::resolve(&btf).map_err(|e| EbpfError::Offsets(OffsetsError(e)))?;
    let kernel =
        KernelTells { oom: resolved.oom_tells_task, late_execs: resolved.layout.task_self_exec_id != 0 };
    let hooks = kernel::hooks(Version::running(), std::env::var(FORK_HOOK).ok().as_deref());
    let find = |kind, name: &str| {
        btf.find(kind, name).ok_or_else(|| EbpfError::Refused(format!("its BTF has no {name}")))
    };
    let tracepoints = tracepoints(kernel, hooks)
        .map(|(program, at)| Ok((program, find(Named::Typedef, &format!("btf_trace_{at}"))?)))
        .collect::<Result<_, EbpfError>>()?;
    Ok(Told { resolved, kernel, tracepoints, task_iterator: find(Named::Func, "bpf_iter_task")? })
}

/// In the order in which they are attached: what ends a process before what begins one, so that of each
/// process whose birth is seen the end is seen too.
fn tracepoints(kernel: KernelTells, hooks: Hooks) -> impl Iterator<Item = Tracepoint> {
    let unused = if hooks.fork == ForkHook::WakeupNew { FORK } else { WAKEUP_NEW };
    let more = |times, tracepoint| std::iter::repeat_n(tracepoint, if hooks.spares { times } else { 0 });
    let oom = kernel.oom.then_some(OOM);
    // Of an exec nobody else tells what it was; an end is told by the last switch too.
    let all = oom.into_iter().chain(DEATHS).chain(more(1, EXIT)).chain(more(3, EXEC)).chain(BIRTHS);
    all.filter(move |tracepoint| *tracepoint != unused)
}

/// Those of any kernel.
#[cfg(test)]
fn every_tracepoint() -> impl Iterator<Item = Tracepoint> {
    let hooks = [ForkHook::ProcessFork, ForkHook::WakeupNew].map(|fork| Hooks { fork, spares: true });
    hooks.into_iter().flat_map(|hooks| tracepoints(KernelTells { oom: true, late_execs: true }, hooks))
}

impl From<ObjectError> for EbpfError {
    fn from(error: ObjectError) -> Self {
        refused(error)
    }
}

fn refused(error: impl std::error::Error) -> EbpfError {
    tracing::debug!("kernel tracker: {error:?}");
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    EbpfError::Refused(text.lines().next().unwrap_or_default().to_owned())
}
