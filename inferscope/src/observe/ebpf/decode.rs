//! Bytes of the ring and of the task iterator become [`Record`]s.
//!
//! Pure. Checks the length before it reads; what does not fit is an error to count, never a panic.

use bytemuck::Pod;
use inferscope_common::{
    ARGV_LEN, ExecRecord, ExitRecord, ForkRecord, Header, MigrateRecord, OomRecord, Run, TaskRecord, Usage,
    UsageRecord, kind,
};

use crate::clock::Mono;
use crate::event::{CpuTime, ExitStatus};
use crate::units::{Nanos, pages_to_bytes};

/// What the kernel told of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) t: Mono,
    pub(crate) id: Id,
    /// In the tracer's pid namespace; 0 where it is not visible there.
    pub(crate) pid: u32,
    pub(crate) what: What,
}

/// Names a process for as long as the machine runs: pids are reused, not within one tick of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    /// In the initial pid namespace; in the tracer's own where only /proc told.
    pub(crate) host_pid: u32,
    pub(crate) start_boottime_ns: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Fork {
        parent: u32,
        cgroup_id: u64,
        comm: String,
    },
    Exec {
        comm: String,
        exe: Option<String>,
        argv: Option<Vec<String>>,
        /// `argv` holds only the beginning.
        cut: bool,
        /// The kernel's peak of what came before this program: its parent's pages of a fork among it.
        rss_before_bytes: u64,
    },
    Exit {
        status: ExitStatus,
        peak_threads: u32,
        usage: GroupUsage,
        base: Run,
        /// No [`What::Free`] follows.
        is_final: bool,
        comm: String,
    },
    Free {
        usage: GroupUsage,
        base: Run,
    },
    Migrate {
        to_cgroup_id: u64,
        /// It left the target's cgroup and stays a member.
        leaves: bool,
    },
    MoveIn(Alive),
    MoveOut {
        to_cgroup_id: u64,
        usage: GroupUsage,
        base: Run,
    },
    Oom,
    /// Of the iterator: it lives.
    Alive(Alive),
    /// Of the iterator: a further thread was marked.
    Thread,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    pub(crate) parent: u32,
    pub(crate) cgroup_id: u64,
    pub(crate) comm: String,
    /// What it had used before it came into the set; of running threads as of their last tick.
    pub(crate) base: Run,
    /// As of an exec.
    pub(crate) rss_before_bytes: u64,
}

/// [`Usage`] in the report's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GroupUsage {
    pub(crate) cpu: CpuTime,
    /// As the kernel keeps it.
    pub(crate) run: Run,
    pub(crate) max_rss_bytes: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
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
    let short = unknown(header.kind);
    let what = match header.kind {
        kind::FORK => {
            let r: ForkRecord = read(bytes).ok_or(short)?;
            What::Fork { parent: r.parent_tgid, cgroup_id: r.cgroup_id, comm: text(&r.comm) }
        }
        kind::EXEC => {
            let r: ExecRecord = read(bytes).ok_or(short)?;
            let exe = text(&r.exe);
            let len = usize::try_from(r.argv_len).unwrap_or(usize::MAX);
            let held = len.min(ARGV_LEN);
            What::Exec {
                comm: text(&r.comm),
                exe: (!exe.is_empty()).then_some(exe),
                argv: (held > 0).then(|| arguments(&r.argv[..held])),
                cut: len > held,
                rss_before_bytes: pages_to_bytes(r.maxrss_pages.into(), page_bytes),
            }
        }
        kind::EXIT => {
            let r: ExitRecord = read(bytes).ok_or(short)?;
            What::Exit {
                status: ExitStatus::from_wait_status(r.status),
                peak_threads: r.peak_threads,
                usage: group_usage(&r.usage, page_bytes),
                base: r.base,
                is_final: r.is_final != 0,
                comm: text(&r.comm),
            }
        }
        kind::FREE => {
            let r: UsageRecord = read(bytes).ok_or(short)?;
            What::Free { usage: group_usage(&r.usage, page_bytes), base: r.base }
        }
        kind::MIGRATE => {
            let r: MigrateRecord = read(bytes).ok_or(short)?;
            What::Migrate { to_cgroup_id: r.to_cgroup_id, leaves: r.leaves != 0 }
        }
        kind::MOVE_IN => What::MoveIn(alive(&read(bytes).ok_or(short)?, page_bytes)),
        kind::MOVE_OUT => {
            let r: UsageRecord = read(bytes).ok_or(short)?;
            What::MoveOut {
                to_cgroup_id: r.cgroup_id,
                usage: group_usage(&r.usage, page_bytes),
                base: r.base,
            }
        }
        kind::OOM => {
            let _: OomRecord = read(bytes).ok_or(short)?;
            What::Oom
        }
        kind::TASK => {
            let r: TaskRecord = read(bytes).ok_or(short)?;
            if r.is_leader == 0 { What::Thread } else { What::Alive(alive(&r, page_bytes)) }
        }
        other => return Err(unknown(other)),
    };
    let id = Id { host_pid: header.host_tgid, start_boottime_ns: header.start_boottime_ns };
    Ok(Record { t: Mono(header.t_ns), id, pid: header.tgid, what })
}

