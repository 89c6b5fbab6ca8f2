//! The system calls that the collector's thread may make.
//!
//! Owns the list: the thread waits for events, computes, and wakes those that wait for a snapshot. It opens nothing and
//! reads nothing. It writes to open descriptors: a wake-up to an eventfd, a panic's message to standard error. Used by
//! `filter`.

use seccompiler::SeccompCmpOp;

use super::{Rules, naming, to_own_process};

pub(super) fn allowed() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_prctl, naming()?);
    rules.insert(libc::SYS_tgkill, to_own_process(0, SeccompCmpOp::Eq)?);
    Ok(rules)
}

const ALLOWED: &[libc::c_long] = &[
    libc::SYS_write,
    // Waiting.
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_ppoll,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // A thread's life.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Identity and time.
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_capget,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
];

/// Older calls, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];
