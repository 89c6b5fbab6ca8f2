//! Bytes of the ring and of the task iterator become [`Record`]s: one module an event.
//!
//! Pure. Each module has the tracepoints of its event and decodes its records, whose layout `inferscope_common::event`
//! has. Checks the length before it reads; what does not fit is an error to count, never a panic. Used by the tracker.

mod alive;
mod cgroup_move;
mod exec;
mod exit;
mod fork;
mod free;
mod oom;
mod record;

use inferscope_common::event::alive::AliveRecord;
use inferscope_common::event::cgroup_move::{MigrateRecord, MoveInRecord, MoveOutRecord};
use inferscope_common::event::exec::ExecRecord;
use inferscope_common::event::exit::ExitRecord;
use inferscope_common::event::fork::ForkRecord;
use inferscope_common::event::free::FreeRecord;
use inferscope_common::event::oom::OomRecord;
use inferscope_common::event::{Header, WireRecord};

use self::record::{Decode, read};
use super::tracepoint::{Kernel, Tracepoint};
use crate::clock::Mono;

pub(super) use alive::RECORD_BYTES as ALIVE_BYTES;
pub(crate) use record::{Alive, Id, Record, What};

/// In the order in which they are attached: what ends a process before what begins one, so that of each
/// process whose birth is seen the end is seen too.
static TRACEPOINTS: [Tracepoint; 8] = [
    oom::ON_OOM,
    free::ON_FREE,
    exit::ON_SWITCH,
    exit::ON_EXIT,
    exec::ON_EXEC,
    cgroup_move::ON_CGROUP_ATTACH,
    fork::ON_FORK,
    fork::ON_WAKEUP_NEW,
];

/// Those of this kernel.
pub(super) fn tracepoints(kernel: &Kernel) -> impl Iterator<Item = &'static Tracepoint> {
    let used = TRACEPOINTS.iter().filter(|tracepoint| (tracepoint.is_used)(kernel));
    used.flat_map(|tracepoint| {
        let spares = if kernel.hooks.spares { tracepoint.spares } else { 0 };
        std::iter::repeat_n(tracepoint, 1 + spares)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of {len} bytes and kind {kind} is none that this version knows")]
pub(crate) struct DecodeError {
    len: usize,
    kind: u32,
}

pub(crate) fn decode(bytes: &[u8], page_bytes: u64) -> Result<Record, DecodeError> {
    let unknown = |kind| DecodeError { len: bytes.len(), kind };
    let header: Header = read(bytes).ok_or(unknown(0))?;
    let what = match header.kind {
        ForkRecord::KIND => decode_as::<ForkRecord>(bytes, page_bytes),
        ExecRecord::KIND => decode_as::<ExecRecord>(bytes, page_bytes),
        ExitRecord::KIND => decode_as::<ExitRecord>(bytes, page_bytes),
        FreeRecord::KIND => decode_as::<FreeRecord>(bytes, page_bytes),
        MigrateRecord::KIND => decode_as::<MigrateRecord>(bytes, page_bytes),
        MoveInRecord::KIND => decode_as::<MoveInRecord>(bytes, page_bytes),
        MoveOutRecord::KIND => decode_as::<MoveOutRecord>(bytes, page_bytes),
        OomRecord::KIND => decode_as::<OomRecord>(bytes, page_bytes),
        AliveRecord::KIND => decode_as::<AliveRecord>(bytes, page_bytes),
        _ => None,
    };
    let id = Id { host_pid: header.host_tgid, start_boottime_ns: header.start_boottime_ns };
    let what = what.ok_or(unknown(header.kind))?;
    Ok(Record { t: Mono(header.t_ns), id, pid: header.tgid, what })
}

fn decode_as<R: Decode>(bytes: &[u8], page_bytes: u64) -> Option<What> {
    read::<R>(bytes).map(|record| record.decode(page_bytes))
}

#[cfg(test)]
mod tests;