fn alive(r: &TaskRecord, page_bytes: u64) -> Alive {
    Alive {
        parent: r.parent_tgid,
        cgroup_id: r.cgroup_id,
        comm: text(&r.comm),
        base: r.base,
        rss_before_bytes: pages_to_bytes(r.maxrss_pages, page_bytes),
    }
}

/// The ring keeps records 8-byte aligned but promises nothing to a slice, so they are copied out.
fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

/// Up to the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|&b| b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

fn group_usage(u: &Usage, page_bytes: u64) -> GroupUsage {
    GroupUsage {
        cpu: cpu_of(u.run),
        run: u.run,
        max_rss_bytes: pages_to_bytes(u.maxrss_pages, page_bytes),
        minor_faults: u.minor_faults,
        major_faults: u.major_faults,
        voluntary_switches: u.voluntary_switches,
        involuntary_switches: u.involuntary_switches,
    }
}

pub(crate) fn cpu_of(run: Run) -> CpuTime {
    cputime_adjust(run.utime_ns, run.stime_ns, run.exec_ns)
}

/// Splits the exact run time by the ratio of the tick-sampled user and system times, as the kernel
/// does for wait4 and /proc (kernel/sched/cputime.c, `cputime_adjust`).
pub(crate) fn cputime_adjust(utime: u64, stime: u64, rtime: u64) -> CpuTime {
    let system = if stime == 0 {
        0
    } else if utime == 0 {
        rtime
    } else {
        let sampled = u128::from(stime) + u128::from(utime);
        // At most `rtime`.
        u64::try_from(u128::from(stime) * u128::from(rtime) / sampled).unwrap_or(rtime)
    };
    CpuTime { user: Nanos(rtime - system), system: Nanos(system) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferscope_common::COMM_LEN;
    use proptest::prelude::*;

    fn fork() -> ForkRecord {
        let mut comm = [0; COMM_LEN];
        comm[..4].copy_from_slice(b"work");
        ForkRecord {
            header: Header {
                kind: kind::FORK,
                tgid: 7,
                host_tgid: 70,
                _pad: 0,
                t_ns: 5,
                start_boottime_ns: 4,
            },
            parent_tgid: 3,
            _pad: 0,
            cgroup_id: 9,
            comm,
        }
    }

    #[test]
    fn a_fork_is_decoded_and_a_cut_one_is_an_error() {
        let record = fork();
        let bytes = bytemuck::bytes_of(&record);
        let decoded = decode(bytes, 4096).unwrap();
        assert_eq!((decoded.pid, decoded.id), (7, Id { host_pid: 70, start_boottime_ns: 4 }));
        assert_eq!(decoded.what, What::Fork { parent: 3, cgroup_id: 9, comm: "work".into() });
        assert!(decode(&bytes[..bytes.len() - 1], 4096).is_err());
    }

    #[test]
    fn user_and_system_add_up_to_the_exact_run_time() {
        let cpu = cputime_adjust(3, 1, 1_000);
        assert_eq!((cpu.user, cpu.system), (Nanos(750), Nanos(250)));
        assert_eq!(cputime_adjust(0, 0, 42).user, Nanos(42));
        assert_eq!(cputime_adjust(0, 5, 42).system, Nanos(42));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes, 4096);
        }

        #[test]
        fn the_split_never_exceeds_the_whole(u: u64, s: u64, r: u64) {
            let cpu = cputime_adjust(u, s, r);
            prop_assert_eq!(u128::from(cpu.user.0) + u128::from(cpu.system.0), u128::from(r));
        }
    }
}
