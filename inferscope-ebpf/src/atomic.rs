//! Read-modify-write in one instruction.
//!
//! From Linux 7.0 on a program can be preempted, and another one runs on the same CPU meanwhile; so does one on another
//! CPU at any time. Owns the instructions (the kernel's since 5.12): `core` has none for this target.

use core::arch::asm;

/// Wraps around.
#[inline(always)]
pub(crate) fn add(to: &mut u64, more: u64) {
    let to = &raw mut *to;
    // SAFETY: a valid address, as it comes from a reference.
    unsafe {
        asm!("lock *(u64 *)({to} + 0) += {more}", to = in(reg) to, more = in(reg) more, options(nostack))
    };
}

/// Stores `new` and returns what was there.
#[inline(always)]
pub(crate) fn swap(at: &mut u64, new: u64) -> u64 {
    let at = &raw mut *at;
    let mut value = new;
    // SAFETY: as in `add`.
    unsafe {
        asm!("{value} = xchg_64({at} + 0, {value})", at = in(reg) at, value = inout(reg) value, options(nostack));
    };
    value
}

/// Stores `new` where `old` was; whether it was.
#[inline(always)]
pub(crate) fn replace(at: &mut u64, old: u64, new: u64) -> bool {
    let at = &raw mut *at;
    let mut found = old;
    // SAFETY: as in `add`.
    unsafe {
        asm!("r0 = cmpxchg_64({at} + 0, r0, {new})", at = in(reg) at, new = in(reg) new, inout("r0") found, options(nostack));
    };
    found == old
}
