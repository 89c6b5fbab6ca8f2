//! The records of the ring and of the task iterator: one module an event.
//!
//! Owns what all records have in common. The kernel program's module of the same name writes them, the one in
//! `observe::ebpf::event` decodes them.

pub mod alive;
pub mod cgroup_move;
pub mod exec;
pub mod exit;
pub mod fork;
pub mod free;
pub mod oom;

use bytemuck::{Pod, Zeroable};

use crate::Totals;

/// A record begins with a [`Header`].
pub trait WireRecord: Pod {
    /// The record's first word; no two have the same.
    const KIND: u32;

    /// The counter of such records that found the ring full.
    fn lost(totals: &mut Totals) -> &mut u64;
}

/// The start of each record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    pub kind: u32,
    pub tgid: u32,
    pub host_tgid: u32,
    pub _pad: u32,
    pub t_ns: u64,
    pub start_boottime_ns: u64,
}

const _: () = assert!(size_of::<Header>() == 32);
