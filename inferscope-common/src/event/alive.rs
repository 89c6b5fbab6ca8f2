//! A member lives: from the task iterator, or because a child of it was born before the iterator came to it.

use bytemuck::{Pod, Zeroable};

use super::{Header, WireRecord};
use crate::{COMM_LEN, Run, Totals};

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct AliveRecord {
    pub header: Header,
    /// Zero for a further thread of a group, which the iterator marked too.
    pub is_leader: u32,
    pub _pad: u32,
    pub task: LivingTask,
}

/// A process that lived before it came into the set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct LivingTask {
    pub parent_tgid: u32,
    pub _pad: u32,
    pub cgroup_id: u64,
    /// What it had used before it came into the set.
    pub base: Run,
    /// As of an exec: what came before its present program.
    pub maxrss_pages: u64,
    pub comm: [u8; COMM_LEN],
}

const _: () = {
    assert!(size_of::<LivingTask>() == 64);
    assert!(size_of::<AliveRecord>() == 104);
};

impl WireRecord for AliveRecord {
    const KIND: u32 = 9;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_others
    }
}
