//! Loops that are no loops to the verifier.
//!
//! It would follow a plain loop turn by turn; a callback it looks at once. `bpf_for_each_map_elem` (Linux 5.13) calls
//! one for each entry of a map, and `bpf_loop`, which needs no map, came with 5.17 only. Owns the map that lends its
//! entries to loops over something else. Never writes to it.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_for_each_map_elem, macros::map, maps::Array};

/// What a callback returns.
pub(crate) const GO_ON: i64 = 0;
pub(crate) const STOP: i64 = 1;

/// Takes the map, an entry's index, the entry and what was handed over.
pub(crate) type Callback<V, C> = extern "C" fn(*const c_void, *const u32, *mut V, *mut C) -> i64;

/// As many entries as a loop has turns at most: `pid_max` unless it was raised, so more threads than a group has.
/// 256 KiB, as the kernel gives each entry 8 bytes.
#[map]
static TURNS: Array<u32> = Array::with_max_entries(32_768, 0);

/// Calls `callback` until it returns [`STOP`].
#[inline(always)]
pub(crate) fn turns<C>(callback: Callback<u32, C>, context: &mut C) {
    over(&TURNS, callback, context);
}

/// Calls `callback` for each entry of `map`, until it returns [`STOP`].
#[inline(always)]
pub(crate) fn over<V, C>(map: &'static Array<V>, callback: Callback<V, C>, context: &mut C) {
    // SAFETY: the callback takes what is handed over here, which outlives the call.
    unsafe {
        bpf_for_each_map_elem(
            (&raw const *map).cast_mut().cast(),
            callback as *mut c_void,
            (&raw mut *context).cast(),
            0,
        )
    };
}
