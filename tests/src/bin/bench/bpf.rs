//! How long a process's BPF programs ran, by the kernel's own count.
//!
//! Owns switching that count on, for as long as its handle lives: also a killed bench leaves it off, which a written
//! sysctl would not. Called by `tracker.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_ENABLE_STATS: libc::c_long = 32;

/// One program, with what it did since it was loaded.
pub(crate) struct Program {
    id: u32,
    pub(crate) name: String,
    pub(crate) runs: u64,
    pub(crate) ns: u64,
}

/// Counts runs until the handle is dropped, like `sysctl kernel.bpf_stats_enabled=1`.
///
/// # Errors
/// Without CAP_SYS_ADMIN.
pub(crate) fn count_runs() -> io::Result<OwnedFd> {
    // BPF_STATS_RUN_TIME is 0.
    descriptor(BPF_ENABLE_STATS, &mut [0; 2])
}

/// The programs that the process holds, itself or by a link.
///
/// # Panics
/// When it can't be looked at.
pub(crate) fn programs_of(pid: u32) -> Vec<Program> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process lives");
    let infos = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let id_in = |info: String| {
        info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok())
    };
    let ids: BTreeSet<u32> = infos.filter_map(id_in).collect();
    ids.into_iter().map(|id| program(id).unwrap_or_else(|e| panic!("BPF program {id}: {e}"))).collect()
}

/// What each of them did after it was at `before`.
pub(crate) fn since(before: &[Program], after: Vec<Program>) -> Vec<Program> {
    let base = |id| before.iter().find(|p| p.id == id).map_or((0, 0), |p| (p.runs, p.ns));
    let less = |p: Program| {
        let (runs, ns) = base(p.id);
        Program { runs: p.runs - runs, ns: p.ns - ns, ..p }
    };
    after.into_iter().map(less).collect()
}

fn program(id: u32) -> io::Result<Program> {
    let fd = descriptor(BPF_PROG_GET_FD_BY_ID, &mut [u64::from(id), 0])?;
    // struct bpf_prog_info (include/uapi/linux/bpf.h) as far as it is needed, in words of 8 bytes.
    const NAME: usize = 8;
    const RUN_TIME_NS: usize = 24;
    const RUN_CNT: usize = 25;
    let mut info = [0_u64; RUN_CNT + 1];
    let fd_and_length = u64::from(fd.as_raw_fd().unsigned_abs()) | (size_of_val(&info) as u64) << 32;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut [fd_and_length, info.as_mut_ptr() as u64])?;
    let name = [info[NAME].to_ne_bytes(), info[NAME + 1].to_ne_bytes()].concat();
    let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
    Ok(Program { id, name, runs: info[RUN_CNT], ns: info[RUN_TIME_NS] })
}

fn descriptor(command: libc::c_long, attributes: &mut [u64; 2]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it for this process, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2). Attributes are little-endian words, as this program's BPF is.
fn bpf(command: libc::c_long, attributes: &mut [u64; 2]) -> io::Result<i32> {
    // SAFETY: the kernel reads no more than the given size, and writes where `BPF_OBJ_GET_INFO_BY_FD` says: into a
    // buffer of the length beside it, which outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<[u64; 2]>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(done).map_err(io::Error::other) }
}
