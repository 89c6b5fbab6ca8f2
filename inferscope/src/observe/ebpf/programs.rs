//! The programs of the embedded object, loaded for this kernel and attached to nothing.
//!
//! Owns what is patched into the object: field offsets, settings, sizes of maps. Used by the tracker, and by `doctor`
//! to see whether they can be loaded.

use std::fs;
use std::os::fd::OwnedFd;

use aya_obj::generated::bpf_attach_type;
use inferscope_common::Settings;

use super::btf::{Btf, Named};
use super::error::{EbpfError, OffsetsError, refused};
use super::event;
use super::kernel::{self, Version, too_old};
use super::loader::{Object, ObjectError, Patch};
use super::offsets::{self, Resolved};
use super::syscall::Kind;
use super::tracepoint::{Kernel, Tracepoint};
use super::{log, on_cpu};
use crate::units;

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/inferscope-ebpf.o"));

/// For tests: `process_fork` or `wakeup_new`, whatever the version says.
const FORK_HOOK: &str = "INFERSCOPE_FORK_HOOK";

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

pub(super) struct Loaded {
    pub(super) object: Object,
    /// In the order in which they are attached.
    pub(super) programs: Vec<(&'static Tracepoint, OwnedFd)>,
    /// The task iterator.
    pub(super) snapshot: OwnedFd,
    pub(super) observable: Observable,
    /// The program that looks at the CPUs, and how many those are; or why there is none.
    pub(super) on_cpu: Result<(OwnedFd, u32), String>,
}

/// What can be observed on some kernels only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observable {
    pub(super) oom_kills: bool,
    /// Execs for which the program did not run.
    pub(super) late_execs: bool,
}

pub(super) fn load(settings: &Settings, ring_bytes: u32) -> Result<Loaded, EbpfError> {
    load_here(settings, ring_bytes).map_err(|error| {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        too_old(&release).map_or(error, EbpfError::TooOld)
    })
}

fn load_here(settings: &Settings, ring_bytes: u32) -> Result<Loaded, EbpfError> {
    let found = read_btf()?;
    if settings.cgroup_id != 0 && !found.resolved.has_ancestors() {
        return Err(EbpfError::NoAncestors);
    }
    let cpus = on_cpu::possible_cpus().ok_or("the number of CPUs can't be read");
    let settings = Settings {
        cpus: cpus.unwrap_or(0),
        exit_has_group_dead: u32::from(found.resolved.exit_has_group_dead),
        ..*settings
    };
    let (log_level, log_bytes) = log::settings(smallest_ring());
    let patch = Patch {
        globals: &[
            ("AYA_LOG_LEVEL", &[log_level]),
            ("LAYOUT", bytemuck::bytes_of(&found.resolved.layout)),
            ("SETTINGS", bytemuck::bytes_of(&settings)),
        ],
        sizes: &[("EVENTS", ring_bytes), ("AYA_LOGS", log_bytes), ("ON_CPU", cpus.unwrap_or(0) + 1)],
    };
    let object = Object::create(OBJECT, &patch)?;
    let programs = found
        .tracepoints
        .iter()
        .map(|&(tracepoint, id)| {
            let kind = tracing(bpf_attach_type::BPF_TRACE_RAW_TP, id);
            Ok((tracepoint, object.load(tracepoint.program, kind)?))
        })
        .collect::<Result<_, ObjectError>>()?;
    let snapshot = object.load("snapshot", tracing(bpf_attach_type::BPF_TRACE_ITER, found.task_iterator))?;
    let observable = Observable {
        oom_kills: found.resolved.oom_has_task,
        late_execs: found.resolved.layout.task_self_exec_id != 0,
    };
    let on_cpu = match (found.resolved.on_cpu, cpus) {
        (Ok(()), Ok(cpus)) => match object.load("on_cpu", Kind::OnDemand) {
            Ok(program) => Ok((program, cpus)),
            Err(e) => Err(refused(e).to_string()),
        },
        (Err(e), _) => Err(e.to_string()),
        (_, Err(e)) => Err(e.to_owned()),
    };
    Ok(Loaded { object, programs, snapshot, observable, on_cpu })
}

const fn tracing(attach_type: bpf_attach_type, btf_id: u32) -> Kind {
    Kind::Tracing { attach_type, btf_id }
}

/// What is needed of the kernel's BTF; the file itself, some megabytes, is not kept.
struct KernelTypes {
    resolved: Resolved,
    /// Each with the id of what its program attaches to.
    tracepoints: Vec<(&'static Tracepoint, u32)>,
    task_iterator: u32,
}

fn read_btf() -> Result<KernelTypes, EbpfError> {
    let bytes = fs::read("/sys/kernel/btf/vmlinux").map_err(|e| EbpfError::NoBtf(e.to_string()))?;
    let btf = Btf::parse(&bytes).map_err(|e| EbpfError::NoBtf(e.to_string()))?;
    let resolved = offsets::resolve(&btf).map_err(|e| EbpfError::Offsets(OffsetsError(e)))?;
    let hooks = kernel::hooks(Version::running(), std::env::var(FORK_HOOK).ok().as_deref());
    let kernel = Kernel { hooks, oom_has_task: resolved.oom_has_task };
    let find = |kind, name: &str| {
        btf.find(kind, name).ok_or_else(|| EbpfError::Refused(format!("its BTF has no {name}")))
    };
    let tracepoints = event::tracepoints(&kernel)
        .map(|tracepoint| {
            let id = find(Named::Typedef, &format!("btf_trace_{}", tracepoint.at))?;
            Ok((tracepoint, id))
        })
        .collect::<Result<_, EbpfError>>()?;
    Ok(KernelTypes { resolved, tracepoints, task_iterator: find(Named::Func, "bpf_iter_task")? })
}
