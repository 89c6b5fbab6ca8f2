//! Records of what lives: written by the task iterator, and at a fork that comes before it.

use inferscope_common::{
    Run,
    event::alive::{AliveRecord, LivingTask},
};

use crate::{emit, task::Task};

/// The record of a group, or of a further thread of it.
#[inline(always)]
pub(crate) fn record(leader: Task, tgid: u32, is_leader: bool, task: LivingTask) -> AliveRecord {
    AliveRecord {
        header: emit::header::<AliveRecord>(leader, tgid),
        is_leader: u32::from(is_leader),
        _pad: 0,
        task,
    }
}

/// `base` is what the group had used before it came into the set.
#[inline(always)]
pub(crate) fn living(leader: Task, parent_tgid: u32, base: Run, cgroup_id: u64) -> LivingTask {
    LivingTask {
        parent_tgid,
        _pad: 0,
        cgroup_id,
        base,
        maxrss_pages: leader.signal().maxrss(),
        comm: leader.comm(),
    }
}
