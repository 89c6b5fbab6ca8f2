//! The BPF objects that the kernel has, and who holds them.
//!
//! Owns the raw bpf(2) calls that enumerate them, as root, and one object to see that they do. Called by the
//! tests that ask what a tracer leaves behind.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Program,
    Map,
    Btf,
    Link,
}

/// An object by its kind and id. Ids are given out in turn and not again.
pub type Object = (Kind, u32);

/// Kinds, with their `BPF_*_GET_NEXT_ID` command and the line of fdinfo that tells their id.
const KINDS: [(Kind, u32, &str); 4] = [
    (Kind::Program, 11, "prog_id"),
    (Kind::Map, 12, "map_id"),
    (Kind::Btf, 23, "btf_id"),
    (Kind::Link, 31, "link_id"),
];
const MAP_CREATE: u32 = 0;
const OBJ_PIN: u32 = 6;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;

/// Every object that the kernel has now.
///
/// # Panics
/// Without the privilege to ask (CAP_SYS_ADMIN).
#[must_use]
pub fn all() -> BTreeSet<Object> {
    let mut all = BTreeSet::new();
    for (kind, next_id, _) in KINDS {
        let mut id = 0;
        loop {
            // `start_id`, `next_id`, `open_flags` of union bpf_attr.
            let mut attr = [id, 0, 0];
            match bpf(next_id, &mut attr) {
                Ok(_) => id = attr[1],
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => break,
                Err(e) => panic!("{kind:?} can't be enumerated: {e}"),
            }
            all.insert((kind, id));
        }
    }
    all
}

/// What a process holds through its descriptors, and what that holds in turn.
#[must_use]
pub fn held_by(pid: u32) -> BTreeSet<Object> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
        // It may be closed, or the process gone, in the meantime.
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        for line in info.lines() {
            let Some((name, id)) = line.split_once(':') else { continue };
            let kind = KINDS.iter().find(|(_, _, told)| *told == name).map(|(kind, ..)| *kind);
            held.extend(kind.zip(id.trim().parse().ok()));
        }
    }
    let programs: Vec<u32> =
        held.iter().filter(|(kind, _)| *kind == Kind::Program).map(|(_, id)| *id).collect();
    for program in programs {
        held.extend(held_by_program(program));
    }
    held
}

/// Objects that no living process holds: pinned, or forgotten.
#[must_use]
pub fn orphans() -> BTreeSet<Object> {
    // Before the processes are looked at, as one may load something at any time.
    let mut left = all();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        for object in held_by(pid) {
            left.remove(&object);
        }
    }
    left
}

/// Everything pinned in any mounted BPF file system.
#[must_use]
pub fn pinned() -> BTreeSet<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next() == Some("bpf")).then(|| PathBuf::from(point))
    });
    let mut todo: Vec<PathBuf> = points.collect();
    let mut found = BTreeSet::new();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            found.insert(entry.path());
            if entry.path().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Makes a map that nobody holds and that lives as long as the BPF file system it is pinned in.
///
/// # Errors
/// `path` is not in one, or the privilege is missing.
pub fn pin_new_map(path: &Path) -> io::Result<()> {
    // `map_type` (BPF_MAP_TYPE_ARRAY), `key_size`, `value_size`, `max_entries` of union bpf_attr.
    let fd = bpf(MAP_CREATE, &mut [2, 4, 4, 1])?;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let [low, high] = halves(path.as_ptr() as u64);
    // `pathname`, `bpf_fd`, `file_flags`.
    let pinned = bpf(OBJ_PIN, &mut [low, high, fd as u32, 0]);
    // SAFETY: the kernel made this descriptor for us, and nothing else has it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    pinned.map(drop)
}

/// Maps and BTF of a program; of one that is gone, nothing.
fn held_by_program(id: u32) -> Vec<Object> {
    let Ok(fd) = bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0]) else { return Vec::new() };
    let mut maps = [0_u32; 64];
    // The head of struct bpf_prog_info, in words: at 13 `nr_map_ids`, at 14 and 15 the address of `map_ids`,
    // at 32 `btf_id`.
    let mut info = [0_u32; 34];
    info[13] = maps.len() as u32;
    [info[14], info[15]] = halves(maps.as_mut_ptr() as u64);
    let [low, high] = halves(info.as_mut_ptr() as u64);
    let bytes = size_of_val(&info) as u32;
    // `bpf_fd`, `info_len`, `info` of union bpf_attr.
    let mut attr = [fd as u32, bytes, low, high];
    let told = bpf(OBJ_GET_INFO_BY_FD, &mut attr);
    // SAFETY: the kernel made this descriptor for us, and nothing else has it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    if told.is_err() {
        return Vec::new();
    }
    let count = (info[13] as usize).min(maps.len());
    let btf = (info[32] != 0).then_some((Kind::Btf, info[32]));
    maps[..count].iter().map(|&id| (Kind::Map, id)).chain(btf).collect()
}

/// As the words of a little-endian or big-endian machine.
fn halves(address: u64) -> [u32; 2] {
    let bytes = address.to_ne_bytes();
    [0, 4].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

fn bpf<const N: usize>(command: u32, attr: &mut [u32; N]) -> io::Result<i32> {
    // SAFETY: `attr` has the size that is told, and the commands used write to nothing but it and the buffers
    // that it names, which are alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
