//! bpf(2): the calls that load a program and attach it.
//!
//! Owns the arguments' layout (include/uapi/linux/bpf.h, `union bpf_attr`) up to the last field that is set here;
//! the kernel takes what is beyond for zero. Decides nothing and keeps nothing. Used by `loader` and the tracker.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_prog_info, bpf_prog_type};
use bytemuck::NoUninit;

/// A program to load.
pub(crate) struct Program<'a> {
    /// Eight bytes each.
    pub(crate) instructions: &'a [aya_obj::generated::bpf_insn],
    pub(crate) license: &'a std::ffi::CStr,
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) btf: BorrowedFd<'a>,
    /// `struct bpf_func_info` each.
    pub(crate) func_info: &'a [[u32; 2]],
}

/// What runs a program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// What has that id in the kernel's BTF.
    Tracing { attach_type: bpf_attach_type, btf_id: u32 },
    /// [`run`]: it is attached to nothing.
    OnDemand,
}

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    _pad: u32,
}
const _: () = assert!(size_of::<BtfLoad>() == 32);

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: RawFd,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}
const _: () = assert!(std::mem::offset_of!(ProgLoad, func_info) == 80);
const _: () = assert!(size_of::<ProgLoad>() == 112);

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct MapUpdate {
    map_fd: RawFd,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}
const _: () = assert!(size_of::<MapUpdate>() == 32);

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: RawFd,
    _pad: u32,
}

/// Up to `batch_size`.
#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct TestRun {
    prog_fd: RawFd,
    zero: [u32; 18],
}

const _: () = assert!(size_of::<TestRun>() == 76);

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct ObjectInfo {
    fd: RawFd,
    info_len: u32,
    info: u64,
}

const _: () = assert!(std::mem::offset_of!(bpf_prog_info, recursion_misses).is_multiple_of(8));

#[repr(C)]
#[derive(Clone, Copy, NoUninit)]
struct LinkCreate {
    prog_fd: RawFd,
    target_fd: RawFd,
    attach_type: u32,
    flags: u32,
}

/// Hands the kernel the types of a program's object.
pub(crate) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let attr =
        BtfLoad { btf: address(btf), log_buf: 0, btf_size: len(btf)?, log_size: 0, log_level: 0, _pad: 0 };
    // SAFETY: the bytes and their length are of one slice.
    unsafe { open(bpf_cmd::BPF_BTF_LOAD, &attr) }
}

/// Has the kernel verify a program. What it thinks of a bad one is written to `log`, as text; an empty one costs
/// nothing.
pub(crate) fn load_program(program: &Program<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut prog_name = [0; 16];
    // The last byte stays zero.
    for (to, from) in prog_name[..15].iter_mut().zip(program.name.bytes()) {
        *to = from;
    }
    let (prog_type, expected_attach_type, attach_btf_id) = match program.kind {
        Kind::Tracing { attach_type, btf_id } => {
            (bpf_prog_type::BPF_PROG_TYPE_TRACING as u32, attach_type as u32, btf_id)
        }
        Kind::OnDemand => (bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32, 0, 0),
    };
    let attr = ProgLoad {
        prog_type,
        insn_cnt: len(program.instructions)?,
        insns: address(program.instructions),
        license: program.license.as_ptr().addr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: len(log)?,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr().addr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name,
        prog_ifindex: 0,
        expected_attach_type,
        prog_btf_fd: program.btf.as_raw_fd(),
        func_info_rec_size: size_of::<[u32; 2]>() as u32,
        func_info: address(program.func_info),
        func_info_cnt: len(program.func_info)?,
        // They would only put source lines into the log.
        line_info_rec_size: 0,
        line_info: 0,
        line_info_cnt: 0,
        attach_btf_id,
    };
    // SAFETY: each address is of a live slice and goes with its length; the log is writable; the licence ends
    // in a zero.
    unsafe { open(bpf_cmd::BPF_PROG_LOAD, &attr) }
}

