//! A member lives.

use inferscope_common::event::alive::{AliveRecord, LivingTask};

use super::record::{Alive, Decode, What, text};
use crate::units::pages_to_bytes;

/// The task iterator writes nothing else.
pub(in crate::observe::ebpf) const RECORD_BYTES: usize = size_of::<AliveRecord>();

impl Decode for AliveRecord {
    fn decode(&self, page_bytes: u64) -> What {
        if self.is_leader == 0 { What::Thread } else { What::Alive(alive(&self.task, page_bytes)) }
    }
}

pub(super) fn alive(task: &LivingTask, page_bytes: u64) -> Alive {
    Alive {
        parent: task.parent_tgid,
        cgroup_id: task.cgroup_id,
        comm: text(&task.comm),
        base: task.base,
        rss_before_bytes: pages_to_bytes(task.maxrss_pages, page_bytes),
    }
}
