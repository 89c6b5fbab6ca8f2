//! The kernel program: keeps the tracked set and reports to user space what happens to it.
//!
//! Owns membership (a mark in each member task's own storage), the events of members and their
//! counters. A child is marked in the tracepoint that fires before it first runs, so no descendant
//! can escape; whoever reparents it later does not matter. Never filters by name, never follows
//! anything outside the set. Loaded by `inferscope::observe::ebpf`; `inferscope-common` has the layouts.
//!
//! Field offsets come from the running kernel's BTF (`LAYOUT`), since Rust has no CO-RE. Loads go
//! through the verifier's typed pointers at those constant offsets.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod emit;
mod event;
mod looped;
mod mark;
mod members;
mod on_cpu;
mod snapshot;
mod task;
mod usage;

use inferscope_common::{Layout, MAX_ROOTS, Settings};

/// Patched before loading.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout::PLACEHOLDER;
/// Patched before loading.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    roots: [0; MAX_ROOTS],
    cgroup_id: 0,
    strict: 0,
    wake_at_bytes: 0,
    exit_has_group_dead: 0,
    cpus: 0,
};

/// The kernel refuses tracing helpers to programs under another licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