/// Fills the one entry of an array map.
pub(crate) fn fill(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let key = 0_u32;
    let attr = MapUpdate {
        map_fd: map.as_raw_fd(),
        _pad: 0,
        key: (&raw const key).addr() as u64,
        value: address(value),
        flags: 0,
    };
    // SAFETY: the map was made from the very description that `value` comes from, so its entry has that size.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &attr) }.map(drop)
}

/// Makes a map constant for user space, so that the verifier knows its contents.
pub(crate) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no address is handed over.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &map.as_raw_fd()) }.map(drop)
}

/// Attaches to the tracepoint that the program was loaded for; it ends with the descriptor.
pub(crate) fn attach_tracepoint(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attr = RawTracepointOpen { name: 0, prog_fd: program.as_raw_fd(), _pad: 0 };
    // SAFETY: no address is handed over; the name is the program's own.
    unsafe { open(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &attr) }
}

/// Runs a program of [`Kind::OnDemand`], here and now, without the CPU being taken from it.
pub(crate) fn run(program: BorrowedFd<'_>) -> io::Result<()> {
    // No data and no context.
    let mut attr = TestRun { prog_fd: program.as_raw_fd(), zero: [0; 18] };
    // SAFETY: no address is handed over, and what the program returned may be written to it.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_PROG_TEST_RUN as libc::c_long,
            &raw mut attr,
            size_of::<TestRun>(),
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many runs of a program the kernel skipped, as it was running on that CPU already (Linux 5.12 and later).
pub(crate) fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    const AT: usize = std::mem::offset_of!(bpf_prog_info, recursion_misses) / 8;
    // Up to this field.
    info::<{ AT + 1 }>(program).map(|info| info[AT])
}

/// By which the kernel finds it.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    const { assert!(std::mem::offset_of!(bpf_prog_info, id) == 4) };
    info::<1>(program).map(|info| bytemuck::cast::<_, [u32; 2]>(info[0])[1])
}

/// The first words of a `bpf_prog_info`. Asked for nothing else, the kernel follows no address in it.
fn info<const WORDS: usize>(program: BorrowedFd<'_>) -> io::Result<[u64; WORDS]> {
    let mut info = [0_u64; WORDS];
    let mut attr = ObjectInfo {
        fd: program.as_raw_fd(),
        info_len: size_of_val(&info) as u32,
        info: info.as_mut_ptr().addr() as u64,
    };
    // SAFETY: `info` is writable and of that length; how much of it the kernel filled is written to `attr`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as libc::c_long,
            &raw mut attr,
            size_of::<ObjectInfo>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // An older kernel's is shorter.
    if (attr.info_len as usize) < size_of_val(&info) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(info)
}

/// One run of an iterator: reading the file runs the program.
pub(crate) fn iterate(program: BorrowedFd<'_>) -> io::Result<File> {
    let attr = LinkCreate {
        prog_fd: program.as_raw_fd(),
        target_fd: 0,
        attach_type: bpf_attach_type::BPF_TRACE_ITER as u32,
        flags: 0,
    };
    // SAFETY: no address is handed over.
    let link = unsafe { open(bpf_cmd::BPF_LINK_CREATE, &attr) }?;
    // SAFETY: as above; the second field is the flags.
    unsafe { open(bpf_cmd::BPF_ITER_CREATE, &[link.as_raw_fd(), 0]) }.map(File::from)
}

/// # Safety
/// As [`bpf`], of a command that answers with a new descriptor.
unsafe fn open<A: NoUninit>(command: bpf_cmd, attr: &A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: a new descriptor, owned by nobody yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attr` is what the command takes, and every address in it is valid for what the command does with it.
unsafe fn bpf<A: NoUninit>(command: bpf_cmd, attr: &A) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the kernel reads `attr` and, in a struct of this length, does not write to it.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw const *attr, size_of::<A>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr().addr() as u64
}

fn len<T>(slice: &[T]) -> io::Result<u32> {
    u32::try_from(slice.len()).map_err(io::Error::other)
}
