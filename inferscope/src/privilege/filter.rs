//! Seccomp filters: the system calls that a thread may still make.
//!
//! Owns the making of a filter and its installation; each list is a module of its own. The load's thread, which parses
//! what a server sends, and the collector's, which only computes, may make the calls on their lists. Any other call
//! fails with ENOSYS, as on an older kernel, so that a library that tries something new does not end the run. The
//! observer's thread may make any call but those on its list, which fail with EPERM. A thread inherits the filter of
//! its creator.

mod collector;
mod load;
mod observer;

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Load,
    Observer,
    Collector,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The bit of the x32 ABI in a system call's number on x86_64. No list names such a call.
const X32: u32 = 0x4000_0000;
/// Requests that put text into a terminal's input, or change its line discipline.
const TERMINAL: [u64; 3] = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD];

impl Filter {
    /// Installs the filter on this thread, for good. Needs `no_new_privs`.
    pub(super) fn install(self) -> Result<(), String> {
        let program = self.program().map_err(|e| format!("no filter can be made for this machine: {e}"))?;
        install(&program).map_err(|e| format!("the kernel takes no seccomp filter: {e}"))
    }

    fn program(self) -> Result<BpfProgram, Box<dyn std::error::Error>> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let errno = |errno: libc::c_int| SeccompAction::Errno(errno.unsigned_abs());
        let only = |rules| SeccompFilter::new(rules, errno(libc::ENOSYS), SeccompAction::Allow, arch);
        let filter = match self {
            Self::Load => only(load::allowed()?)?,
            Self::Collector => only(collector::allowed()?)?,
            Self::Observer => {
                SeccompFilter::new(observer::refused()?, SeccompAction::Allow, errno(libc::EPERM), arch)?
            }
        };
        let program: BpfProgram = filter.try_into()?;
        Ok(preceded(program))
    }
}

/// Puts two answers of ENOSYS before all others: to clone3, whose flags lie behind a pointer, so that glibc uses clone;
/// and to calls of another ABI.
fn preceded(program: BpfProgram) -> BpfProgram {
    let word = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let answer =
        word(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs());
    let mut whole = vec![
        // The number is the first word of `seccomp_data`.
        word(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        word(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_clone3 as u32),
        answer.clone(),
    ];
    if cfg!(target_arch = "x86_64") {
        whole.extend([word(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32), answer]);
    }
    whole.extend(program);
    whole
}

/// Filters that answer with an error are available (Linux 4.14 and later can be asked).
pub(super) fn available() -> Result<(), String> {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the pointer is to a live number, which the call reads.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error().to_string()) }
}

fn install(program: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let set = |flags: libc::c_ulong| {
        // SAFETY: `program` and its instructions are alive and have the layout of include/uapi/linux/filter.h. The
        // kernel copies them.
        let answer = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // Before Linux 5.16 a filter slows its thread down (speculative store bypass) unless that is waived, which 4.17
    // allows.
    set(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).or_else(|_| set(0))
}

fn when(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions)
}

/// A condition on the low half of an argument, which the kernel takes for an `int`.
fn argument(
    index: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

fn bits(
    index: u8,
    mask: libc::c_int,
    value: libc::c_int,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    argument(index, SeccompCmpOp::MaskedEq(u64::from(mask.unsigned_abs())), u64::from(value.unsigned_abs()))
}

/// The options of prctl(2) that any thread uses.
fn naming() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let options = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_GET_NO_NEW_PRIVS, PR_SET_VMA];
    let is =
        |option: &libc::c_int| when(vec![argument(0, SeccompCmpOp::Eq, u64::from(option.unsigned_abs()))?]);
    options.iter().map(is).collect()
}

/// A signal to this process (abort).
fn to_own_process(index: u8, is: SeccompCmpOp) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    Ok(vec![when(vec![argument(index, is, u64::from(std::process::id()))?])?])
}

/// glibc names the memory of its allocator.
const PR_SET_VMA: libc::c_int = 0x5356_4d41;
