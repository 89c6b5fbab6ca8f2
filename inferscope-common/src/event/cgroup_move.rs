//! A process moved to another cgroup of the default (v2) hierarchy.

use bytemuck::{Pod, Zeroable};

use super::alive::LivingTask;
use super::{Header, WireRecord};
use crate::{Run, Totals, Usage};

/// A member moved and stays one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MigrateRecord {
    pub header: Header,
    pub to_cgroup_id: u64,
    /// Not zero: it left the target's cgroup, and stays a member all the same.
    pub leaves: u32,
    pub _pad: u32,
}

/// It came into the target's cgroup, and is a member from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MoveInRecord {
    pub header: Header,
    pub task: LivingTask,
}

/// It left the target's cgroup, and is no member any more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MoveOutRecord {
    pub header: Header,
    pub usage: Usage,
    /// What it had used before it came into the set.
    pub base: Run,
    pub to_cgroup_id: u64,
}

const _: () = {
    assert!(size_of::<MigrateRecord>() == 48);
    assert!(size_of::<MoveInRecord>() == 96);
    assert!(size_of::<MoveOutRecord>() == 128);
};

impl WireRecord for MigrateRecord {
    const KIND: u32 = 5;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_others
    }
}

impl WireRecord for MoveInRecord {
    const KIND: u32 = 6;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_others
    }
}

impl WireRecord for MoveOutRecord {
    const KIND: u32 = 7;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_others
    }
}
