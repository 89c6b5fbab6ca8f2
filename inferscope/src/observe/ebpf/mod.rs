//! The kernel tracker: loads the program, takes the snapshot, drains the ring.
//!
//! Owns the loaded programs; they end with it, also when this process is killed, since nothing is
//! pinned. Decides nothing about processes (`observe::table` does). Used by `observe::observer`.

mod decode;
mod offsets;

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf, EbpfLoader};
use inferscope_common::{MAX_ROOTS, Settings, TaskRecord};

pub(crate) use decode::{GroupUsage, Record, What, cputime_adjust};

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/inferscope-ebpf.o"));

/// 256 KiB lost nothing in 100,000 forks (FACTS.md); twice that costs nothing.
const RING_BYTES: u32 = 512 * 1024;

/// `PROC_PID_INIT_INO` (include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A snapshot pass marks at least one task or is the last; a tree deeper than this grows faster than
/// it can be read.
const MAX_PASSES: usize = 64;

type Tracepoint = (&'static str, &'static str);

/// Where processes come from and change.
const BIRTHS: [Tracepoint; 3] = [
    ("on_fork", "sched_process_fork"),
    ("on_exec", "sched_process_exec"),
    ("on_cgroup_attach", "cgroup_attach_task"),
];
/// Where they end.
const DEATHS: [Tracepoint; 2] = [("on_exit", "sched_process_exit"), ("on_free", "sched_process_free")];

/// Why the kernel tracker can't be had; each with what would help.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    #[error("the kernel has no BTF ({0}); it needs CONFIG_DEBUG_INFO_BTF")]
    NoBtf(String),
    #[error("{0}")]
    Offsets(#[from] OffsetsError),
    #[error("the kernel refused it: {0}; it needs root, or CAP_BPF and CAP_PERFMON")]
    Refused(String),
    #[error("inferscope runs in a pid namespace of its own; run it in the host's (docker run --pid=host)")]
    PidNamespace,
    #[error("{0} roots are more than the {MAX_ROOTS} it can follow")]
    TooManyRoots(usize),
    #[error("the target grew in each of {MAX_PASSES} looks at it, so that the living can't be told")]
    NeverSettled,
    #[error("the snapshot of the living can't be read: {0}")]
    Snapshot(std::io::Error),
}

/// A kernel whose structs are not as expected.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OffsetsError(offsets::OffsetError);

pub(crate) struct Tracker {
    // Held for the programs and their links.
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    totals: PerCpuArray<MapData, [u64; 8]>,
    page_bytes: u64,
}

