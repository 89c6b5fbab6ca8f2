//! What the collector's thread may call.
//!
//! Owns the list: it waits for events, computes, and wakes who waits for a snapshot. It opens nothing and reads nothing; it writes to
//! what is open: a wake-up to an eventfd, a panic's message to standard error. Used by `privilege::filter`.

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
    // Who and when.
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_capget,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
];

/// What newer architectures have other calls for.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];