impl Tracker {
    /// Loads, attaches and marks the living; `on_alive` gets a record of each. From the return on,
    /// every event of the set is in the ring.
    pub(crate) fn start(
        roots: &[u32],
        page_bytes: u64,
        mut on_alive: impl FnMut(Record),
    ) -> Result<Self, EbpfError> {
        if roots.len() > MAX_ROOTS {
            return Err(EbpfError::TooManyRoots(roots.len()));
        }
        if pid_namespace().is_some_and(|inode| inode != INITIAL_PID_NAMESPACE) {
            return Err(EbpfError::PidNamespace);
        }
        let resolver =
            btf_rs::Btf::from_file("/sys/kernel/btf/vmlinux").map_err(|e| EbpfError::NoBtf(e.to_string()))?;
        let (layout, exit_tells_group_dead) =
            offsets::resolve(&resolver).map_err(|e| EbpfError::Offsets(OffsetsError(e)))?;
        drop(resolver);
        let mut settings = Settings {
            own_tgid: std::process::id(),
            wake_at_bytes: RING_BYTES / 4,
            exit_tells_group_dead: u32::from(exit_tells_group_dead),
            ..Settings::default()
        };
        settings.roots[..roots.len()].copy_from_slice(roots);

        let btf = Btf::from_sys_fs().map_err(|e| EbpfError::NoBtf(e.to_string()))?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("LAYOUT", bytemuck::bytes_of(&layout), true)
            .override_global("SETTINGS", bytemuck::bytes_of(&settings), true)
            .map_max_entries("EVENTS", RING_BYTES)
            .allow_unsupported_maps()
            .load(OBJECT)
            .map_err(refused)?;
        let missing = |what: &str| EbpfError::Refused(format!("its object has no {what}"));
        let ring = ebpf.take_map("EVENTS").ok_or_else(|| missing("EVENTS"))?;
        let ring = RingBuf::try_from(ring).map_err(refused)?;
        let totals = ebpf.take_map("TOTALS").ok_or_else(|| missing("TOTALS"))?;
        let totals = PerCpuArray::try_from(totals).map_err(refused)?;
        let flag = ebpf.take_map("BOOTSTRAPPING").ok_or_else(|| missing("BOOTSTRAPPING"))?;
        let mut bootstrapping: Array<MapData, u32> = Array::try_from(flag).map_err(refused)?;

        bootstrapping.set(0, 1, 0).map_err(refused)?;
        for (name, tracepoint) in BIRTHS.into_iter().chain(DEATHS) {
            let program: &mut BtfTracePoint =
                ebpf.program_mut(name).ok_or_else(|| missing(name))?.try_into().map_err(refused)?;
            program.load(tracepoint, &btf).map_err(refused)?;
            program.attach().map_err(refused)?;
        }
        let iter: &mut Iter =
            ebpf.program_mut("snapshot").ok_or_else(|| missing("snapshot"))?.try_into().map_err(refused)?;
        iter.load("task", &btf).map_err(refused)?;
        let mut passes = 0;
        while snapshot_pass(iter, page_bytes, &mut on_alive)? > 0 {
            passes += 1;
            if passes == MAX_PASSES {
                return Err(EbpfError::NeverSettled);
            }
        }
        bootstrapping.set(0, 0, 0).map_err(refused)?;
        Ok(Self { ebpf, ring, totals, page_bytes })
    }

    /// Readable when much is waiting.
    pub(crate) fn ring_fd(&self) -> BorrowedFd<'_> {
        // RingBuf implements AsRawFd for its map's descriptor only.
        self.ring.as_fd()
    }

    /// Hands every waiting record to `on_record`; returns how many could not be decoded.
    pub(crate) fn drain(&mut self, mut on_record: impl FnMut(Record)) -> u64 {
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
    pub(crate) fn totals(&self) -> Option<inferscope_common::Totals> {
        let per_cpu = self.totals.get(&0, 0).ok()?;
        let mut sum = [0_u64; 8];
        for cpu in per_cpu.iter() {
            for (total, part) in sum.iter_mut().zip(cpu) {
                *total = total.saturating_add(*part);
            }
        }
        Some(bytemuck::cast(sum))
    }

    /// No process enters the set any more; deaths are still told.
    pub(crate) fn detach_births(&mut self) {
        self.detach(&BIRTHS);
    }

    /// No further event; what is in the ring stays there to be drained.
    pub(crate) fn detach_deaths(&mut self) {
        self.detach(&DEATHS);
    }

    fn detach(&mut self, tracepoints: &[Tracepoint]) {
        for (name, _) in tracepoints {
            if let Some(Ok(program)) = self.ebpf.program_mut(name).map(<&mut BtfTracePoint>::try_from) {
                // Dropping the program's links detaches; a failure leaves it to the process's end.
                let _ = program.unload();
            }
        }
    }
}

fn snapshot_pass(
    iter: &mut Iter,
    page_bytes: u64,
    on_alive: &mut impl FnMut(Record),
) -> Result<usize, EbpfError> {
    let link = iter.attach().map_err(refused)?;
    let link = iter.take_link(link).map_err(refused)?;
    let mut bytes = Vec::new();
    link.into_file().map_err(refused)?.read_to_end(&mut bytes).map_err(EbpfError::Snapshot)?;
    let mut marked = 0;
    for record in bytes.chunks_exact(size_of::<TaskRecord>()) {
        if let Ok(record) = decode::decode(record, page_bytes) {
            marked += 1;
            on_alive(record);
        }
    }
    Ok(marked)
}

/// One line of an aya error: the innermost causes tell most, the verifier's log is for developers.
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

fn pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").ok().map(|m| m.ino())
}
